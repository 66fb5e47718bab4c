"""What further answers of the student tell a cascade's gate: ranking and calibration, on the demo's student.

    python -m bench.agreement [--prompts 2000] [--seed 1]

The student answers prompts of the demo's tasks greedily, with log-probabilities, and four times more at the gate's own
temperature. The calibration is fitted on the training split; every figure is of the held-out split. `p` is the
calibrated P(wrong) of the log-probabilities alone; with agreement it is `policies.gate.agreement.with_agreement`, for
several weights m of the prior (the gate's own is marked). AUC: the chance that a wrong answer has a larger loss than a
right one. Brier: the mean squared distance of the loss from what happened. Tokens: of further answers, as a share of
the first ones'. A student of 1.2 million parameters on tasks with one right answer: no more than an example.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
from rich.console import Console
from rich.table import Table

from policies.calibration import Calibration, Floats, fit
from policies.gate import agreement
from policies.learn.calibrate import auc, brier
from serving.demo.tasks import TASKS, Example, Split
from tests.support.server_process import HOST, ServerProcess, free_port

SAMPLES = 4
WEIGHTS = (0.0, 1.0, 2.0, 4.0, 8.0)
MAX_TOKENS = 60
AT_ONCE = 8


@dataclass(frozen=True)
class Answered:
    """One prompt: whether the greedy answer was wrong, its score, and which further answers said the same."""

    wrong: bool
    mean_logprob: float
    same: tuple[bool, ...]
    tokens: int
    further_tokens: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=2000, help="of each split")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        program = f"from serving.embedded.server import run; run('student', {HOST!r}, {port}, log_level='warning')"
        with ServerProcess([sys.executable, "-c", program], "student", port, Path(folder) / "log") as server:
            server.wait_ready(60)
            fitted, judged = (
                _answers(server.base_url, split, options.prompts, options.seed)
                for split in (Split.TRAIN, Split.HELD_OUT)
            )
    curve = fit([each.mean_logprob for each in fitted], [each.wrong for each in fitted])
    Console().print(_table(judged, curve))


def _answers(base_url: str, split: Split, count: int, seed: int) -> list[Answered]:
    rng = Random(f"{seed} {split.name}")
    tasks = [task for task in TASKS.values() if task.name != "tool_call"]
    examples = [rng.choice(tasks).example(rng, split) for _ in range(count)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda example: _answered(base_url, example), examples))


def _answered(base_url: str, example: Example) -> Answered:
    first = _ask(base_url, example.prompt, temperature=0, logprobs=True)
    further = _ask(base_url, example.prompt, temperature=agreement.OWN_TEMPERATURE, n=SAMPLES)
    (choice,) = first["choices"]
    text = choice["message"]["content"]
    logprobs = [token["logprob"] for token in choice["logprobs"]["content"]]
    return Answered(
        text != example.answer,
        sum(logprobs) / len(logprobs),
        tuple(other["message"]["content"] == text for other in further["choices"]),
        first["usage"]["completion_tokens"],
        further["usage"]["completion_tokens"],
    )


def _ask(base_url: str, prompt: str, **more: Any) -> dict[str, Any]:
    body = {"model": "student", "messages": [{"role": "user", "content": prompt}], "max_tokens": MAX_TOKENS, **more}
    headers = {"content-type": "application/json"}
    with urlopen(Request(f"{base_url}/chat/completions", json.dumps(body).encode(), headers), timeout=300) as answer:
        decoded: dict[str, Any] = json.load(answer)
        return decoded


def _table(judged: Sequence[Answered], curve: Calibration) -> Table:
    wrong = np.array([each.wrong for each in judged], dtype=np.float64)
    p_wrong = np.array([curve.p_wrong(each.mean_logprob) for each in judged])
    table = Table(title=f"{len(judged)} held-out prompts, {wrong.mean():.1%} answered wrongly")
    for name in ("further answers", "m", "AUC", "Brier", "tokens"):
        table.add_column(name, justify="right")
    table.add_row("none", "", *_figures(p_wrong, wrong), "0%")
    for samples in range(1, SAMPLES + 1):
        tokens = sum(each.further_tokens for each in judged) * samples / SAMPLES / sum(each.tokens for each in judged)
        for weight in WEIGHTS:
            loss = np.array([_loss(p, each.same[:samples], weight) for p, each in zip(p_wrong, judged, strict=True)])
            mark = " *" if weight == agreement.PRIOR_SAMPLES else ""
            table.add_row(str(samples), f"{weight:g}{mark}", *_figures(loss, wrong), f"{tokens:.0%}")
    return table


def _loss(p_wrong: float, same: Sequence[bool], weight: float) -> float:
    share = sum(same) / len(same)
    return agreement.with_agreement(p_wrong, share, len(same), prior_samples=weight)


def _figures(loss: Floats, wrong: Floats) -> list[str]:
    alike = np.ones(len(wrong))
    return [f"{auc(loss, wrong, alike):.4f}", f"{brier(loss, wrong, alike):.4f}"]


if __name__ == "__main__":
    main()
