"""Does the pace make a budget last, use it, and lose little? Windows of a day in simulation, against hindsight.

    python bench/pace.py [--seeds 5] [--days 9] [--only NAME] [--json FILE]

About 20,000 requests a day go through `policies.control.pace`, a step a minute. Expected losses are Beta(0.6, 3), what
the teacher costs more is log-normal or the same for all. What is spent is not what was expected: each call costs 15%
more with a log-normal error of 50%, audits cost 5% beside, and a call is settled a minute after its decision. The
target pays for 30% of what all teachers would cost.

Per window: the money used, of the target, and the loss of what the student served, of that which the best fixed
threshold on the loss, and the best fixed price per USD, would have had with the target's money and knowing everything
("hindsight"). The first window, which has no forecast, is told apart. Exit status 1 where a later window of `steady`,
`bursty` or `daily` goes more than 2% over the target, uses less than 97% of one that the unpaced policy would exceed,
or where the loss over all of them is more than 5% above that of the best thresholds.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from policies.bounds import Floats
from policies.control.pace import Pace, Spending, worth_bin

DAY_S = 86_400
STEP_S = 60
STEPS = DAY_S // STEP_S
REQUESTS_A_DAY = 20_000
TARGET_SHARE = 0.3
COST_USD = 0.005
COST_ERROR, COST_BIAS = 0.5, 1.15
AUDITED = 0.05
OVER, USED, LOSS = 1.02, 0.97, 1.05
RULED = ("steady", "bursty", "daily")
Rates = Callable[[np.random.Generator, int], Floats]


def steady(rng: np.random.Generator, days: int) -> Floats:
    return np.ones(days * STEPS)


def bursts(rng: np.random.Generator, days: int, burst_steps: float, calm_steps: float) -> Floats:
    """4 to 12 times the usual rate for a while, again and again, at any time."""
    rates: list[float] = []
    while len(rates) < days * STEPS:
        for length, rate in ((calm_steps, rng.uniform(0.3, 1.0)), (burst_steps, rng.uniform(4.0, 12.0))):
            rates += [float(rate)] * max(1, round(rng.exponential(length)))
    return np.array(rates[: days * STEPS])


def daily(rng: np.random.Generator, days: int, weekend: float = 1.0) -> Floats:
    """High in the afternoon, low at night; whole days vary by 8%, hours by 15%."""
    hours = np.arange(days * STEPS) * STEP_S / 3600
    clock, day = hours % 24, (hours // 24).astype(int)
    shape: Floats = 0.15 + np.exp(-(((clock - 14) / 4) ** 2)) + 0.2 * np.exp(-(((clock - 20) / 1.5) ** 2))
    level = np.exp(rng.normal(0, 0.08, days)) * np.where(np.arange(days) % 7 >= 5, weekend, 1.0)
    rates: Floats = shape * level[day] * np.exp(_drifting(rng, days * STEPS, 0.15, 3 * 3600 / STEP_S))
    return rates


def _drifting(rng: np.random.Generator, count: int, deviation: float, memory: float) -> Floats:
    """A first-order autoregression."""
    keep = math.exp(-1 / memory)
    noise, value = rng.normal(0, deviation * math.sqrt(1 - keep * keep), count), 0.0
    values = np.empty(count)
    for at in range(count):
        value = keep * value + noise[at]
        values[at] = value
    return values


@dataclass(frozen=True)
class Scenario:
    """`same_cost`: for all requests. `harder`: how much higher losses are by night, and from the middle on."""

    name: str
    rates: Rates
    same_cost: bool = False
    harder: float = 0.0
    days: int | None = None
    warm_up: int = 1  # windows that are told apart


SCENARIOS = (
    *(
        Scenario(name, rates, same_cost)
        for name, rates in (
            ("steady", steady),
            ("bursty", lambda rng, days: bursts(rng, days, 2, 10)),
            ("daily", daily),
        )
        for same_cost in (False, True)
    ),
    Scenario("daily, harder by night and from the middle on", daily, harder=0.5),
    Scenario("daily with weekends, from the third week on", lambda rng, days: daily(rng, days, 0.5), True, 0.0, 28, 14),
    Scenario("long bursts", lambda rng, days: bursts(rng, days, 15, 45), same_cost=True),
)


@dataclass(frozen=True)
class Requests:
    """Of a whole run, in order; `step` is when each came."""

    step: NDArray[np.intp]
    loss: Floats
    expected_usd: Floats
    real_usd: Floats
    audit_usd: Floats

    def of(self, first: int, last: int) -> slice:
        """Those of some steps."""
        return slice(*np.searchsorted(self.step, (first, last)))


def requests(scenario: Scenario, rng: np.random.Generator, days: int) -> Requests:
    rates = scenario.rates(rng, days)
    counts = rng.poisson(rates / rates.mean() * REQUESTS_A_DAY / STEPS)
    step = np.repeat(np.arange(len(counts)), counts)
    count = len(step)
    by_night = np.abs(step % STEPS / STEPS - 0.5) > 0.25
    late = step > len(counts) // 2
    loss = np.minimum(1.0, rng.beta(0.6, 3.0, count) * (1 + scenario.harder * (by_night + 1.0 * late)))
    cost = np.full(count, COST_USD) if scenario.same_cost else COST_USD * rng.lognormal(-0.32, 0.8, count)
    real = cost * COST_BIAS * rng.lognormal(-(COST_ERROR**2) / 2, COST_ERROR, count)
    return Requests(step, loss, cost, real, np.where(rng.random(count) < AUDITED, real, 0.0))


@dataclass(frozen=True)
class Result:
    """Of one window; `wanted`: what the unpaced policy would have spent, of the target."""

    used: float
    wanted: float
    loss: float
    threshold_loss: float
    price_loss: float


def run(scenario: Scenario, seed: int, days: int) -> list[Result]:
    rng = np.random.default_rng(seed)
    came = requests(scenario, rng, days)
    target = TARGET_SHARE * float(came.real_usd.sum()) / days
    bins = np.array([worth_bin(loss, cost) for loss, cost in zip(came.loss, came.expected_usd, strict=True)])
    pace, results, unsettled = Pace(target), [], 0.0
    taken_before = came.of(0, 0), np.zeros(0, dtype=bool)
    for day in range(days):
        spent = lost = 0.0
        for step in range(day * STEPS, (day + 1) * STEPS):
            now = came.of(step, step + 1)
            teacher = came.loss[now] >= pace.price * came.expected_usd[now]
            lost += float(came.loss[now][~teacher].sum())
            spent += unsettled  # of the step before
            before, had = taken_before
            unsettled = float(came.real_usd[now][teacher].sum() + came.audit_usd[now].sum())
            taken_before = now, teacher
            told = float(came.expected_usd[before][had].sum())
            spending = Spending(day * DAY_S, (day + 1) * DAY_S, spent)
            pace.observe((step + 1) * STEP_S - 0.001, spending, _worth(bins[before], came.expected_usd[before]), told)
        spent, unsettled = spent + unsettled, 0.0  # it counts for the window in which it was begun
        results.append(_result(came, came.of(day * STEPS, (day + 1) * STEPS), spent, lost, target))
    return results


def _worth(bins: NDArray[np.intp], costs: Floats) -> dict[int, tuple[float, float]]:
    found, inverse, counts = np.unique(bins, return_inverse=True, return_counts=True)
    sums = np.bincount(inverse, costs, minlength=len(found))
    return {int(at): (float(n), float(usd)) for at, n, usd in zip(found, counts, sums, strict=True)}


def _result(came: Requests, window: slice, spent: float, lost: float, target: float) -> Result:
    loss, real, audits = came.loss[window], came.real_usd[window], float(came.audit_usd[window].sum())
    thresholds, prices = (
        _hindsight(order, loss, real, target - audits) for order in (loss, loss / came.expected_usd[window])
    )
    return Result(spent / target, (float(real.sum()) + audits) / target, lost, thresholds, prices)


def _hindsight(order: Floats, loss: Floats, real_usd: Floats, money: float) -> float:
    """The loss that is left where the highest in this order go to the teacher as long as the money lasts."""
    best_first = np.argsort(-order, kind="stable")
    served = np.cumsum(real_usd[best_first]) > money
    return float(loss[best_first][served].sum())


@dataclass(frozen=True)
class Summary:
    """Of the windows of a scenario; losses of all of them together, and of the worst of them."""

    scenario: str
    same_cost: bool
    windows: int
    least_used: float
    mean_used: float
    most_used: float
    under: int
    over: int
    loss_of_threshold: float
    worst_of_threshold: float
    loss_of_price: float

    @property
    def passes(self) -> bool:
        return not self.under and not self.over and self.loss_of_threshold <= LOSS


def summary(scenario: Scenario, windows: list[Result]) -> Summary:
    limited = [each for each in windows if each.wanted > 1.0]
    lost = sum(each.loss for each in limited)
    return Summary(
        scenario.name,
        scenario.same_cost,
        len(windows),
        min(each.used for each in limited),
        sum(each.used for each in limited) / len(limited),
        max(each.used for each in windows),
        sum(each.used < USED for each in limited),
        sum(each.used > OVER for each in windows),
        lost / sum(each.threshold_loss for each in limited),
        max(each.loss / each.threshold_loss for each in limited),
        lost / sum(each.price_loss for each in limited),
    )


HEAD = (
    f"{'':48}{'windows':>8}{'used: least':>12}{'mean':>7}{'most':>7}{'loss / threshold':>18}{'worst':>7}{'/ price':>9}"
)


def line(label: str, of: Summary) -> str:
    return (
        f"{label:60}{of.windows:8}{of.least_used:12.3f}{of.mean_used:7.3f}{of.most_used:7.3f}"
        f"{of.loss_of_threshold:18.3f}{of.worst_of_threshold:7.3f}{of.loss_of_price:9.3f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--days", type=int, default=9)
    parser.add_argument("--only", help="scenarios whose name begins with this")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    passed, reports = True, []
    print(HEAD)
    for scenario in SCENARIOS:
        if options.only and not scenario.name.startswith(options.only):
            continue
        runs = [run(scenario, seed, scenario.days or options.days) for seed in range(options.seeds)]
        first = summary(scenario, [each for one in runs for each in one[: scenario.warm_up]])
        later = summary(scenario, [each for one in runs for each in one[scenario.warm_up :]])
        label = scenario.name + (", all cost the same" if scenario.same_cost else "")
        print(line(label, later), flush=True)
        print(line("    before that" if scenario.warm_up > 1 else "    first window", first), flush=True)
        reports.append({"first": asdict(first), "later": asdict(later)})
        passed &= later.passes or scenario.name not in RULED
    if options.json:
        options.json.write_text(json.dumps(reports, indent=2))
    print("passed" if passed else "FAILED")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
