"""An interval for a total of which a random sample was seen, true at every look, whatever the total does meanwhile.

Request i adds Y_i in [0, 1] to the total (1: the served answer was harmful). With the probability p_i, known before the
draw, it is looked at: A_i in {0, 1}. The Y_i are taken as they are; only the draws are random. So drift, and a p_i or
Y_i that depends on earlier draws or on the answer itself (low confidence), need no assumption. Needed is that A_i is
independent, given p_i, of everything that was settled before it and of Y_i.

Fix λ > 0. With A ~ Bernoulli(p), for Y = 0 and Y = 1, and between them because log E exp(·) is convex in Y,

    above:  E exp(λY - A·Y·u) <= 1,              u = -log(1 - (1 - exp(-λ))/p),  where 1 - exp(-λ) < p
            E exp(-λ(1 - Y) + A·(1 - Y)·v) <= 1,  v as below, for any p
    below:  E exp(-λY + A·Y·v) <= 1,              v = log(1 + (exp(λ) - 1)/p),    for any p

with equality at both ends: Chernoff's bound without slack. Products over requests are supermartingales, and so are
mixtures over a grid of λ fixed beforehand. By Ville (1939) a mixture ever reaches 1/delta with a probability of at most
delta: the total at which it would is the bound. See Robbins (1970), Ann. Math. Stat. 41(5); Howard, Ramdas, McAuliffe
and Sekhon (2020), Probability Surveys 17, and (2021), Ann. Stat. 49(2); Waudby-Smith, Wu, Ramdas, Karampatziakis and
Mineiro (2022), arXiv:2210.10768. Those bound an unknown variance from the data (empirical Bernstein). Here the law of
a draw is known but for Y, so nothing is estimated or centred, and the variance has its factor 1 - p.

Needed of the requests are only sums per *level* of p. With w = 1/p, u is convex and v concave, so that on a level (w
between two neighbours of `WEIGHTS`) the chord is a larger u and a smaller v. Both keep the inequalities, and a sum of
chords needs just the number of draws and the sum of w. The Horvitz-Thompson sum of Y·w stays exact. The sums of
workers, days and restarts add up.

- Above, a λ too large for a level's p takes the level's requests as harmful but for what harmless draws speak for
  (second line; never less than nothing, so that one level cannot pay for another). The mixture finds the λ that pay.
  No smallest p is configured, and p = 0, where nobody can look, is only the extreme.
- A draw without a result, now or for ever, is Y = 1 above and Y = 0 below. That can only shrink a mixture at the true
  total: every look is covered, whenever and why ever results come.
- Two certainties come on top: what was seen harmful, and what was seen harmless. With p = 1 they are the interval.

What it does not know: requests, models and time. A look must take whole requests, each with its draw, and which ones
must not depend on results. The sums of several workers, shipped a moment apart, are such a look as long as one
worker's p does not answer to what another drew within that moment.
"""

from __future__ import annotations

import math
from enum import IntEnum
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_PER_OCTAVE = 2
SMALLEST = 2.0**-16  # of the probabilities that teach the bounds something
WEIGHTS: Floats = 2.0 ** (np.arange(16 * _PER_OCTAVE + 1) / _PER_OCTAVE)  # the largest 1/p of each level
UNSEEN = len(WEIGHTS)  # the level of smaller probabilities, 0 among them
LEVELS = UNSEEN + 1
# The grid of 1 - exp(-λ): just below the largest that each level can use, and on to what suits 1e7 pairs at p = 1e-3.
# Half an octave between them costs at most 1.5% of width. The prior is even over eight octaves, then falls.
_OCTAVES: Floats = np.arange(21 * _PER_OCTAVE + 1) / _PER_OCTAVE
_STAKES: Floats = 0.95 * 2.0**-_OCTAVES
_PRIOR: Floats = 1 / np.maximum(1.0, _OCTAVES - 7)
_STEPS = 25


class Row(IntEnum):
    """What is summed per level; `weight`: the sum of 1/p. A request without a draw is only in `SERVED`."""

    SERVED = 0
    DRAWN = 1
    DRAWN_WEIGHT = 2
    PAIRS = 3
    PAIRS_WEIGHT = 4
    HARMFUL = 5
    HARMFUL_WEIGHT = 6


def level_of(probability: float) -> int:
    """0 for p = 1, k for 1/p in (WEIGHTS[k - 1], WEIGHTS[k]], `UNSEEN` below `SMALLEST`. Raises ValueError."""
    if probability >= SMALLEST:
        if probability <= 1.0:
            return math.ceil(-_PER_OCTAVE * math.log2(probability))
    elif probability >= 0.0:
        return UNSEEN
    raise ValueError(f"a sampling probability of {probability} is not in [0, 1]")


def weight_of(probability: float) -> float:
    """1/p; below `SMALLEST`, where draws teach the bounds nothing, that of `SMALLEST`, so that no sum is infinite."""
    return 1.0 / max(probability, SMALLEST)


