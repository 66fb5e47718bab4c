"""`distill-router costs report`: what was spent and saved, as a table or a file, with the books compared."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

from rich.console import Console

from router.errors import ConfigError
from router.report.files import as_json, require_parquet, write_csv, write_parquet
from router.report.period import parse_period
from router.report.reconciliation import explain
from router.report.report import Report, build_report
from router.report.statement import DIMENSIONS, Dimension
from router.report.table import show
from router.settings import load

Format = Literal["table", "csv", "parquet", "json"]
DISCREPANCY = 3
WIDTH = 100


def run_report(
    config_path: Path,
    *,
    since: str,
    until: str | None,
    timezone: str,
    by: str,
    output: Format,
    out: Path | None,
    metrics: Sequence[str],
    api_key_file: Path | None,
    strict: bool,
) -> int:
    """Print or write the report; the exit status. Raises ConfigError."""
    period = parse_period(since, until, timezone, time.time())
    dimensions = parse_by(by)
    _require_usable(output, out)
    settings = load(config_path, upstream_keys=False)
    report = build_report(settings, period, dimensions, metrics, _api_key(api_key_file))
    _write(report, output, out)
    return DISCREPANCY if strict and not report.agrees else 0


def parse_by(text: str) -> tuple[Dimension, ...]:
    """`day,route` as dimensions. Raises ConfigError."""
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in DIMENSIONS]:
        raise ConfigError(f"--by {text}: unknown '{unknown[0]}'; known: {', '.join(DIMENSIONS)}")
    return cast(tuple[Dimension, ...], tuple(names))


def _require_usable(output: Format, out: Path | None) -> None:
    """Before the work is done, not after it."""
    if output == "parquet":
        if out is None:
            raise ConfigError("--format parquet: give --out FILE")
        require_parquet()
    if out is not None and out.exists():
        raise ConfigError(f"--out {out}: exists; it is not written over")


def _write(report: Report, output: Format, out: Path | None) -> None:
    """To the file or to stdout; beside CSV and Parquet, which have no place for it, the reconciliation on stderr."""
    if out is None:
        _print(report, output)
    else:
        _to_file(report, output, out)
    if output in ("csv", "parquet"):
        for line in explain(report):
            print(line, file=sys.stderr)


def _print(report: Report, output: Format) -> None:
    if output == "table":
        show(Console() if sys.stdout.isatty() else Console(width=WIDTH), report)
    elif output == "csv":
        write_csv(report, sys.stdout)
    else:
        print(as_json(report))


def _to_file(report: Report, output: Format, out: Path) -> None:
    try:
        if output == "parquet":
            write_parquet(report, out)
            return
        with out.open("x", encoding="utf-8", newline="") as file:
            if output == "table":
                show(Console(file=file, width=WIDTH), report)
            elif output == "csv":
                write_csv(report, file)
            else:
                file.write(as_json(report) + "\n")
    except OSError as error:
        raise ConfigError(f"--out {out}: {error.strerror or error}") from error


def _api_key(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--api-key-file {path}: {error}") from error
