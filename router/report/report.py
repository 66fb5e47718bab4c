"""The whole report: the statement, the ratios that correct it, idle GPUs, and how the books compare."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import redis

from router.evidence.read import Evidence, Reach
from router.evidence.redis import connect_blocking
from router.evidence.writer import BATCH_WAIT_S
from router.ledger.names import HOUR_S
from router.report.books import (
    CountedRows,
    Counters,
    CounterVerdict,
    GpuBill,
    HourlyRows,
    HourlySums,
    HourlyVerdict,
    compare_counters,
    compare_hours,
    gpu_bills,
)
from router.report.period import Period
from router.report.ratio import Ratio, ratios
from router.report.sources import read_counters, read_sums
from router.report.statement import Dimension, Line, Statement
from router.settings import Settings

SECONDS_PER_DAY = 86_400
LATE = 4  # times that the other books are read again where they seem to lag behind the rows
SETTLE_S = 2 * BATCH_WAIT_S  # more than a gateway keeps rows before it writes them


@dataclass(frozen=True, slots=True)
class CounterCheck:
    """`verdict` None: the oldest row kept was written after the gateways' start. `starts`: when they began."""

    starts: tuple[float, ...]
    verdict: CounterVerdict | None


@dataclass(frozen=True, slots=True)
class Report:
    """`hours` None: there is no Redis. `counters` None: not asked for. `reach`: of the rows in Redis."""

    statement: Statement
    ratios: dict[str, Ratio]
    gpu: list[GpuBill]
    reach: Reach
    hours: HourlyVerdict | None
    counters: CounterCheck | None

    @property
    def lines(self) -> list[Line]:
        return self.statement.lines(self.ratios)

    @property
    def total(self) -> Line:
        return self.statement.total(self.ratios)

    @property
    def agrees(self) -> bool:
        """Whether nothing that was compared differs."""
        check = self.counters.verdict if self.counters else None
        return not (self.hours and self.hours.differences) and not (check and check.differences)


@dataclass(frozen=True, slots=True)
class OtherBooks:
    """One reading of what is kept beside the rows."""

    sums: HourlySums
    counters: Counters


class Books:
    """Reads them. `metrics`: the gateways' addresses."""

    def __init__(self, settings: Settings, metrics: Sequence[str], api_key: str | None, hours: range) -> None:
        self.hours = hours
        self._redis: redis.Redis | None = connect_blocking(settings, "ledger")
        self._metrics = metrics
        self._api_key = api_key

    @property
    def has_sums(self) -> bool:
        return self._redis is not None

    def read(self) -> OtherBooks:
        return OtherBooks(
            read_sums(self._redis, self.hours) if self._redis else {}, read_counters(self._metrics, self._api_key)
        )


def build_report(
    settings: Settings, period: Period, by: tuple[Dimension, ...], metrics: Sequence[str], api_key: str | None
) -> Report:
    """Read everything once, the other books twice. Raises ConfigError when a part does not answer."""
    evidence = Evidence(settings)
    teachers = {name: route.teacher for name, route in settings.config.routes.items()}
    books = Books(settings, metrics, api_key, _kept(period.hours(), settings))
    statement, hourly = Statement(period, by, teachers), HourlyRows(books.hours)
    before = books.read()
    started = min(before.counters.started, default=None)
    counted = None if started is None else CountedRows(started, teachers)
    settle_s = SETTLE_S + 2 * settings.config.ledger.sync_s
    time.sleep(settle_s)
    for row in evidence.rows(since=period.start if started is None else min(period.start, started)):
        statement.add(row)
        hourly.add(row)
        if counted:
            counted.add(row)
    corrections = ratios(pair for pair in evidence.pairs(since=period.start) if pair.time in period)
    reach = evidence.reach()
    oldest_s = reach.oldest_s if reach.trimmed else None
    for _ in range(LATE):
        time.sleep(settle_s)
        after = books.read()
        report = Report(
            statement,
            corrections,
            gpu_bills(after.sums, statement.day),
            reach,
            compare_hours(hourly.sums, before.sums, after.sums, oldest_s) if books.has_sums else None,
            _check(counted, before.counters, after.counters, oldest_s),
        )
        if report.agrees:
            break
    return report


def _check(
    counted: CountedRows | None, before: Counters, after: Counters, oldest_s: float | None
) -> CounterCheck | None:
    if counted is None:
        return None
    if oldest_s is not None and oldest_s > min(before.started):
        return CounterCheck(tuple(before.started), None)
    return CounterCheck(tuple(before.started), compare_counters(counted.nano, before, after))


def _kept(hours: range, settings: Settings) -> range:
    """Those that Redis still keeps."""
    oldest = int(time.time() - settings.config.ledger.sums_days * SECONDS_PER_DAY) // HOUR_S * HOUR_S + HOUR_S
    return range(max(hours.start, oldest), hours.stop, HOUR_S)
