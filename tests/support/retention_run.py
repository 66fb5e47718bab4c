"""Simulated traffic for the intervals of `policies/retention.py`: many runs, each looked at all the way.

Hard requests are compared at 50%, easy ones at 5%. Half-way the mix and the student change. In bursts comparisons are
shed: a fifth of the probability is left, in the worst burst nothing. Some comparisons fail, harmful ones more often;
the others have their result up to 200 requests later. A quarter of them get a second teacher's answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.confidence import LEVELS, SMALLEST, Floats, Row, level_of, total_interval
from policies.retention import Sums, figures

Flags = NDArray[np.bool_]
NOISE_SHARE = 0.25
FAILS, FAILS_IF_HARMFUL = 0.005, 0.02
LATEST = 200  # requests between a draw and its result
Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Traffic:
    """One run; an entry per request."""

    served: Flags
    probability: Floats
    harmful: Flags  # would be, if it were compared
    noisy: Flags
    drawn: Flags
    drawn_twice: Flags
    result_at: NDArray[np.int64]  # the request by which the result is there; beyond the end: never


@dataclass(frozen=True)
class Looks:
    """One run at its looks: true shares, what the naive mean says, intervals as (low, high) pairs."""

    pairs: Floats
    true: dict[str, Floats]
    naive: Floats
    intervals: dict[str, tuple[Floats, Floats]]

    def covers(self, name: str) -> Flags:
        low, high = self.intervals[name]
        truth = self.true[name.removesuffix(NORMAL).removesuffix(UNWEIGHTED)]
        return (low <= truth + 1e-9) & (truth <= high + 1e-9)


NORMAL, UNWEIGHTED = " (fixed-time normal)", " (unweighted)"
LOSS, RETENTION, NORMALISED = "route_loss", "student_retention", "normalised_retention"


def traffic(rng: np.random.Generator, requests: int) -> Traffic:
    number = np.arange(requests)
    late = number >= requests // 2
    hard = rng.random(requests) < np.where(late, 0.3, 0.15)
    served = rng.random(requests) < np.where(hard, 0.5, 0.95)
    harmful = rng.random(requests) < np.where(hard, np.where(late, 0.4, 0.2), np.where(late, 0.02, 0.01))
    noisy = rng.random(requests) < np.where(hard, 0.1, 0.01)
    probability = np.where(hard, 0.5, 0.05) * _left(rng, requests)
    drawn = served & (rng.random(requests) < probability)
    fails = rng.random(requests) < np.where(harmful, FAILS_IF_HARMFUL, FAILS)
    return Traffic(
        served,
        probability,
        harmful,
        noisy,
        drawn,
        drawn & (rng.random(requests) < NOISE_SHARE),
        np.where(fails, requests, number + rng.integers(0, LATEST, requests)),
    )


def _left(rng: np.random.Generator, requests: int) -> Floats:
    """What shedding leaves of the probabilities: ten bursts of 2% of the requests, and one of 0.5% that leaves none."""
    left = np.ones(requests)
    for start in rng.integers(0, requests, 10):
        left[start : start + requests // 50] = 0.2
    worst = int(rng.integers(0, requests))
    left[worst : worst + requests // 200] = 0.0
    return left


def look(run: Traffic, every: int, delta: float) -> Looks:
    """At every `every`-th request, all intervals at 1 - `delta`; the last look must be what `figures` says."""
    of = _Cumulated(run, every)
    loss = of.levels(run.probability, run.drawn, run.harmful)
    noise = of.levels(run.probability * NOISE_SHARE, run.drawn_twice, run.noisy)
    requests, served = of.count(run.served | ~run.served), np.maximum(of.count(run.served), 1)
    harmful = of.count(run.served & run.harmful)
    noisy = of.count(run.served & run.noisy)
    low, high = total_interval(loss, delta)
    low_half, high_half = total_interval(loss, delta / 2)
    noise_low, noise_high = total_interval(noise, delta / 2)
    intervals = {
        LOSS: (low / requests, high / requests),
        RETENTION: (1 - high / served, 1 - low / served),
        NORMALISED: (_ratio(served - high_half, served - noise_low), _ratio(served - low_half, served - noise_high)),
    }
    _check_last(intervals, loss, noise, requests, delta)
    pairs, seen_harmful = loss[:, Row.PAIRS].sum(-1), loss[:, Row.HARMFUL].sum(-1)
    inverse = 1 / np.maximum(run.probability, SMALLEST)
    weighted = of.count(run.drawn & run.harmful, inverse, run.result_at)
    variance = of.count(run.drawn & run.harmful, (1 - run.probability) * inverse**2, run.result_at)
    half = Z_95 * np.sqrt(variance)
    naive = np.divide(seen_harmful, pairs, out=np.zeros_like(pairs), where=pairs > 0)
    intervals[LOSS + NORMAL] = ((weighted - half) / requests, (weighted + half) / requests)
    intervals[RETENTION + NORMAL] = (1 - (weighted + half) / served, 1 - (weighted - half) / served)
    low, high = total_interval(of.levels(_uniform(run), run.drawn, run.harmful), delta)
    intervals[RETENTION + UNWEIGHTED] = (1 - high / served, 1 - low / served)
    true = {
        LOSS: harmful / requests,
        RETENTION: 1 - harmful / served,
        NORMALISED: _ratio(served - harmful, served - noisy),
    }
    return Looks(pairs, true, naive, intervals)


class _Cumulated:
    """Sums up to each look."""

    def __init__(self, run: Traffic, every: int) -> None:
        self._run, self._every = run, every
        self._looks = len(run.served) // every
        self._number = np.arange(len(run.served))

    def count(self, chosen: Flags, weights: Floats | float = 1.0, at: NDArray[np.int64] | None = None) -> Floats:
        looks = (self._number if at is None else at) // self._every
        here = looks < self._looks
        values = chosen * weights
        return np.cumsum(np.bincount(looks[here], values[here], self._looks))

    def levels(self, probability: Floats, drawn: Flags, harmful: Flags) -> Floats:
        """The sums of one sequence, of shape (looks, len(Row), LEVELS)."""
        each, inverse = np.unique(probability, return_inverse=True)
        level = np.array([level_of(value) for value in each])[inverse]
        weight = 1 / np.maximum(probability, SMALLEST)
        sums = np.zeros((self._looks, len(Row), LEVELS))
        for here in np.unique(level):
            mine = level == here
            later = self._run.result_at
            sums[:, Row.SERVED, here] = self.count(self._run.served & mine)
            sums[:, Row.DRAWN, here] = self.count(drawn & mine)
            sums[:, Row.DRAWN_WEIGHT, here] = self.count(drawn & mine, weight)
            sums[:, Row.PAIRS, here] = self.count(drawn & mine, 1.0, later)
            sums[:, Row.PAIRS_WEIGHT, here] = self.count(drawn & mine, weight, later)
            sums[:, Row.HARMFUL, here] = self.count(drawn & mine & harmful, 1.0, later)
            sums[:, Row.HARMFUL_WEIGHT, here] = self.count(drawn & mine & harmful, weight, later)
        return sums


def _uniform(run: Traffic) -> Floats:
    """The mistake: as if every request had been compared with the same probability."""
    return np.full(len(run.served), run.drawn.sum() / run.served.sum())


def _ratio(kept: Floats, agreed: Floats) -> Floats:
    return np.where(kept >= agreed, 1.0, kept / np.maximum(agreed, 1e-300))


def _check_last(
    intervals: dict[str, tuple[Floats, Floats]], loss: Floats, noise: Floats, requests: Floats, delta: float
) -> None:
    """The vectorised intervals are those of `figures`."""
    said = figures(Sums(loss[-1], requests[-1]), Sums(noise[-1], requests[-1]), confidence=1 - delta, min_pairs=0)
    for name, (low, high) in intervals.items():
        rate = getattr(said, name)
        assert np.allclose([rate.interval.low, rate.interval.high], [low[-1], high[-1]], atol=1e-7), name
