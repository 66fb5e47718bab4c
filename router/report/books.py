"""The other books, beside the rows: Redis' hourly sums and the gateways' counters; and where they disagree.

Running requests change all books while they are read. So each other book is read before the rows and after them: what
lies between its two readings is in motion, what lies outside is a discrepancy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from router.ledger.gpu import GPU_BILL_ORIGIN
from router.ledger.names import HOUR_S, TEACHER_ONLY
from router.record.row import DecisionRow
from router.report.statement import basis

Field = tuple[str, str, str, str, str]  # route, tenant, key, model, origin
HourlySums = dict[int, dict[Field, int]]  # start of the hour -> nano-USD

TOLERANCE = 1e-9  # relative, of counters that add up floats


def read_field(name: str) -> Field:
    """The part of an hourly sum's field that says what it is of, without the worker. Raises ValueError."""
    route, tenant, key, model, origin = json.loads(name.partition("|")[2])
    return route, tenant, key, model, origin


class HourlyRows:
    """The rows' own hourly sums, nano-USD."""

    def __init__(self, hours: range) -> None:
        self._hours = hours
        self.sums: HourlySums = {}

    def add(self, row: DecisionRow) -> None:
        hour = int(row.t) // HOUR_S * HOUR_S
        if hour not in self._hours:
            return
        sums = self.sums.setdefault(hour, {})
        for charge in row.ch:
            name = (row.rt, row.tn, row.k, charge.model, charge.origin)
            sums[name] = sums.get(name, 0) + charge.nano
        if row.to:
            name = (row.rt, row.tn, row.k, "", TEACHER_ONLY)
            sums[name] = sums.get(name, 0) + row.to


@dataclass(frozen=True, slots=True)
class Difference:
    """One sum on which rows and Redis disagree, nano-USD."""

    hour: int
    name: Field
    rows_nano: int
    sums_nano: int


@dataclass(frozen=True, slots=True)
class HourlyVerdict:
    """`compared`: hours with money in them; `unreachable`: those whose rows were trimmed, in part or all."""

    compared: int = 0
    in_motion: int = 0
    unreachable: tuple[int, ...] = ()
    differences: tuple[Difference, ...] = ()


def compare_hours(rows: HourlySums, before: HourlySums, after: HourlySums, oldest_s: float | None) -> HourlyVerdict:
    """Rows and Redis, hour by hour and field by field.

    `oldest_s`: when the oldest row kept was written, if older ones may have been trimmed. What began before it cannot
    be compared, except that rows must never be more than the sums.
    """
    compared = in_motion = 0
    unreachable: list[int] = []
    differences: list[Difference] = []
    for hour in sorted(rows.keys() | after.keys()):
        of_rows, of_sums = rows.get(hour, {}), after.get(hour, {})
        out_of_reach = oldest_s is not None and hour < oldest_s
        moving, wrong = _compare_hour(hour, of_rows, before.get(hour, {}), of_sums, out_of_reach)
        differences += wrong
        in_motion += moving
        if out_of_reach and not wrong and of_rows != of_sums:
            unreachable.append(hour)
        elif any(of_rows.values()) or any(of_sums.values()):
            compared += 1
    return HourlyVerdict(compared, in_motion, tuple(unreachable), tuple(differences))


def _compare_hour(
    hour: int, rows: Mapping[Field, int], before: Mapping[Field, int], after: Mapping[Field, int], out_of_reach: bool
) -> tuple[int, list[Difference]]:
    """How many fields are in motion, and those that differ."""
    moving, differences = 0, []
    for name in sorted(rows.keys() | after.keys()):
        of_rows, then, now = rows.get(name, 0), before.get(name, 0), after.get(name, 0)
        if of_rows == now or name[4] == GPU_BILL_ORIGIN:
            continue
        if then <= of_rows <= now:
            moving += 1
        elif not (out_of_reach and of_rows < now):
            differences.append(Difference(hour, name, of_rows, now))
    return moving, differences


Series = tuple[str, tuple[str, ...]]  # name of the metric, its labels' values
COST = "cost_usd_total"
TEACHER = "teacher_only_cost_usd_total"


@dataclass(slots=True)
class Counters:
    """What gateways count, USD by series; `started` are the times their oldest workers began."""

    usd: dict[Series, float] = field(default_factory=dict)
    started: list[float] = field(default_factory=list)


class CountedRows:
    """What counters that began at `start` must say by the rows."""

    def __init__(self, start: float, teachers: Mapping[str, str]) -> None:
        self._start = start
        self._teachers = teachers
        self.nano: dict[Series, int] = {}

    def add(self, row: DecisionRow) -> None:
        if row.t < self._start:
            return
        for charge in row.ch:
            self._count((COST, (row.rt, row.tn, charge.model, charge.origin)), charge.nano)
        if row.to:
            self._count((TEACHER, (row.rt, row.tn, basis(row, self._teachers))), row.to)

    def _count(self, series: Series, nano: int) -> None:
        self.nano[series] = self.nano.get(series, 0) + nano


@dataclass(frozen=True, slots=True)
class CounterDifference:
    series: Series
    rows_usd: float
    counter_usd: float


@dataclass(frozen=True, slots=True)
class CounterVerdict:
    compared: int
    in_motion: int
    differences: tuple[CounterDifference, ...]


def compare_counters(rows: Mapping[Series, int], before: Counters, after: Counters) -> CounterVerdict:
    """Rows and counters, series by series, within `TOLERANCE`."""
    compared = moving = 0
    differences = []
    for series in sorted(rows.keys() | after.usd.keys()):
        of_rows, then, now = rows.get(series, 0) / 1e9, before.usd.get(series, 0.0), after.usd.get(series, 0.0)
        compared += 1
        slack = TOLERANCE * max(of_rows, now)
        if abs(of_rows - now) <= slack:
            continue
        if then - slack <= of_rows <= now + slack:
            moving += 1
        else:
            differences.append(CounterDifference(series, of_rows, now))
    return CounterVerdict(compared, moving, tuple(differences))


def add_up(fields: Iterable[tuple[str, int]]) -> dict[Field, int]:
    """An hour's hash as Redis has it, summed over workers."""
    sums: dict[Field, int] = {}
    for name, nano in fields:
        key = read_field(name)
        sums[key] = sums.get(key, 0) + nano
    return sums


@dataclass(frozen=True, slots=True)
class GpuBill:
    """Of one model that is paid by the hour, on one day, nano-USD. `idle_nano`: what no request paid for.

    `attributed_nano`: what calls were charged in the hours that have a bill.
    """

    day: str
    model: str
    bill_nano: int
    attributed_nano: int

    @property
    def idle_nano(self) -> int:
        return self.bill_nano - self.attributed_nano


def gpu_bills(sums: HourlySums, day: Callable[[float], str]) -> list[GpuBill]:
    """By day and model; an hour belongs to the day in which it begins.

    An hour without a bill is left out: there the model was paid by the token, and no machine was paid for.
    """
    bill: dict[tuple[str, str], int] = {}
    attributed: dict[tuple[str, str], int] = {}
    for hour, of_hour in sums.items():
        billed = {name[3] for name in of_hour if name[4] == GPU_BILL_ORIGIN}
        for (_, _, _, model, origin), nano in of_hour.items():
            if model not in billed:
                continue
            book, key = bill if origin == GPU_BILL_ORIGIN else attributed, (day(hour), model)
            book[key] = book.get(key, 0) + nano
    return [GpuBill(*key, nano, attributed.get(key, 0)) for key, nano in sorted(bill.items())]
