"""What is said of policies on scored rows: figures with intervals, next to random, oracle and either model alone.

Figures are means over the seeds of a policy; their intervals (percentile bootstrap over groups of rows) speak of other
requests like these, not of other folds, nor of other traffic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from policies.bounds import Floats, Interval
from policies.judge.metrics import Ranking, Undefined, defined, interval, places_within, resamples
from policies.judge.rows import Row, TableError
from policies.learn.calibrate import auc
from policies.learn.folds import numbered

RANDOM, ORACLE = "random", "oracle"
GRID = np.linspace(0, 1, 101)
# Area figures; the teacher's share for a PGR of 50% and 80%; for 95% and 99% of the teacher's score; savings at those.
FIGURES = ("apgr", "apgr_within", "auc", "roc_auc", "cpt50", "cpt80", "share95", "share99", "saved95", "saved99")
ALONE = ("teacher", "student", "student_saves")


@dataclass(frozen=True, slots=True)
class Prices:
    """USD of one request at each model; only their ratio matters to the savings."""

    teacher_usd: float
    student_usd: float


@dataclass(frozen=True, slots=True)
class Contender:
    """`worth`: shape (seeds, rows), higher = more worth the teacher. `answers`: the student answers every request."""

    worth: Floats
    answers: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """None where the rows do not define it. `spread`: the standard deviation over seeds, None of one seed."""

    value: float | None
    interval: Interval | None = None
    spread: float | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """`figures` by the names of `FIGURES`; the mean score at each share of `GRID`, with a pointwise 95% band."""

    figures: Mapping[str, Figure]
    scores: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True)
class Judgement:
    """`alone`: mean scores of `teacher` and `student`, and what the student alone would save, `student_saves`.

    `gains`: how much more APGR the first policy has than each other one, paired.
    """

    rows: int
    datasets: int
    alone: Mapping[str, Figure]
    policies: Mapping[str, Judged]
    gains: Mapping[str, Figure]


def judge(
    rows: Sequence[Row], contenders: Mapping[str, Contender], prices: Prices | None = None, *, draws: int = 1000
) -> Judgement:
    """Judge at least one contender on the rows that its worths are of; `random` and `oracle` are put beside them.

    Without `prices` the rows' own costs give the savings; without those there are none. Raises TableError for rows
    without scores, ValueError for worths of another shape, metrics.Undefined without rows.
    """
    if not rows:
        raise Undefined("there is no row to judge by")
    table = _Table(rows, prices)
    beside = {RANDOM: Contender(np.zeros((1, len(rows)))), ORACLE: Contender((table.teacher - table.student)[None])}
    panels = {name: _Panel(table, contender) for name, contender in (dict(contenders) | beside).items()}

    def statistic(weights: Floats) -> Floats:
        return np.concatenate([table.alone(weights), *(panel.mean(weights) for panel in panels.values())])

    drawn = resamples(statistic, len(rows), draws, 0, table.groups)
    alone, *parts = np.split(drawn, _splits(len(panels)), axis=1)
    judged = {name: _judged(panel, part) for (name, panel), part in zip(panels.items(), parts, strict=True)}
    apgrs = {name: part[:, FIGURES.index("apgr")] for name, part in zip(panels, parts, strict=True)}
    return Judgement(
        rows=len(rows),
        datasets=len(set(table.datasets)),
        alone=_figures(ALONE, table.alone(None)[None], alone),
        policies=judged,
        gains=_gains(judged, apgrs, list(contenders)),
    )


class _Table:
    """The rows as columns, shape (rows,)."""

    def __init__(self, rows: Sequence[Row], prices: Prices | None) -> None:
        self.teacher, self.student = _scores(rows, "teacher"), _scores(rows, "student")
        self.harm = np.clip(self.teacher - self.student, 0, None)
        self.ones = np.ones(len(rows))
        self.datasets = [row.dataset for row in rows]
        self.groups = numbered([row.group for row in rows])
        costs = _costs(rows, prices)
        self.teacher_usd = costs[0] if costs is not None else None
        self.student_usd = costs[1] if costs is not None else None

    def alone(self, weights: Floats | None) -> Floats:
        """The values of `ALONE`."""
        saves = math.nan
        if self.student_usd is not None:
            saves = self.saved(float(np.average(self.student_usd, weights=weights)), weights)
        teacher, student = (np.average(scores, weights=weights) for scores in (self.teacher, self.student))
        return np.array([teacher, student, saves])

    def saved(self, usd: float, weights: Floats | None) -> float:
        """The share of the teacher's cost that a mean cost of `usd` a request leaves; nan where it costs nothing."""
        if self.teacher_usd is None:
            return math.nan
        teacher_only = float(np.average(self.teacher_usd, weights=weights))
        return 1 - usd / teacher_only if teacher_only > 0 else math.nan


