"""`distill-router disagreements tail|stats|export`: the pairs as a person or a file wants them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from router.errors import ConfigError
from router.evidence.read import Evidence
from router.evidence.records import PairRecord
from router.evidence.writer import DISAGREEMENTS
from router.request import texts
from router.settings import load

SHOWN = 60


def run_tail(config_path: Path, count: int, follow: bool, *, as_json: bool) -> None:
    """Print the latest disagreements; with `follow` until interrupted."""
    console = Console()
    evidence = Evidence(load(config_path, upstream_keys=False))
    last, shown = evidence.latest(DISAGREEMENTS, count)
    for data in shown:
        _show(console, data, as_json)
    while follow:
        last, fresh = evidence.after(DISAGREEMENTS, last)
        for data in fresh:
            _show(console, data, as_json)


def run_stats(config_path: Path, *, as_json: bool) -> None:
    """Pairs by route, what was served, and verdict."""
    counts = Counter(
        (record.route, record.served, "agree" if record.verdict.same else record.verdict.kind)
        for record in Evidence(load(config_path, upstream_keys=False)).pairs()
    )
    if as_json:
        rows = [
            {"route": route, "served": served, "verdict": verdict, "pairs": n}
            for (route, served, verdict), n in sorted(counts.items())
        ]
        print(json.dumps(rows, indent=2))
        return
    table = Table("route", "served", "verdict", "pairs")
    for (route, served, verdict), n in sorted(counts.items()):
        table.add_row(route, served, verdict, str(n))
    Console().print(table)


def run_export(config_path: Path, out: Path, agreements: bool) -> str:
    """Write records as JSON lines to a file that did not exist. Raises ConfigError."""
    evidence = Evidence(load(config_path, upstream_keys=False))
    try:
        with out.open("x", encoding="utf-8") as file:
            n = 0
            for record in evidence.pairs(agreements=agreements):
                file.write(record.model_dump_json() + "\n")
                n += 1
    except OSError as error:
        raise ConfigError(f"--out {out}: {error.strerror or error}") from error
    return f"{n} records written to {out}"


def _show(console: Console, data: bytes, as_json: bool) -> None:
    if as_json:
        print(data.decode())
        return
    try:
        record = PairRecord.model_validate_json(data)
    except ValidationError:
        console.print("(a record of another version)", markup=False)
        return
    prompt = " ".join(
        texts(record.request.get("messages") or record.request.get("prompt") or record.request.get("input"))
    )
    console.print(
        f"[bold]{record.id}[/] {record.route}, served by the {record.served}, differs in {record.verdict.kind}"
    )
    for name, text in (
        ("prompt", prompt),
        ("teacher", _said(record.teacher.text, record.teacher.tool_calls, record.teacher.error)),
        ("student", _said(record.student.text, record.student.tool_calls, record.student.error)),
    ):
        text = "".join(c if c.isprintable() else "\ufffd" for c in text)  # no terminal escapes of a client's
        console.print(
            f"  {name:8} {text if len(text) <= SHOWN else text[: SHOWN - 1] + '…'}", markup=False, highlight=False
        )


def _said(text: str, calls: list[dict[str, str]], error: str | None) -> str:
    if error is not None:
        return f"(failed: {error})"
    return " ".join([text, *(f"{call['name']}({call['arguments']})" for call in calls)]).strip()
