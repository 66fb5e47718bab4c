"""How well an order of requests buys quality: the curve of mean score over the teacher's share, and figures of it.

Source of the figures: Ong et al. 2024, RouteLLM (arXiv:2406.18665): PGR(share) = (score - student) / (teacher -
student), APGR is its area over the share, CPT(x) the share that a PGR of x takes. RouteLLM computes them at ten
thresholds; here every share counts. Requests that a policy holds to be equally worth the teacher are taken in random
order, in expectation: between the two ends of a tie the curve is a straight line, so the figures know no order of rows.

`worth`: one number a request, higher = more worth the teacher. `teacher`, `student`: scores of their answers (or any
other amount that is averaged, such as their costs). `weights`: how often a row counts; left out, once. All of shape
(requests,). The figures know nothing of a threshold's calibration: they judge the order alone.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.bounds import Floats, Interval


class Undefined(ValueError):
    """A figure that the rows do not define: the teacher is not better than the student, or there is no row."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Mean score by the teacher's share, piecewise linear. `shares` rises from 0 to 1; both have shape (points,)."""

    shares: Floats
    scores: Floats

    @property
    def student(self) -> float:
        """The mean score without the teacher."""
        return float(self.scores[0])

    @property
    def teacher(self) -> float:
        """The mean score of the teacher alone."""
        return float(self.scores[-1])

    @property
    def auc(self) -> float:
        """Area under the score over the teacher's share: the mean score at a share drawn at random."""
        return float(np.diff(self.shares) @ (self.scores[1:] + self.scores[:-1]) / 2)

    @property
    def apgr(self) -> float:
        """Average performance gap recovered; 0.5 for a random order. Raises Undefined without a gap."""
        return (self.auc - self.student) / self._gap()

    def at(self, shares: Floats) -> Floats:
        """The mean score at each share."""
        return np.interp(shares, self.shares, self.scores)

    def cpt(self, recovered: float) -> float:
        """Call-performance threshold: the smallest share with a PGR of `recovered`. Raises Undefined without a gap."""
        return self.share_for(self.student + recovered * self._gap())

    def share_for(self, score: float) -> float:
        """The smallest share of the teacher with at least this mean score. Raises Undefined where no share has it."""
        enough = np.flatnonzero(self.scores >= score - 1e-12)
        if len(enough) == 0:
            raise Undefined(f"no share of the teacher reaches a mean score of {score:.4f}")
        first = int(enough[0])
        if first == 0:
            return 0.0
        ends = slice(first - 1, first + 1)
        return float(np.interp(score, self.scores[ends], self.shares[ends]))

    def _gap(self) -> float:
        gap = self.teacher - self.student
        if gap <= 1e-12:
            raise Undefined(
                f"the teacher's mean score {self.teacher:.4f} is not above the student's {self.student:.4f}: "
                "there is no gap to recover"
            )
        return gap


class Ranking:
    """An order of requests, sorted once, from which curves are drawn for many `weights`."""

    __slots__ = ("_order", "_starts", "_student", "_teacher")

    def __init__(self, worth: Floats, teacher: Floats, student: Floats) -> None:
        """Raises Undefined without a request, ValueError for shapes that differ and for numbers that are not finite."""
        arrays = [np.asarray(array, dtype=np.float64) for array in (worth, teacher, student)]
        if any(array.shape != arrays[0].shape or array.ndim != 1 for array in arrays):
            raise ValueError(f"shapes differ: {', '.join(str(array.shape) for array in arrays)}")
        if not all(np.isfinite(array).all() for array in arrays):
            raise ValueError("worths and scores must be finite numbers")
        if len(arrays[0]) == 0:
            raise Undefined("there is no row to judge by")
        self._order = np.argsort(-arrays[0], kind="stable")
        ranked = arrays[0][self._order]
        self._starts = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1])))
        self._teacher = arrays[1][self._order]
        self._student = arrays[2][self._order]

    def curve(self, weights: Floats | None = None) -> Curve:
        """Raises Undefined where all weights are 0."""
        counts = np.ones(len(self._order)) if weights is None else np.asarray(weights, dtype=np.float64)[self._order]
        total = float(counts.sum())
        if total <= 0:
            raise Undefined("all rows have weight 0")
        sizes = np.add.reduceat(counts, self._starts)
        gains = np.add.reduceat(counts * (self._teacher - self._student), self._starts)
        weak = float(counts @ self._student) / total
        shares = np.concatenate(([0.0], np.cumsum(sizes) / total))
        shares[-1] = 1.0
        return Curve(shares, weak + np.concatenate(([0.0], np.cumsum(gains) / total)))


