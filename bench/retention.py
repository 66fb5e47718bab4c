"""Do the intervals of `route_loss` and `student_retention` hold at every look, on traffic that is sampled unequally?

    python bench/retention.py [--runs 500] [--requests 20000] [--every 10] [--seed 1] [--json FILE]

The traffic is that of `tests/support/retention_run.py`. A run counts as covered when every one of its looks is: the
true running share so far is in the interval. Beside the intervals of `policies/retention.py` stand the fixed-time
normal interval of the same Horvitz-Thompson estimate, looked at as often (also from 100 pairs on only), the interval
that takes all pairs as equally likely, and the naive mean of the compared pairs. Exit status 1 where one of the first
three covers fewer than 95% of the runs, or the naive mean is within a factor of two.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from policies.bounds import clopper_pearson
from tests.support.retention_run import LOSS, NORMALISED, RETENTION, Looks, look, traffic

OURS = (LOSS, RETENTION, NORMALISED)
CONFIDENCE = 0.95
LATER_PAIRS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--every", type=int, default=10, help="requests between two looks")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    figures = measure(options.runs, options.requests, options.every, options.seed)
    _print(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))
    short = [name for name in OURS if figures["intervals"][name]["coverage"] < CONFIDENCE]
    sys.exit(bool(short or figures["naive_over_true"]["median"] < 2))


def measure(runs: int, requests: int, every: int, seed: int) -> dict[str, Any]:
    started = time.process_time()
    looks = [
        look(traffic(np.random.default_rng([seed, number]), requests), every, 1 - CONFIDENCE) for number in range(runs)
    ]
    off = np.array([one.naive[-1] / (1 - one.true[RETENTION][-1]) for one in looks])
    return {
        "runs": runs,
        "requests": requests,
        "looks": requests // every,
        "pairs": float(np.mean([one.pairs[-1] for one in looks])),
        "true": {name: float(np.mean([one.true[name][-1] for one in looks])) for name in OURS},
        "naive_over_true": {"median": float(np.median(off)), "least": float(off.min()), "most": float(off.max())},
        "intervals": {name: _coverage(looks, name) for name in looks[0].intervals},
        "cpu_s": round(time.process_time() - started, 1),
    }


def _coverage(looks: list[Looks], name: str) -> dict[str, Any]:
    """The share of runs in which every look is covered, its Clopper-Pearson interval, and widths."""
    covered = sum(bool(one.covers(name).all()) for one in looks)
    later = sum(bool(one.covers(name)[one.pairs >= LATER_PAIRS].all()) for one in looks)
    interval = clopper_pearson(len(looks) - covered, len(looks), 0.05)
    widths = np.array([one.intervals[name][1] - one.intervals[name][0] for one in looks])
    return {
        "coverage": covered / len(looks),
        "coverage_interval": [1 - interval.high, 1 - interval.low],
        "coverage_from_100_pairs": later / len(looks),
        "coverage_at_the_end": float(np.mean([one.covers(name)[-1] for one in looks])),
        "mean_width_at_a_tenth": float(widths[:, widths.shape[1] // 10 - 1].mean()),
        "mean_width_at_the_end": float(widths[:, -1].mean()),
    }


def _print(figures: dict[str, Any]) -> None:
    off = figures["naive_over_true"]
    print(
        f"{figures['runs']} runs of {figures['requests']} requests, {figures['looks']} looks each, "
        f"{figures['pairs']:.0f} pairs on average; {figures['cpu_s']} s of CPU"
    )
    print("true at the end: " + ", ".join(f"{name} {value:.4f}" for name, value in figures["true"].items()))
    print(
        f"naive loss of the compared pairs over the true loss: {off['median']:.2f} times (median; "
        f"{off['least']:.2f} to {off['most']:.2f})"
    )
    print(
        f"{'':40} {'every look':>10} {'95% interval':>15} {'from 100 pairs':>14} {'end':>6} "
        f"{'widths: 1/10':>12} {'end':>7}"
    )
    for name, row in figures["intervals"].items():
        low, high = row["coverage_interval"]
        print(
            f"{name:40} {row['coverage']:10.1%} {low:7.1%}-{high:7.1%} {row['coverage_from_100_pairs']:14.1%} "
            f"{row['coverage_at_the_end']:6.1%} {row['mean_width_at_a_tenth']:12.4f} "
            f"{row['mean_width_at_the_end']:7.4f}"
        )


if __name__ == "__main__":
    main()
