"""What stands beside a training file: where it comes from, what was left out and why, and whether it may be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from router.evidence.records import SCHEMA_VERSION, PairRecord
from router.export.choose import Filters
from router.export.formats.base import Format
from router.export.lint import REASONS
from router.export.prepare import Prepared
from router.ledger.pricing import NANO_PER_USD

MANIFEST_VERSION = 1


def manifest(
    done: Prepared, target: Format, filters: Filters, options: dict[str, Any], file: dict[str, Any], now: float
) -> dict[str, Any]:
    """`options`: of the command, beside the filters. `file`: name, bytes and sha256 of what was written."""
    records = [example.record for example in done.examples]
    return {
        "manifest_version": MANIFEST_VERSION,
        "created": _moment(now),
        "gateway_version": version("distill-router"),
        "record_schema_version": SCHEMA_VERSION,
        "format": target.name,
        "file": file | {"rows": len(done.rows)},
        "filters": asdict(filters) | {"since": _moment(filters.since) if filters.since else None},
        "options": options,
        "read": done.read,
        "written": len(records),
        "not_asked_for": dict(sorted(done.not_asked_for.items())),
        "left_out": {
            reason: {"count": len(ids), "why": REASONS.get(reason, _THINNED.get(reason, "")), "records": sorted(ids)}
            for reason, ids in sorted(done.left_out.items())
        },
        "redacted": dict(sorted(done.replaced.items())),
        "records": [record.id for record in records],
        "time": {"first": _moment(min(r.time for r in records)), "last": _moment(max(r.time for r in records))},
        "verdicts": _counts(example.verdict for example in done.examples),
        "verdict_basis": _counts(record.triage.basis for record in records if record.triage),
        "comparators": _counts(f"{record.verdict.comparator} {record.verdict.version}" for record in records),
        "routes": _counts(record.route for record in records),
        "splits": _counts(record.split for record in records),
        "licence": _by_model(records, lambda record: (record.teacher.model, record.training_use)),
        "teachers": _by_model(records, lambda record: (record.teacher.model, record.teacher_version)),
        "students": _by_model(records, lambda record: (record.student.model, record.student_version)),
        "prices_usd_per_mtok": _prices(records),
        "cost_usd": {
            "teacher": sum(record.teacher.cost_nano_usd for record in records) / NANO_PER_USD,
            "student": sum(record.student.cost_nano_usd for record in records) / NANO_PER_USD,
        },
    }


_THINNED = {
    "near_duplicate": "enough prompts that are nearly the same are in the file",
    "balance": "enough of its sort are in the file",
}


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _by_model(records: Iterable[PairRecord], of: Callable[[PairRecord], tuple[str, str]]) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for model, value in map(of, records):
        found.setdefault(model, Counter())[value] += 1
    return {model: dict(sorted(counts.items())) for model, counts in sorted(found.items())}


def _prices(records: Iterable[PairRecord]) -> dict[str, list[dict[str, Any]]]:
    """Every price that a model had while these records were written."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        for model, price in record.prices.items():
            prices = found.setdefault(model, [])
            if (dumped := price.model_dump(mode="json")) not in prices:
                prices.append(dumped)
    return dict(sorted(found.items()))


def _moment(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds")
