"""A candidate policy next to the logged one: what each costs and loses per request, and the difference between them.

Both are judged on the same draws, so that the difference is far surer than either of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from policies.bounds import Floats
from policies.learn.folds import numbered
from policies.replay.estimate import Means, Population, doubly_robust, snips
from policies.replay.interval import Figure, difference, money, share
from policies.replay.log import Logged, Outcome

TEACHER, COST, LOSS = 0, 1, 2
LOGGED = 3  # where the logged policy's columns begin; the candidate's come first
# What is more with the candidate, what is less, and the difference in cost; see `_columns`.
MORE_TEACHER, LESS_TEACHER, MORE_LOSS, LESS_LOSS, MORE_COST = range(6, 11)


@dataclass(frozen=True, slots=True)
class Figures:
    """Per request. `teacher_share`: of the answers that clients get; `loss`: of all requests, those answered by the
    student and harmfully different. Of a difference: candidate less logged."""

    teacher_share: Figure
    cost_usd: Figure
    loss: Figure


@dataclass(frozen=True, slots=True)
class Comparison:
    """By one estimator. `effective`: Kish's number of equally weighted draws."""

    candidate: Figures
    logged: Figures
    difference: Figures
    effective: float


@dataclass(frozen=True, slots=True)
class Replay:
    """`doubly_robust`: None where the log's rows are not there. `pairs`, and of how many `conversations`.

    `best`: the doubly robust figures where there are some.
    """

    snips: Comparison
    doubly_robust: Comparison | None
    pairs: int
    conversations: int

    @property
    def best(self) -> Comparison:
        return self.doubly_robust or self.snips


@dataclass(frozen=True, slots=True)
class Known:
    """Shares of the teacher that are known of all requests, not only of the audited ones; None: they are estimated."""

    candidate: float | None = None
    logged: float | None = None


def compare(
    requests: Sequence[Logged],
    logged: Sequence[Outcome],
    candidate: Sequence[Outcome],
    delta: float,
    population: Population | None = None,
    known: Known | None = None,
) -> Replay:
    """The figures with intervals that fail with a probability of about `delta`, each by itself.

    `logged`: what became of each request; `candidate`: what would. Raises ValueError without requests.
    """
    if not requests:
        raise ValueError("a replay needs at least one request")
    columns = _columns(logged, candidate)
    weights = np.array([1 / each.probability for each in requests])
    clusters = numbered([each.conversation for each in requests])
    plain = snips(columns, weights, clusters)
    sharp = doubly_robust(columns, weights, clusters, population) if population is not None else None
    return Replay(
        _comparison(columns, plain, delta, known or Known()),
        _comparison(columns, sharp, delta, known or Known()) if sharp is not None else None,
        plain.draws,
        plain.clusters,
    )


def _columns(logged: Sequence[Outcome], candidate: Sequence[Outcome]) -> Floats:
    ours, theirs = _matrix(logged), _matrix(candidate)
    apart = theirs - ours
    shares = [apart[:, TEACHER], apart[:, LOSS]]
    parts = [part for each in shares for part in (np.maximum(each, 0.0), np.maximum(-each, 0.0))]
    return np.column_stack([theirs, ours, *parts, apart[:, COST]])


def _matrix(outcomes: Sequence[Outcome]) -> Floats:
    return np.array([(each.teacher, each.cost_usd, each.loss) for each in outcomes])


def _comparison(columns: Floats, means: Means, delta: float, known: Known) -> Comparison:
    told = _Told(columns, means, delta)
    candidate = _with_share(told.figures(0), known.candidate)
    logged = _with_share(told.figures(LOGGED), known.logged)
    apart = Figures(told.apart(MORE_TEACHER, LESS_TEACHER), told.money(MORE_COST), told.apart(MORE_LOSS, LESS_LOSS))
    teacher_share = _less(candidate.teacher_share, logged.teacher_share, apart.teacher_share)
    if known.logged is not None and known.candidate is None and told.varies(LOGGED + TEACHER):
        teacher_share = apart.teacher_share
        candidate = replace(candidate, teacher_share=_moved(known.logged, teacher_share))
    return Comparison(
        candidate=candidate,
        logged=logged,
        difference=replace(
            apart,
            teacher_share=teacher_share,
            loss=_less(candidate.loss, logged.loss, apart.loss),
        ),
        effective=means.effective,
    )


def _with_share(figures: Figures, teacher_share: float | None) -> Figures:
    """The student loses at most what it answers."""
    if teacher_share is None:
        return figures
    most = 1 - teacher_share
    value, low, high = (min(each, most) for each in (figures.loss.value, figures.loss.low, figures.loss.high))
    return replace(
        figures, teacher_share=Figure(teacher_share, teacher_share, teacher_share), loss=Figure(value, low, high)
    )


def _less(candidate: Figure, logged: Figure, apart: Figure) -> Figure:
    """The difference, which is exact where the logged figure is."""
    if logged.low < logged.high:
        return apart
    known = logged.value
    return Figure(candidate.value - known, candidate.low - known, candidate.high - known)


def _moved(known: float, apart: Figure) -> Figure:
    """A share that differs by `apart` from a known one: no surer than the draws that both are seen on say."""
    return Figure(*(min(1.0, max(0.0, known + each)) for each in (apart.value, apart.low, apart.high)))


class _Told:
    """Intervals of the columns' means."""

    def __init__(self, columns: Floats, means: Means, delta: float) -> None:
        self._columns = columns
        self._means = means
        self._delta = delta
        self._covariance = means.covariance()
        self._skewness = means.skewness()

    def figures(self, first: int) -> Figures:
        return Figures(self.share(first + TEACHER), self.money(first + COST), self.share(first + LOSS))

    def share(self, column: int) -> Figure:
        values = self._columns[:, column]
        value, largest = float(self._means.values[column]), float(values.max()) or 1.0
        if 0 < largest == values.min() < 1:  # the same chance for every request: nothing of it was sampled
            return Figure(largest, largest, largest)
        draws = self._means.effective if self.varies(column) else self._means.independent
        return share(value, self._variance(column), draws, self._delta, largest)

    def varies(self, column: int) -> bool:
        """Whether the draws differ in it."""
        return bool(np.ptp(self._columns[:, column]) > 0)

    def money(self, column: int) -> Figure:
        value, skewness = float(self._means.values[column]), float(self._skewness[column])
        return money(value, self._variance(column), skewness, self._means.independent - 1, self._delta)

    def apart(self, more: int, less: int) -> Figure:
        values = self._columns[:, more] - self._columns[:, less]
        if values.min() == values.max() and 0 < abs(values[0]) < 1:  # likewise
            return Figure(float(values[0]), float(values[0]), float(values[0]))
        return difference(
            self.share(more),
            self.share(less),
            float(self._covariance[more, less]),
            (self._variance(more), self._variance(less)),
        )

    def _variance(self, column: int) -> float:
        return float(self._covariance[column, column])
