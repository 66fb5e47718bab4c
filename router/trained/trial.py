"""Whether a new version is better than the one in force, on requests that neither has learned from. Pure.

The measure is the squared error of the expected loss p against the harm y. It is what routing by p costs: let the
teacher's answer be worth c, then routing at the threshold c costs c where p >= c and y elsewhere, and the mean over all
c in [0, 1] is (p - y)² / 2 + y - y² / 2, of which only the first part is the policy's (Schervish 1989, Annals of
Statistics 17(4): a proper score is a mixture of such costs). So a version with less of it costs less on average over
all prices of the teacher.

The test is a bet (Waudby-Smith and Ramdas 2023, JRSS-B 86(1)). With d = w ((p' - y)² - (p - y)²) of a request of weight
w, summed over a conversation, the capital prod(1 - λ d) is expected to be at most 1 if the new version is no better on
these requests: for independent conversations it is at most prod(1 - λ E d) <= exp(-λ sum E d). λ may depend on the
requests, the weights and both expectations, not on the harm, and stays so small that no harm in [0, 1] costs
everything. The mean capital over some λ is the evidence; by Markov's inequality it reaches 1/α with probability at most
α. It does not know whether the future is like these requests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policies.bounds import Floats
from policies.learn.folds import numbered

# Fractions of the largest λ: large ones win on many small gains, small ones where a few requests decide.
_STAKES = np.array([0.95, 0.5, 0.25, 0.12, 0.06, 0.03])
_NOTHING = 1e-200  # an excess that is none, and by which other numbers can still be divided


@dataclass(frozen=True, slots=True)
class Trial:
    """`gain`: by how much the squared error falls, a weighted mean. `evidence`: see above; 1 says nothing."""

    pairs: int
    conversations: int
    gain: float
    evidence: float


def tried(expected: Floats, by_rival: Floats, harm: Floats, weight: Floats, groups: Sequence[str]) -> Trial:
    """The new version's expected losses against its rival's; all of shape (n,), n >= 1, losses and harm in [0, 1].

    `groups`: the conversation of each; '' is one of its own. Raises ValueError where an expectation is no number.
    """
    if not (np.isfinite(expected).all() and np.isfinite(by_rival).all()):
        raise ValueError("a version expects something that is no finite number, of which no trial says anything")
    excess = weight * _excess(expected, by_rival, harm)
    worst = weight * np.maximum(_excess(expected, by_rival, 0.0), _excess(expected, by_rival, 1.0))
    place = numbered(groups)
    total = float(weight.sum())
    sums = np.bincount(place, excess / total).astype(np.float64)
    largest = float(np.bincount(place, worst / total).max())
    gain = -float(excess.sum() / total)
    return Trial(len(harm), len(sums), gain, _evidence(sums, largest))


def level(delta: float, trial: int) -> float:
    """The level of the n-th trial, 1, 2, …: delta / (n (n + 1)), which adds up to delta over any number of trials."""
    return delta / (trial * (trial + 1))


def _evidence(sums: Floats, largest: float) -> float:
    if largest <= _NOTHING:
        return 1.0  # no harm whatever makes the new one worse anywhere, and it is the same everywhere
    capitals = np.log1p(-np.outer(_STAKES, sums / largest)).sum(axis=1)
    best = float(capitals.max())
    return math.exp(min(700.0, best + math.log(float(np.exp(capitals - best).mean()))))


def _excess(expected: Floats, by_rival: Floats, harm: Floats | float) -> Floats:
    """(p - y)² - (p' - y)² as a product: by their rounding, nearly equal squares would exceed the worst case."""
    return np.asarray((expected - by_rival) * (expected + by_rival - 2.0 * harm))