def curve(worth: Floats, teacher: Floats, student: Floats, weights: Floats | None = None) -> Curve:
    """The curve of one order. Raises as `Ranking`."""
    return Ranking(worth, teacher, student).curve(weights)


def apgr(worth: Floats, teacher: Floats, student: Floats, weights: Floats | None = None) -> float:
    """Average performance gap recovered. Raises Undefined where the teacher is not better than the student."""
    return curve(worth, teacher, student, weights).apgr


def resamples(
    statistic: Callable[[Floats], Floats], rows: int, draws: int, seed: int, groups: NDArray[np.int64] | None = None
) -> Floats:
    """The statistic of `draws` bootstrap samples, stacked: shape (draws, ...).

    The statistic gets how often each row was drawn, shape (rows,), and gives nan for what that does not define.
    `groups`: one number a row, from 0 to the number of groups - 1; rows of a group are drawn together. Figures of
    several policies in one statistic, subtracted afterwards, make a paired comparison.
    """
    rng = np.random.default_rng(seed)
    members = np.arange(rows) if groups is None else groups
    size = int(members.max()) + 1
    return np.stack(
        [
            np.asarray(statistic(np.bincount(rng.integers(size, size=size), minlength=size)[members].astype(float)))
            for _ in range(draws)
        ]
    )


def interval(drawn: Floats, confidence: float = 0.95) -> Interval | None:
    """The percentile interval of resampled values, shape (draws,); None where a twentieth or more are undefined."""
    found = drawn[np.isfinite(drawn)]
    if len(found) <= 0.95 * len(drawn):
        return None
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def defined(figure: Callable[[], float]) -> float:
    """The figure, or nan where it is Undefined."""
    try:
        return figure()
    except Undefined:
        return math.nan


def paired_apgr(
    ours: Floats, theirs: Floats, teacher: Floats, student: Floats, *, draws: int = 1000, seed: int = 0
) -> tuple[float, Interval | None]:
    """How much more APGR `ours` has than `theirs`, both of shape (seeds, requests), and its paired 95% interval.

    The mean over seeds; requests are resampled, the fits are not. Raises Undefined where there is no gap.
    """
    rankings = [[Ranking(worth, teacher, student) for worth in np.atleast_2d(worths)] for worths in (ours, theirs)]

    def gain(weights: Floats | None) -> float:
        first, second = (np.mean([ranking.curve(weights).apgr for ranking in each]) for each in rankings)
        return float(first - second)

    drawn = resamples(lambda weights: np.array(defined(lambda: gain(weights))), len(teacher), draws, seed)
    return gain(None), interval(drawn)


def places_within(worth: Floats, sets: Sequence[Hashable]) -> Floats:
    """Each worth as its mean rank in its own set, from 0 to 1; shape (rows,).

    A curve of these takes the same share of every set, so that it shows what an order knows beyond telling sets apart.
    """
    found = np.empty(len(worth))
    members: dict[Hashable, list[int]] = defaultdict(list)
    for place, name in enumerate(sets):
        members[name].append(place)
    for places in members.values():
        _, rank, counts = np.unique(worth[places], return_inverse=True, return_counts=True)
        found[places] = (np.cumsum(counts) - counts / 2)[rank] / len(places)
    return found