def total_interval(sums: Floats, delta: float | Floats) -> tuple[Floats, Floats]:
    """Lower and upper bound of the total of Y, each wrong at some look with a probability of at most `delta`/2.

    `sums` has the shape (..., len(Row), LEVELS), `delta` broadcasts against the leading part; so do both answers.
    """
    used = np.flatnonzero(sums.any(axis=tuple(range(sums.ndim - 1))))
    tables = _tables().at(used)
    served, drawn, drawn_weight, pairs, pairs_weight, harmful, harmful_weight = np.moveaxis(sums[..., used], -2, 0)
    unknown = np.maximum(drawn - pairs, 0.0)
    unknown_weight = np.clip(drawn_weight - pairs_weight, unknown * tables.least_weight, unknown * tables.most_weight)
    gain = _chord_sums(harmful, harmful_weight, tables.gain, tables.gain_slope)
    price = _chord_sums(harmful + unknown, harmful_weight + unknown_weight, tables.price, tables.price_slope)
    given_up = _given_up(served, pairs - harmful, pairs_weight - harmful_weight, tables)
    seen_harmful = harmful.sum(axis=-1)
    most = served.sum(axis=-1) - (pairs - harmful).sum(axis=-1)
    goal = np.log(2.0 / np.asarray(delta, dtype=np.float64))
    low = np.clip(-_reaches(tables.log_prior + gain, tables.rates, goal), seen_harmful, most)
    high = np.clip(_reaches(tables.log_prior - price - given_up, tables.rates, goal), seen_harmful, most)
    # Draws too unlikely to happen can set one bound past the other.
    return np.minimum(low, high), np.maximum(low, high)


class _Tables(NamedTuple):
    """Per λ (rows) and level (columns): v and u as intercept and slope in 1/p; where λ is too large for the level."""

    rates: Floats  # the λ
    log_prior: Floats
    gain: Floats
    gain_slope: Floats
    price: Floats
    price_slope: Floats
    unusable: Floats
    least_weight: Floats  # of each level
    most_weight: Floats

    def at(self, levels: NDArray[np.intp]) -> _Tables:
        return _Tables(self.rates, self.log_prior, *(table[..., levels] for table in self[2:]))


@cache
def _tables() -> _Tables:
    rates = -np.log1p(-_STAKES)
    usable = _STAKES[:, None] * WEIGHTS < 1.0
    price, price_slope = _chords(-np.log1p(-np.where(usable, _STAKES[:, None] * WEIGHTS, 0.0)))
    gain, gain_slope = _chords(np.log1p(np.expm1(rates)[:, None] * WEIGHTS))
    return _Tables(
        rates,
        np.log(_PRIOR / _PRIOR.sum()),
        _with_unseen(gain, 0.0),
        _with_unseen(gain_slope, 0.0),
        _with_unseen(price * usable, 0.0),
        _with_unseen(price_slope * usable, 0.0),
        _with_unseen(~usable, 1.0),
        np.concatenate([WEIGHTS[:1], WEIGHTS[:-1], [0.0]]),
        np.append(WEIGHTS, 0.0),
    )


def _chords(values: Floats) -> tuple[Floats, Floats]:
    """Intercept and slope, on each level, of the line through the values at its two ends; a constant on level 0."""
    slopes = np.diff(values, axis=-1) / np.diff(WEIGHTS)
    intercepts = values[:, 1:] - slopes * WEIGHTS[1:]
    return np.hstack([values[:, :1], intercepts]), np.hstack([np.zeros_like(values[:, :1]), slopes])


def _with_unseen(table: NDArray[np.generic], value: float) -> Floats:
    return np.hstack([table, np.full((len(table), 1), value)])


def _chord_sums(counts: Floats, weights: Floats, intercepts: Floats, slopes: Floats) -> Floats:
    answer: Floats = counts @ intercepts.T + weights @ slopes.T
    return answer


def _given_up(served: Floats, harmless: Floats, harmless_weight: Floats, tables: _Tables) -> Floats:
    """What the levels that a λ cannot use take from its exponent, of shape (..., len(rates))."""
    spoken_for = harmless[..., None, :] * tables.gain + harmless_weight[..., None, :] * tables.gain_slope
    taken = np.maximum(served[..., None, :] * tables.rates[:, None] - spoken_for, 0.0)
    answer: Floats = (taken * tables.unusable).sum(axis=-1)
    return answer


def _reaches(exponents: Floats, rates: Floats, goal: Floats) -> Floats:
    """The x at which log sum_j exp(exponents_j + rates_j·x) is `goal`: Newton from the right, where no step overshoots.

    The function is convex and rising, so an early end leaves a larger x: a bound that is wider, never wrong.
    """
    x: Floats = ((goal[..., None] - exponents) / rates).min(axis=-1)
    for _ in range(_STEPS):
        powers = exponents + rates * x[..., None]
        top = powers.max(axis=-1)
        parts = np.exp(powers - top[..., None])
        whole = parts.sum(axis=-1)
        step = (top + np.log(whole) - goal) * whole / (parts @ rates)
        x = x - step
        if np.all(step <= 1e-9 * (1.0 + np.abs(x))):
            break
    return x
