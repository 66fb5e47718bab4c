"""`distill-router demo --learn`: a difficulty policy from the demo's own pairs, beside a random split of the same cost.

The estimator sees the comparisons of the route `auto`. It then decides fresh requests on the route `learned`, where
every request is answered by both models, so that what any split would have cost and lost is known too.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
from rich.console import Console
from rich.table import Table

from policies.judge.against_split import AgainstSplit, against_split
from router.cli.demo_traffic import ROUTE, send_all
from router.cli.policy_store import run_train
from router.errors import ConfigError
from router.evidence.read import Evidence
from router.evidence.records import PairRecord
from router.ledger.pricing import NANO_PER_USD
from router.settings import load
from router.trained.train import TrainingRefused
from serving.demo.tasks import workload

LEARNED = "learned"
FRESH_SHARE = 2 / 3  # of the requests before
FRESH_SEED = 8
WAIT_S = 30.0
TASK = "reverse"
"""A task that the student can do for short words only: what separates its requests is not which task they are."""


@dataclass(frozen=True, slots=True)
class Learned:
    """`pairs`: what the estimator was trained on, its `version`, and how it did on all traffic and inside `TASK`."""

    pairs: int
    version: str
    everything: AgainstSplit
    inside_task: AgainstSplit

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "task": TASK}


def learned_route() -> dict[str, Any]:
    """The route whose requests the trained estimator decides, each of them compared."""
    return {
        "teacher": "teacher",
        "student": "student",
        "policy": {"kind": "difficulty", "threshold": 0.25, "trained": f"{ROUTE}:difficulty"},
        "audit": {"rate": 1.0, "second_draw": 0.0, "confirm": 0.0, "comparator": "exact", "max_in_flight": 10_000},
    }


def learn(console: Console, config_path: Path, port: int, requests: int) -> Learned:
    """Train on what the demo compared in so many requests, promote, and try it on fresh ones.

    Raises ConfigError, also where there were too few.
    """
    console.print("\nTraining on the comparisons so far, and trying the result on fresh requests …")
    trained = json.loads(_train(config_path))
    _wait_for(port, trained["version"])
    sent = asyncio.run(
        send_all(
            console,
            f"http://127.0.0.1:{port}",
            workload(max(1, round(requests * FRESH_SHARE)), FRESH_SEED),
            route=LEARNED,
        )
    )
    pairs = _pairs(config_path, sum(request.answered for request in sent))
    inside = [pair for pair in pairs if _prompt(pair).startswith(f"{TASK} ")]
    return Learned(trained["data"]["pairs"], trained["version"], _against(pairs), _against(inside))


def show(console: Console, learned: Learned) -> None:
    """The table. Losses are shares of the requests; money in micro-dollars a request."""
    title = f"Difficulty, trained on {learned.pairs:,} comparisons, beside a split of the same cost"
    table = Table(show_header=False, title=title, title_justify="left")
    for name, found in (("all", learned.everything), (f"inside '{TASK}'", learned.inside_task)):
        gain = f"{found.gain:.1%} (95%: {found.interval.low:.1%} to {found.interval.high:.1%})"
        table.add_row(f"{name}: fresh requests", f"{found.requests:,}, {found.student_share:.1%} by the student")
        table.add_row("cost of a request", f"{found.cost_usd * 1e6:,.1f} µ$, as of a split of {found.split_share:.1%}")
        table.add_row("loss, and the split's", f"{found.loss:.1%}, {found.split_loss:.1%}")
        table.add_row("gain over the split", gain, end_section=True)
    console.print(table)


def _train(config_path: Path) -> str:
    try:
        return run_train(
            config_path,
            sources=["redis"],
            route=ROUTE,
            kind="difficulty",
            since="1d",
            out=None,
            promote=True,
            report_path=None,
            seed=0,
            as_json=True,
        )
    except TrainingRefused as error:
        raise ConfigError(f"{error}; send more --requests") from error


def _against(pairs: Sequence[PairRecord]) -> AgainstSplit:
    return against_split(
        np.array([float(pair.verdict.harm) for pair in pairs]),
        np.array([pair.served == "student" for pair in pairs]),
        np.array([pair.teacher.cost_nano_usd / NANO_PER_USD for pair in pairs]),
        np.array([pair.student.cost_nano_usd / NANO_PER_USD for pair in pairs]),
    )


def _wait_for(port: int, version: str) -> None:
    """Until the gateway decides by it."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            if f'version="{version}"}} 1' in answer.read().decode():
                return
        time.sleep(0.1)
    raise ConfigError(f"the gateway does not take up the trained version {version}")


def _pairs(config_path: Path, answered: int) -> list[PairRecord]:
    """The comparisons of the fresh requests, once they are in, or after `WAIT_S`; requests with tools have none."""
    evidence = Evidence(load(config_path))
    deadline, found = time.monotonic() + WAIT_S, -1
    while True:
        pairs = [pair for pair in evidence.pairs() if pair.route == LEARNED and pair.teacher.error is None]
        if len(pairs) == found or len(pairs) >= answered or time.monotonic() > deadline:
            return pairs
        found = len(pairs)
        time.sleep(1)


def _prompt(pair: PairRecord) -> str:
    return str(pair.request["messages"][-1]["content"])
