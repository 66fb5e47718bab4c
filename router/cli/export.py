"""`distill-router disagreements export`: a training file and its manifest. See docs/export.md."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from router.errors import ConfigError
from router.evidence.archive.source import sources
from router.evidence.records import Split
from router.export.choose import VERDICTS, Filters
from router.export.files import registered, replace, require_free, write_manifest, write_new
from router.export.formats.base import Format
from router.export.formats.registry import FORMATS
from router.export.manifest import manifest
from router.export.prepare import Prepared, prepare
from router.export.privacy import Mode, redaction
from router.report.files import require_parquet
from router.report.period import parse_period
from router.settings import Config, load

SHOWN_SLICES = 12


def run_export(
    config_path: Path,
    out: Path,
    *,
    target: str,
    archives: Sequence[str],
    route: str | None,
    split: Split | Literal["all"],
    since: str | None,
    slices: Sequence[str],
    verdicts: Sequence[str],
    balance: bool,
    max_per_cluster: int,
    redact: Mode,
) -> str:
    """Write what the options ask for, and say what was written. Raises ConfigError, and then there is no file."""
    now = time.time()
    settings = load(config_path, upstream_keys=False)
    chosen = _format(target, out)
    filters = _filters(settings.config, route, split, since, slices, verdicts, now)
    clean = redaction(redact)
    require_free(out)
    lists = {
        out.parent / name: registered(out.parent / name, entry) for name, entry in chosen.registration(out).items()
    }
    records = sources(settings, archives).pairs(since=filters.since)
    done = prepare(records, settings.config, filters, chosen, clean, balance=balance, max_per_cluster=max_per_cluster)
    if not done.rows:
        raise ConfigError(_nothing(done, filters))
    file = write_new(out, lambda opened: chosen.write(done.rows, opened))
    options = {"balance": balance, "max_per_cluster": max_per_cluster, "redact": redact, "archives": len(archives)}
    write_manifest(out, manifest(done, chosen, filters, options, file, now))
    for path, content in lists.items():
        replace(path, content)
    return _summary(done, out)


def _format(name: str, out: Path) -> Format:
    found = FORMATS.get(name)
    if found is None:
        raise ConfigError(f"--format {name}: unknown; known: {', '.join(FORMATS)}")
    if out.suffix != found.suffix:
        raise ConfigError(f"--out {out}: {name} is read by the name's ending, which must be {found.suffix}")
    if found.suffix == ".parquet":
        require_parquet()
    return found


def _filters(
    config: Config,
    route: str | None,
    split: Split | Literal["all"],
    since: str | None,
    slices: Sequence[str],
    verdicts: Sequence[str],
    now: float,
) -> Filters:
    if route is not None and route not in config.routes:
        raise ConfigError(f"--route {route}: unknown; known: {', '.join(config.routes) or 'none'}")
    unknown = [verdict for verdict in verdicts if verdict not in VERDICTS]
    if unknown:
        raise ConfigError(f"--verdict {unknown[0]}: unknown; known: {', '.join(VERDICTS)}")
    return Filters(
        route=route,
        split=split,
        since=parse_period(since, None, "UTC", now).start if since else 0.0,
        slices=tuple(slices),
        verdicts=tuple(verdict for verdict in VERDICTS if verdict in verdicts),
    )


def _nothing(done: Prepared, filters: Filters) -> str:
    lines = [f"nothing to export, no file is written: {done.read} pairs were read{_reasons(done)}"]
    missing = [name for name in filters.slices if name not in done.seen_slices]
    if missing and done.seen_slices:
        usual = ", ".join(name for name, _ in done.seen_slices.most_common(SHOWN_SLICES))
        lines.append(f"--slice {missing[0]}: no pair is in it; the most frequent here: {usual}")
    return "\n".join(lines)


def _summary(done: Prepared, out: Path) -> str:
    rows = "" if len(done.rows) == len(done.examples) else f" ({len(done.rows)} rows)"
    return f"{len(done.examples)} of {done.read} pairs written to {out}{rows}{_reasons(done)}"


def _reasons(done: Prepared) -> str:
    return f"; left out: {', '.join(f'{reason} {n}' for reason, n in done.counts.items())}" if done.counts else ""
