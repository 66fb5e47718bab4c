"""Calibrates the demo's cascade: P(the student's answer differs from the teacher's) by its mean log-probability.

    distill-router embedded --model teacher --port 9101 &
    distill-router embedded --model student --port 9102 &
    python -m serving.demo.calibrate

Asks both on prompts of the training split, which the demo's workload never sends, and writes `calibration.json`: the
points of the `calibration` key of a cascade.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any
from urllib.request import Request, urlopen

from policies.calibration import fit
from serving.demo.tasks import TASKS, Example, Split

OUT = Path(__file__).resolve().parent / "calibration.json"
WITHOUT_TOOLS = [task for task in TASKS.values() if task.name != "tool_call"]
AT_ONCE = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="http://127.0.0.1:9101/v1")
    parser.add_argument("--student", default="http://127.0.0.1:9102/v1")
    parser.add_argument("--prompts", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    rng = Random(options.seed)
    examples = [rng.choice(WITHOUT_TOOLS).example(rng, Split.TRAIN) for _ in range(options.prompts)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        teacher = list(pool.map(lambda example: _ask(options.teacher, "teacher", example), examples))
        student = list(pool.map(lambda example: _ask(options.student, "student", example), examples))
    wrong = [mine != right for (mine, _), (right, _) in zip(student, teacher, strict=True)]
    curve = fit([score for _, score in student], wrong)
    points = _corners([[round(s, 8), round(p, 5)] for s, p in zip(curve.scores, curve.wrong, strict=True)])
    OUT.write_text(json.dumps(points) + "\n")
    print(f"{len(points)} points from {len(examples)} prompts, {sum(wrong) / len(wrong):.1%} of them wrong: {OUT.name}")


def _corners(points: list[list[float]]) -> list[list[float]]:
    """The curve without the points inside its flat stretches."""
    inside = {i for i in range(1, len(points) - 1) if points[i - 1][1] == points[i][1] == points[i + 1][1]}
    return [point for i, point in enumerate(points) if i not in inside]


def _ask(base_url: str, model: str, example: Example) -> tuple[str, float]:
    """The greedy answer and its mean token log-probability (nats)."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": example.prompt}],
        "temperature": 0,
        "logprobs": True,
    }
    request = Request(f"{base_url}/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"})
    with urlopen(request, timeout=60) as answer:
        choice: dict[str, Any] = json.load(answer)["choices"][0]
    logprobs = [token["logprob"] for token in choice["logprobs"]["content"]]
    return choice["message"]["content"], sum(logprobs) / len(logprobs)


if __name__ == "__main__":
    main()
