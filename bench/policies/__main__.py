"""What a decision costs, and how well the difficulty estimator ranks requests beside a plain baseline.

    python bench/policies [FILE…] [--seeds 20] [--folds 5] [--policy difficulty|cascade] [--json OUT]

Latency: CPU time of one decision (features and score) by an estimator trained on made-up requests of the lengths that
it is then asked about; median and 99th percentile over `--decisions` different requests, after as many to warm up.

Ranking: FILEs are tables as `distill-router policy evaluate` reads them. Every row is ranked by a policy trained on
the other folds; the figures are the mean APGR over seeds, its spread over them, and the paired 95% bootstrap interval
(over rows; the fits stay) of the gain over each baseline (`baselines.py`). `hashed` is the fixed reference: two
logistic heads on hashed word 1-2-grams and nine numbers of the prompt. `structured` has the product's own structure
of the prompt instead. Both: one fixed penalty, no identity, no steps.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from baselines import BASELINES

from policies.judge.evaluate import Plan, out_of_fold
from policies.judge.metrics import apgr, paired_apgr
from policies.judge.rows import Wanted
from policies.judge.tables import read_table
from policies.judge.trainers import TRAINERS, Rank
from policies.learn.example import Example
from policies.learn.rows import Floats
from policies.learn.trained import Trained
from policies.learn.trainers import Progress, train
from policies.query import Query

LENGTHS = (200, 1_000, 4_000, 16_000)
COMMON = (
    "the of and to in is that for it was on are as with they at this from have or by not but what all were we there"
)
TELLING = "function return price percent matrix invoice kidney treaty enzyme contract"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="tables with scores of both models")
    parser.add_argument("--seeds", type=int, default=20, help="how often the rows are cut into folds anew")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--policy", choices=sorted(TRAINERS), default="difficulty")
    parser.add_argument("--decisions", type=int, default=500, help="how many decisions of each length are timed")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    found: dict[str, Any] = {"latency_us": latencies(options.decisions)}
    print("| characters | median us | p99 us |\n|---:|---:|---:|")
    for length, (median, high) in found["latency_us"].items():
        print(f"| {length:,} | {median:.0f} | {high:.0f} |")
    if options.files:
        print("\n| file | rows | APGR | spread | s a fit | baseline | its APGR | gain, 95% |")
        print("|---|---:|---:|---:|---:|---|---:|---|")
    for path in options.files:
        ranking = measure(path, options.policy, Plan(options.folds, options.seeds))
        found[path.stem] = ranking
        for name in BASELINES:
            print(_row(path.stem, ranking, name), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def _row(name: str, ranking: dict[str, Any], baseline: str) -> str:
    against = ranking["baselines"][baseline]
    low, high = against["gain_interval"]
    return (
        f"| {name} | {ranking['rows']:,} | {ranking['apgr']:.3f} | {ranking['spread']:.3f} | {ranking['fit_s']:.1f} "
        f"| {baseline} | {against['apgr']:.3f} | {against['gain']:+.3f} [{low:+.3f}, {high:+.3f}] |"
    )


def latencies(decisions: int) -> dict[int, tuple[float, float]]:
    """Median and 99th percentile of a decision's CPU time in microseconds, by the prompt's characters."""
    random = Random(0)
    model = train("difficulty", [_made_up(random, str(place), random.choice(LENGTHS[:3])) for place in range(600)])
    return {length: _timed(model, random, length, decisions) for length in LENGTHS}


def _timed(model: Trained, random: Random, length: int, decisions: int) -> tuple[float, float]:
    asked = [_made_up(random, "", length).query for _ in range(2 * decisions)]
    taken = []
    for query in asked:
        started = time.thread_time_ns()
        model.score(query)
        taken.append((time.thread_time_ns() - started) / 1_000)
    median, high = np.percentile(taken[decisions:], [50, 99])
    return float(median), float(high)


def _made_up(random: Random, name: str, length: int) -> Example:
    """A request of that many characters whose difficulty follows from its words and who asks."""
    hard = random.random() < 0.5
    words = random.choices(COMMON.split(), k=length // 3 + 2)
    words[::9] = [str(random.randint(1, 9_999)) for _ in words[::9]]
    if hard:
        words[::7] = random.choices(TELLING.split(), k=len(words[::7]))
    text = (" ".join(words)[: length - 1] + "?").replace("there", "\nA. there")
    tenant = random.choice(("shop", "school", "clinic"))
    query = Query(system=f"You help the {tenant}.", last=text, whole=text, tenant=tenant, key=tenant, route="auto")
    failed = random.random() < (0.6 if hard else 0.1) + 0.2 * (tenant == "clinic")
    return Example(name, query, harm=float(failed), teacher=1.0, student=float(not failed))


@dataclass
class _Clock:
    """CPU time spent in fits."""

    spent_s: float = 0.0
    fits: int = 0

    def around(self, fit: Callable[..., Rank]) -> Callable[..., Rank]:
        """The same fit, timed."""

        def timed(examples: Sequence[Example], *, seed: int, progress: Progress | None) -> Rank:
            started = time.process_time()
            rank = fit(examples, seed=seed, progress=progress)
            self.spent_s, self.fits = self.spent_s + time.process_time() - started, self.fits + 1
            return rank

        return timed


def measure(path: Path, policy: str, plan: Plan) -> dict[str, Any]:
    """The figures of one table."""
    trainer = TRAINERS[policy]
    rows = read_table(path, wanted=Wanted(scores=True, answers=trainer.answers))
    teacher = np.array([row.teacher for row in rows], dtype=np.float64)
    student = np.array([row.student for row in rows], dtype=np.float64)
    clock = _Clock()
    ours = out_of_fold(rows, clock.around(trainer.fit), plan)
    each = [apgr(worth, teacher, student) for worth in ours]
    return {
        "rows": len(rows),
        "seeds": plan.seeds,
        "apgr": float(np.mean(each)),
        "spread": float(np.std(each)),
        "fit_s": clock.spent_s / clock.fits,
        "baselines": {
            name: _against(ours, out_of_fold(rows, fit, plan), teacher, student) for name, fit in BASELINES.items()
        },
    }


def _against(ours: Floats, theirs: Floats, teacher: Floats, student: Floats) -> dict[str, Any]:
    gain, interval = paired_apgr(ours, theirs, teacher, student)
    return {
        "apgr": float(np.mean([apgr(worth, teacher, student) for worth in theirs])),
        "gain": gain,
        "gain_interval": (interval.low, interval.high) if interval else (float("nan"), float("nan")),
    }


if __name__ == "__main__":
    main()
