"""The report for programs: CSV, Parquet and JSON. Money is exact: decimals with nine places, in JSON as text."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

from router.errors import ConfigError
from router.report.books import CounterDifference, Difference, GpuBill
from router.report.reconciliation import explain, likely_reason
from router.report.report import Report
from router.report.statement import DIMENSIONS, Line

Value = str | int | Decimal | None

COUNTS = ("requests", "calls", "input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens")
MONEY = (
    "cost_usd",
    "estimated_cost_usd",
    "teacher_only_usd",
    "teacher_only_low_usd",
    "teacher_only_high_usd",
    "teacher_only_measured_usd",
    "net_savings_usd",
    "net_savings_low_usd",
    "net_savings_high_usd",
)
COLUMNS = ("line", *DIMENSIONS, *COUNTS, *MONEY)
DIGITS, PLACES = 28, 9


def records(report: Report) -> list[dict[str, Value]]:
    """One for each line, then one for each day and model whose GPUs stood idle, told apart by `line`."""
    by = report.statement.by
    lines = [{"line": "requests", **dict(zip(by, line.key, strict=True)), **_values(line)} for line in report.lines]
    return [_complete(values) for values in [*lines, *map(_idle, report.gpu)]]


def write_csv(report: Report, file: IO[str]) -> None:
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for record in records(report):
        writer.writerow({name: _text(value) for name, value in record.items()})


def write_parquet(report: Report, path: Path) -> None:
    """Raises ConfigError where pyarrow is not installed."""
    require_parquet()
    import pyarrow
    import pyarrow.parquet

    money = pyarrow.decimal128(DIGITS, PLACES)
    schema = pyarrow.schema(
        [(name, pyarrow.string()) for name in ("line", *DIMENSIONS)]
        + [(name, pyarrow.int64()) for name in COUNTS]
        + [(name, money) for name in MONEY]
    )
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records(report), schema=schema), path)


def require_parquet() -> None:
    """Raises ConfigError that says which extra is missing."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise ConfigError(
            "--format parquet: pyarrow is missing; the extra `parquet` brings it: pip install 'distill-router[parquet]'"
        ) from None


def as_json(report: Report) -> str:
    """Everything that the table shows, and every discrepancy."""
    period = report.statement.period
    data = {
        "period": {
            "start": datetime.fromtimestamp(period.start, period.zone).isoformat(),
            "end": datetime.fromtimestamp(period.end, period.zone).isoformat(),
            "timezone": period.zone.key,
        },
        "by": report.statement.by,
        "lines": [_jsonable(record) for record in records(report)],
        "total": _jsonable(_values(report.total)) | {"estimated_share": report.total.teacher_only.estimated_share},
        "ratios": {
            route: {"pairs": ratio.pairs, "even_pairs": ratio.even_pairs, "ratio": ratio.value, "margin": ratio.margin}
            for route, ratio in sorted(report.ratios.items())
        },
        "gpu": [_jsonable(_bill(bill)) for bill in report.gpu],
        "reconciliation": _reconciliation(report),
    }
    return json.dumps(data, indent=2)


def _values(line: Line) -> dict[str, Value]:
    sums, alone = line.sums, line.teacher_only
    low, high = alone.interval_nano or (None, None)
    return {
        "requests": sums.requests,
        "calls": sums.calls,
        "input_tokens": sums.input,
        "cached_input_tokens": sums.cached_input,
        "output_tokens": sums.output,
        "reasoning_tokens": sums.reasoning,
        "cost_usd": _usd(sums.cost_nano),
        "estimated_cost_usd": _usd(sums.estimated_nano),
        "teacher_only_usd": _usd(alone.nano),
        "teacher_only_low_usd": _usd(low),
        "teacher_only_high_usd": _usd(high),
        "teacher_only_measured_usd": _usd(sums.measured_nano),
        "net_savings_usd": _usd(line.net_savings_nano),
        "net_savings_low_usd": None if low is None else _usd(low - sums.cost_nano),
        "net_savings_high_usd": None if high is None else _usd(high - sums.cost_nano),
    }


def _idle(bill: GpuBill) -> dict[str, Value]:
    return {"line": "gpu_idle", "day": bill.day, "model": bill.model, "cost_usd": _usd(bill.idle_nano)}


def _bill(bill: GpuBill) -> dict[str, Value]:
    return {
        "day": bill.day,
        "model": bill.model,
        "bill_usd": _usd(bill.bill_nano),
        "attributed_usd": _usd(bill.attributed_nano),
        "idle_usd": _usd(bill.idle_nano),
    }


def _reconciliation(report: Report) -> dict[str, Any]:
    hours, counters = report.hours, report.counters
    return {
        "agrees": report.agrees,
        "text": explain(report),
        "hourly_sums": hours
        and {
            "compared_hours": hours.compared,
            "in_motion": hours.in_motion,
            "not_compared": hours.unreachable,
            "differences": [_difference(one) | {"likely": likely_reason(one)} for one in hours.differences],
        },
        "counters": counters
        and counters.verdict
        and {
            "compared_series": counters.verdict.compared,
            "in_motion": counters.verdict.in_motion,
            "differences": [_counter_difference(one) for one in counters.verdict.differences],
        },
    }


def _difference(one: Difference) -> dict[str, Any]:
    route, tenant, key, model, origin = one.name
    money = {"rows_usd": _usd(one.rows_nano), "sums_usd": _usd(one.sums_nano)}
    names = {"hour": one.hour, "route": route, "tenant": tenant, "key": key, "model": model, "origin": origin}
    return names | _jsonable(money)


def _counter_difference(one: CounterDifference) -> dict[str, Any]:
    name, labels = one.series
    return {"series": name, "labels": labels, "rows_usd": one.rows_usd, "counter_usd": one.counter_usd}


def _complete(values: dict[str, Value]) -> dict[str, Value]:
    return {name: values.get(name) for name in COLUMNS}


def _jsonable(values: Mapping[str, Value]) -> dict[str, str | int | None]:
    return {name: _text(value) if isinstance(value, Decimal) else value for name, value in values.items()}


def _text(value: Value) -> str | int | None:
    return f"{value:f}" if isinstance(value, Decimal) else value


def _usd(nano: int | None) -> Decimal | None:
    return None if nano is None else Decimal(nano).scaleb(-PLACES)
