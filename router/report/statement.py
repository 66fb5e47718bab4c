"""Decision rows added up in one pass: money, tokens, calls and requests by day, route, tenant, key, model and origin.

A call counts on the line of its own model and origin. A request, and what the teacher alone would have cost for it,
counts once: on the line of its last call, which is the one that answered. So every column adds up, and the net savings
of a line are what it contributes to the whole: audits only cost, the student's answers save.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from router.record.row import DecisionRow
from router.report.period import Period
from router.report.ratio import Ratio

Dimension = Literal["day", "route", "tenant", "key", "model", "origin"]
DIMENSIONS: tuple[Dimension, ...] = ("day", "route", "tenant", "key", "model", "origin")
Key = tuple[str, ...]

QUARTER_S = 900  # days begin at multiples of it, in every time zone
UNKNOWN = Ratio()


@dataclass(slots=True)
class Sums:
    """What belongs to one line. Money in nano-USD; `estimated_nano`: the part whose usage the upstream did not report.

    `measured_nano`: what the teacher cost where it answered; `student_nano`: by route, what the usage of the student's
    answers costs at the teacher's prices.
    """

    requests: int = 0
    calls: int = 0
    input: int = 0
    cached_input: int = 0
    output: int = 0
    reasoning: int = 0
    cost_nano: int = 0
    estimated_nano: int = 0
    measured_nano: int = 0
    student_nano: dict[str, int] = field(default_factory=dict)

    def add(self, other: Sums) -> None:
        for name in NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for route, nano in other.student_nano.items():
            self.student_nano[route] = self.student_nano.get(route, 0) + nano


NUMBERS = tuple(name for name in Sums.__dataclass_fields__ if name != "student_nano")


@dataclass(frozen=True, slots=True)
class TeacherOnly:
    """What the teacher alone would have cost, nano-USD. `margin_nano`: half the 95% interval, None: not known.

    `estimated_share`: how much of it rests on the student's usage.
    """

    nano: int
    margin_nano: int | None
    estimated_share: float

    @property
    def interval_nano(self) -> tuple[int, int] | None:
        return None if self.margin_nano is None else (self.nano - self.margin_nano, self.nano + self.margin_nano)


def teacher_only(sums: Sums, ratios: Mapping[str, Ratio]) -> TeacherOnly:
    """Measured plus corrected estimates; routes are independent samples, so that the squares of their margins add.

    A route with too few pairs goes in uncorrected, and then there is no interval.
    """
    estimated, squares = 0.0, 0.0
    certain = True
    for route, nano in sums.student_nano.items():
        ratio = ratios.get(route, UNKNOWN)
        estimated += nano * (1.0 if ratio.value is None else ratio.value)
        if ratio.margin is None:
            certain = False
        else:
            squares += (nano * ratio.margin) ** 2
    total = sums.measured_nano + round(estimated)
    margin = round(math.sqrt(squares)) if certain else None
    return TeacherOnly(total, margin, estimated / total if total else 0.0)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the statement. `key`: the values of the dimensions it is grouped by, in their order."""

    key: Key
    sums: Sums
    teacher_only: TeacherOnly

    @property
    def net_savings_nano(self) -> int:
        return self.teacher_only.nano - self.sums.cost_nano


class Statement:
    """Collects rows; `by` says what the lines are grouped by. Memory grows with the lines, not with the rows."""

    def __init__(self, period: Period, by: tuple[Dimension, ...], teachers: Mapping[str, str]) -> None:
        self.period = period
        self.by = tuple(dimension for dimension in DIMENSIONS if dimension in by)
        self._teachers = teachers
        self._lines: dict[Key, Sums] = {}
        self._days: dict[int, str] = {}
        self._picks = tuple(dimension in by for dimension in DIMENSIONS)

    def add(self, row: DecisionRow) -> None:
        """Count a row that lies in the period."""
        if row.t not in self.period:
            return
        day = self.day(row.t)
        line = None
        for charge in row.ch:
            line = self._line((day, row.rt, row.tn, row.k, charge.model, charge.origin))
            line.calls += 1
            line.input += charge.input
            line.cached_input += charge.cached
            line.output += charge.output
            line.reasoning += charge.reasoning
            line.cost_nano += charge.nano
            if charge.estimated:
                line.estimated_nano += charge.nano
        if row.o == "shadow":
            return
        line = line or self._line((day, row.rt, row.tn, row.k, "", ""))
        line.requests += 1
        if row.to and basis(row, self._teachers) == "measured":
            line.measured_nano += row.to
        elif row.to:
            line.student_nano[row.rt] = line.student_nano.get(row.rt, 0) + row.to

    def lines(self, ratios: Mapping[str, Ratio]) -> list[Line]:
        """In the order of their keys."""
        return [Line(key, sums, teacher_only(sums, ratios)) for key, sums in sorted(self._lines.items())]

    def grouped(self, by: tuple[Dimension, ...], ratios: Mapping[str, Ratio]) -> Iterator[Line]:
        """The lines added up by fewer dimensions; by none: one line with the total."""
        places = [place for place, dimension in enumerate(self.by) if dimension in by]
        groups: dict[Key, Sums] = {} if places else {(): Sums()}
        for key, sums in sorted(self._lines.items()):
            groups.setdefault(tuple(key[place] for place in places), Sums()).add(sums)
        yield from (Line(key, sums, teacher_only(sums, ratios)) for key, sums in groups.items())

    def total(self, ratios: Mapping[str, Ratio]) -> Line:
        return next(self.grouped((), ratios))

    def _line(self, full: tuple[str, str, str, str, str, str]) -> Sums:
        key = tuple(value for value, picked in zip(full, self._picks, strict=True) if picked)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Sums()
        return line

    def day(self, time: float) -> str:
        """The day of a Unix time, as YYYY-MM-DD."""
        quarter = int(time // QUARTER_S)
        day = self._days.get(quarter)
        if day is None:
            day = self._days[quarter] = f"{datetime.fromtimestamp(quarter * QUARTER_S, self.period.zone):%Y-%m-%d}"
        return day


def basis(row: DecisionRow, teachers: Mapping[str, str]) -> Literal["measured", "estimated"]:
    """Whose usage `row.to` has priced: the teacher's own, or the student's in its place.

    Where no arm came to answer, the last call tells; `teachers`: the name of each route's teacher.
    """
    if row.a:
        return "measured" if row.a == "t" else "estimated"
    return "measured" if row.ch and row.ch[-1].model == teachers.get(row.rt) else "estimated"
