"""The comparison of the books in words: what was compared, what differs, and why that may be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from router.ledger.names import TEACHER_ONLY
from router.ledger.pricing import usd
from router.report.books import CounterDifference, Difference, HourlyVerdict
from router.report.report import CounterCheck, Report

SHOWN = 20
RUNNING_S = 1.0


def explain(report: Report) -> list[str]:
    """Rows against hourly sums, then rows against counters."""
    return [*_hours(report), *_counters(report)]


def _hours(report: Report) -> Iterator[str]:
    verdict = report.hours
    if verdict is None:
        yield "hourly sums: not compared, no Redis is configured"
        return
    if not verdict.differences and verdict.compared:
        yield f"hourly sums: equal to the rows to the nano-dollar in {_hours_text(verdict.compared)}{_moving(verdict)}"
    elif not verdict.compared and not verdict.differences:
        yield "hourly sums: none to compare, no money was spent in whole hours of this period"
    if verdict.unreachable:
        yield (
            f"hourly sums: not compared {_span(verdict.unreachable)}: rows were trimmed from the bounded stream, "
            f"the oldest was written at {_hour(report.reach.oldest_s or 0)} (evidence.decisions_max)"
        )
    if verdict.differences:
        wrong = len({difference.hour for difference in verdict.differences})
        yield f"hourly sums: DIFFER from the rows in {_hours_text(wrong)} of {verdict.compared}{_moving(verdict)}"
    for difference in verdict.differences[:SHOWN]:
        yield f"  {_field(difference)}: {_by_how_much(difference)}; {likely_reason(difference)}"
    yield from _more(verdict.differences)


def _moving(verdict: HourlyVerdict) -> str:
    if not verdict.in_motion:
        return ""
    return f" (running requests: {verdict.in_motion} sums grew while they were read, the rows lie between)"


def likely_reason(difference: Difference) -> str:
    """What usually makes such a difference; the books alone cannot prove it."""
    if difference.rows_nano > difference.sums_nano:
        if not difference.sums_nano:
            return "Redis has no such sum: the ledger's server lost data, or the rows are older than the ledger"
        return "the ledger's server lost its last writes, or a gateway was killed before it reported them"
    return (
        "rows are missing: still in a gateway's queue or spool, dropped (records_dropped_total), "
        "or lost with a gateway or an evidence server that was killed"
    )


def _field(difference: Difference) -> str:
    route, tenant, key, model, origin = difference.name
    names = [("route", route), ("tenant", tenant), ("key", key), ("model", model)]
    what = "teacher-only estimate" if origin == TEACHER_ONLY else f"origin {origin}"
    return f"{_hour(difference.hour)} {what}" + "".join(f", {name} {value}" for name, value in names if value)


def _by_how_much(difference: Difference) -> str:
    less = difference.rows_nano - difference.sums_nano
    return f"rows {usd(difference.rows_nano)}, sums {usd(difference.sums_nano)} USD ({'+' * (less > 0)}{usd(less)})"


def _counters(report: Report) -> Iterator[str]:
    check = report.counters
    if check is None:
        yield "counters: not compared; --metrics URL names a gateway, once for each"
        return
    started = _moment(min(check.starts))
    if check.verdict is None:
        yield f"counters: not compared: the gateways started at {started}, and rows since then were trimmed"
        return
    if check.verdict.differences:
        wrong = len(check.verdict.differences)
        yield f"counters: DIFFER from the rows since {started} in {wrong} of {check.verdict.compared} series"
    else:
        series = f"{check.verdict.compared} series{_busy(check)}"
        yield f"counters: equal to the rows since {started} within 1e-9 in {series}"
    for difference in check.verdict.differences[:SHOWN]:
        yield f"  {_series(difference)}: rows {difference.rows_usd:.9f}, counter {difference.counter_usd:.9f} USD"
    yield from _more(check.verdict.differences)
    if check.verdict.differences:
        yield f"  {_counter_reason(check.starts)}"


def _busy(check: CounterCheck) -> str:
    if check.verdict is None or not check.verdict.in_motion:
        return ""
    return f" (running requests: {check.verdict.in_motion} grew while they were read, the rows lie between)"


def _counter_reason(starts: Sequence[float]) -> str:
    if max(starts) - min(starts) > RUNNING_S:
        return (
            "the gateways started at different times: rows of the one that ran before count on one side only; "
            "so do rows of gateways that --metrics does not name"
        )
    return (
        "likely: rows of a gateway that --metrics does not name, rows that were dropped or are in another machine's "
        "spool, or a gateway that was killed"
    )


def _series(difference: CounterDifference) -> str:
    name, labels = difference.series
    return f"{name}{{{', '.join(label or '-' for label in labels)}}}"


def _more(differences: Sequence[object]) -> Iterator[str]:
    if len(differences) > SHOWN:
        yield f"  and {len(differences) - SHOWN} more; --format json has all"


def _hours_text(count: int) -> str:
    return f"{count} hour" if count == 1 else f"{count} hours"


def _span(hours: Sequence[int]) -> str:
    return _hour(hours[0]) if len(hours) == 1 else f"from {_hour(hours[0])} to {_hour(hours[-1])}"


def _hour(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