class _Panel:
    """One contender's rankings, and its figures and curve for any weights of the rows."""

    def __init__(self, table: _Table, contender: Contender) -> None:
        self._table = table
        self._worth = np.atleast_2d(np.asarray(contender.worth, dtype=np.float64))
        self._rankings = [Ranking(worth, table.teacher, table.student) for worth in self._worth]
        within = [places_within(worth, table.datasets) for worth in self._worth]
        self._within = [Ranking(places, table.teacher, table.student) for places in within]
        self._costs: list[Ranking] = []
        if table.teacher_usd is not None and table.student_usd is not None:
            with_teacher = table.teacher_usd + (table.student_usd if contender.answers else 0)
            self._costs = [Ranking(worth, with_teacher, table.student_usd) for worth in self._worth]

    def each(self, weights: Floats | None) -> Floats:
        """`FIGURES` and the score at each share of `GRID`, nan where undefined; shape (seeds, figures + grid)."""
        return np.stack([self._one(seed, weights) for seed in range(len(self._worth))])

    def mean(self, weights: Floats | None) -> Floats:
        """The same as a mean over the seeds, shape (figures + grid,)."""
        return np.asarray(self.each(weights).mean(axis=0))

    def _one(self, seed: int, weights: Floats | None) -> Floats:
        curve = self._rankings[seed].curve(weights)
        within = self._within[seed].curve(weights)
        table = self._table
        kept = [curve.share_for(share * curve.teacher) for share in (0.95, 0.99)]
        figures = [
            defined(lambda: curve.apgr),
            defined(lambda: within.apgr),
            curve.auc,
            auc(self._worth[seed], table.harm, table.ones if weights is None else weights),
            defined(lambda: curve.cpt(0.5)),
            defined(lambda: curve.cpt(0.8)),
            *kept,
            *self._saved(seed, kept, weights),
        ]
        return np.concatenate((figures, curve.at(GRID)))

    def _saved(self, seed: int, shares: Sequence[float], weights: Floats | None) -> list[float]:
        if not self._costs:
            return [math.nan] * len(shares)
        spent = self._costs[seed].curve(weights)
        return [self._table.saved(float(usd), weights) for usd in spent.at(np.array(shares))]


def _scores(rows: Sequence[Row], name: Literal["teacher", "student"]) -> Floats:
    scores = [getattr(row, name) for row in rows]
    if None in scores:
        raise TableError(f"row {rows[scores.index(None)].id!r} has no score of the {name}")
    return np.array(scores, dtype=np.float64)


def _costs(rows: Sequence[Row], prices: Prices | None) -> tuple[Floats, Floats] | None:
    """Each row's costs at the teacher and at the student, in USD; None where one is not known."""
    if prices is not None:
        return np.full(len(rows), prices.teacher_usd), np.full(len(rows), prices.student_usd)
    known = [(row.teacher_usd, row.student_usd) for row in rows]
    if any(None in costs for costs in known):
        return None
    teacher, student = np.array(known, dtype=np.float64).T
    return teacher, student


def _splits(panels: int) -> list[int]:
    width = len(FIGURES) + len(GRID)
    return [len(ALONE) + place * width for place in range(panels)]


def _judged(panel: _Panel, drawn: Floats) -> Judged:
    figures, _ = np.split(panel.each(None), [len(FIGURES)], axis=1)
    drawn_figures, drawn_grid = np.split(drawn, [len(FIGURES)], axis=1)
    low, high = np.quantile(drawn_grid, [0.025, 0.975], axis=0)
    return Judged(_figures(FIGURES, figures, drawn_figures), panel.mean(None)[len(FIGURES) :], low, high)


def _figures(names: Sequence[str], each: Floats, drawn: Floats) -> dict[str, Figure]:
    """`each`: (seeds, names); `drawn`: (draws, names), means over the seeds."""
    return {name: _figure(each[:, place], drawn[:, place]) for place, name in enumerate(names)}


def _figure(each: Floats, drawn: Floats) -> Figure:
    value = float(each.mean())
    if math.isnan(value):
        return Figure(None)
    return Figure(value, interval(drawn), float(each.std(ddof=1)) if len(each) > 1 else None)


def _gains(judged: Mapping[str, Judged], drawn: Mapping[str, Floats], names: Sequence[str]) -> dict[str, Figure]:
    first, *others = names
    found = {name: judged[name].figures["apgr"].value for name in names}
    return {
        name: _figure(np.array([ours - theirs]), drawn[first] - drawn[name])
        for name in others
        if (ours := found[first]) is not None and (theirs := found[name]) is not None
    }
