"""`distill-router disagreements tail|stats`: the pairs as a person wants them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from router.evidence.archive.source import sources
from router.evidence.read import Evidence
from router.evidence.records import ArmAnswer, LabelRecord, PairRecord
from router.evidence.streams import DISAGREEMENTS
from router.settings import load
from router.texts import texts

SHOWN = 60
COLUMNS = ("route", "served", "sample", "verdict", "triage", "pairs")


def run_tail(config_path: Path, count: int, follow: bool, *, as_json: bool) -> None:
    """Print the latest disagreements; with `follow` until interrupted."""
    console = Console()
    evidence = Evidence(load(config_path, upstream_keys=False))
    last, shown = evidence.latest(DISAGREEMENTS, count)
    labels = {label.id: label for label in sorted(evidence.labels(), key=lambda label: label.time)}
    for data in shown:
        _show(console, data, labels, as_json)
    if not shown and not as_json:
        console.print("No disagreement yet.")
    while follow:
        last, fresh = evidence.after(DISAGREEMENTS, last)
        for data in fresh:
            _show(console, data, {}, as_json)


def run_stats(config_path: Path, *, as_json: bool) -> None:
    """Pairs by route, what was served, why they were compared, verdict, and whose mistake it was; labels count."""
    source = sources(load(config_path, upstream_keys=False), ())
    counts = Counter(
        (record.route, record.served, record.sample, _verdict(record), triage_of(record)) for record in source.pairs()
    )
    rows = [dict(zip(COLUMNS, (*cells, n), strict=True)) for cells, n in sorted(counts.items())]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    if not rows:
        print("No pair yet.")
        return
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)


def prompt_of(record: PairRecord) -> str:
    """The texts of the request."""
    request = record.request
    return " ".join(texts(request.get("messages") or request.get("prompt") or request.get("input")))


def said(answer: ArmAnswer) -> str:
    """What an arm answered, its tool calls included."""
    if answer.error is not None:
        return f"(failed: {answer.error})"
    calls = [f"{call['name']}({call['arguments']})" for call in answer.tool_calls]
    return " ".join(filter(None, [answer.text, answer.refusal or "", *calls])).strip()


def printable(text: str, keep: str = "") -> str:
    """Without the terminal escapes that a client or a model may have written; characters in `keep` stay."""
    return "".join(c if c.isprintable() or c in keep else "\ufffd" for c in text)


def triage_of(record: PairRecord) -> str:
    return record.triage.label if record.triage else ""


def _verdict(record: PairRecord) -> str:
    return "agree" if record.verdict.same else record.verdict.kind


def _show(console: Console, data: bytes, labels: Mapping[str, LabelRecord], as_json: bool) -> None:
    if as_json:
        print(data.decode())
        return
    try:
        record = PairRecord.model_validate_json(data)
    except ValidationError:
        console.print("(a record of another version)", markup=False)
        return
    console.print(
        f"{record.id} {printable(record.route)}, {record.sample}, served by the {record.served}, "
        f"differs in {record.verdict.kind}: {_in_words(record, labels.get(record.id))}",
        markup=False,
        highlight=False,
        style="bold",
    )
    for name, text in (
        ("prompt", prompt_of(record)),
        ("teacher", said(record.teacher)),
        ("student", said(record.student)),
        *((("why", record.verdict.diff),) if record.verdict.kind == "comparator_failed" else ()),
    ):
        text = printable(text)
        console.print(
            f"  {name:8} {text if len(text) <= SHOWN else text[: SHOWN - 1] + '…'}", markup=False, highlight=False
        )


def _in_words(record: PairRecord, label: LabelRecord | None) -> str:
    """What a person said, else what was concluded when the pair was written."""
    if label is not None:
        return f"{label.label} (human)"
    return f"{record.triage.label} ({record.triage.basis})" if record.triage else "not triaged"
