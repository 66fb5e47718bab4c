"""Are replays unbiased, do their intervals cover, and do certificates hold, on logs of which the truth is known?

    python -m bench.replay [--runs 400] [--seed 1] [--json FILE]

The traffic is that of `tests/policies/replay/worlds.py`: a split wrote the log, hard requests are audited twice as
often, the candidate is a threshold on a noisy score. For each scenario and figure: the share of runs in which the 95%
interval holds the truth, the mean error beside the log's own traffic in standard errors of that mean (beyond 4: a
bias), and how much narrower the doubly robust interval is. `drawn`: cost by the split's own decisions. `certified`:
the share of runs in which the loss at the threshold certified for 5% with 90% is above 5%. Exit status 1 where an
interval of a loss covers less than 93%, one of a cost less than 87%, a figure is biased, or certificates break too
often.
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
from policies.replay.compare import Comparison, compare
from policies.replay.frontier import certified_threshold
from policies.replay.interval import Figure
from policies.replay.randomised import randomised_cost
from policies.replay.support import supported
from tests.policies.replay.worlds import World, world

DELTA = 0.05
MAX_LOSS, BROKEN = 0.05, 0.1
FIGURES = ("cost", "loss", "logged cost", "logged loss", "cost difference", "loss difference")
SCENARIOS: dict[str, dict[str, float]] = {
    "100 audits": {"conversations": 4000, "audit": 0.02},
    "400 audits": {"conversations": 4000, "audit": 0.09},
    "1,600 audits": {"conversations": 16_000, "audit": 0.09},
    "400, losses of 1%": {"conversations": 4000, "audit": 0.09, "rare": 5.4},
    "400, long-tailed costs": {"conversations": 4000, "audit": 0.09, "tail": 1.2},
    "400 in conversations of 4": {"conversations": 1000, "audit": 0.08, "turns": 4.0},
    "800 in conversations of 4": {"conversations": 500, "audit": 0.35, "turns": 4.0},
}
LEAST = {"cost": 0.87, "loss": 0.93}
LARGEST_BIAS = 4.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    found, problems = {}, 0
    for name, arguments in SCENARIOS.items():
        found[name] = measure(arguments, options.runs, options.seed)
        short = _problems(found[name], options.runs)
        problems += len(short)
        _print(name, found[name], short)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    sys.exit(bool(problems))


def measure(arguments: dict[str, Any], runs: int, seed: int) -> dict[str, Any]:
    """One scenario: audited requests a run, and of each of `FIGURES`, by each estimator, coverage, bias and gain."""
    started = time.process_time()
    large = [
        world(np.random.default_rng([seed, 0, n]), **{**arguments, "conversations": 40_000, "audit": 0.0005})
        for n in range(10)
    ]
    truth = np.mean([each.truth for each in large], axis=0)
    covered, errors, widths, certified, pairs = np.zeros((3, 6)), [], [], [], 0
    for number in range(runs):
        made = world(np.random.default_rng([seed, 1, number]), **arguments)
        sides = _figures(made)
        off = [[_off(figure, true) for figure, true in zip(side, _true(truth), strict=True)] for side in sides]
        covered += [[each.low <= 0 <= each.high for each in side] for side in off]
        own = _true(made.truth)
        errors.append([[figure.value - true for figure, true in zip(side, own, strict=True)] for side in sides])
        widths.append([[each.high - each.low for each in side] for side in off])
        certified.append(certified_threshold(made.requests, made.choosable, MAX_LOSS, BROKEN) or 0.0)
        pairs += len(made.requests)
    scores, harm = (np.concatenate([getattr(each, name) for each in large]) for name in ("scores", "harm"))
    losses = [float((harm * (scores < point)).mean()) for point in certified]
    mean, spread = np.mean(errors, axis=0), np.std(errors, axis=0)
    return {
        "pairs": pairs / runs,
        "coverage": (covered / runs).tolist(),
        "bias": np.divide(mean, spread / runs**0.5, out=np.zeros_like(mean), where=spread > 0).tolist(),
        "narrower": (1 - np.median([np.array(each[1]) / each[0] for each in widths], axis=0)).tolist(),
        "broken": float(np.mean([loss > MAX_LOSS for loss in losses])),
        "cpu_s": time.process_time() - started,
    }


def _figures(made: World) -> list[list[Figure]]:
    """By SNIPS, doubly robust, and for the cost by the drawn decisions."""
    found = compare(made.requests, made.logged, made.candidate, DELTA, made.population)
    assert found.doubly_robust is not None
    drawn = randomised_cost(supported(made.decided), made.features, DELTA, 1)
    plain, sharp = _six(found.snips), _six(found.doubly_robust)
    return [plain, sharp, [drawn.doubly_robust, sharp[1], drawn.logged, sharp[3], drawn.difference, sharp[5]]]


def _six(found: Comparison) -> list[Figure]:
    sides = found.candidate, found.logged, found.difference
    return [figure for side in sides for figure in (side.cost_usd, side.loss)]


def _true(truth: Any) -> list[float]:
    cost, loss, logged_cost, logged_loss = (float(each) for each in truth)
    return [cost, loss, logged_cost, logged_loss, cost - logged_cost, loss - logged_loss]


def _off(figure: Figure, true: float) -> Figure:
    return Figure(figure.value - true, figure.low - true, figure.high - true)


def _problems(found: dict[str, Any], runs: int) -> list[str]:
    problems = []
    for place, figure in enumerate(FIGURES):
        least = LEAST["cost" if "cost" in figure else "loss"]
        problems += [
            f"{figure} covers {each:.1%}" for each in {side[place] for side in found["coverage"]} if each < least
        ]
        problems += [f"{figure} is biased" for side in found["bias"] if abs(side[place]) > LARGEST_BIAS]
    if found["broken"] > clopper_pearson(round(BROKEN * runs), runs, 0.01).high:
        problems.append("certificates break")
    return problems


def _print(name: str, found: dict[str, Any], problems: list[str]) -> None:
    print(f"{name}: {found['pairs']:.0f} audited requests, {found['cpu_s']:.0f} s")
    for place, figure in enumerate(FIGURES):
        plain, sharp, drawn = (each[place] for each in found["coverage"])
        told = f"  {figure:16} SNIPS {plain:.1%}  doubly robust {sharp:.1%} ({found['narrower'][place]:+.0%} narrower)"
        print(told + (f"  drawn {drawn:.1%}" if "cost" in figure else ""))
    print(f"  certificates of {MAX_LOSS:.0%} that are broken: {found['broken']:.1%} (allowed: {BROKEN:.0%})")
    for problem in problems:
        print(f"  PROBLEM: {problem}")


if __name__ == "__main__":
    main()
