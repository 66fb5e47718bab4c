"""`distill-router policy train|list|show|promote|rollback`: trained policies, their reports, and which is in force."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from policies.learn import artifact
from policies.learn.trained import Trained
from policies.learn.trainers import MODULES, Progress
from router.cli.progress import progress_bar
from router.errors import ConfigError
from router.settings import Settings, load
from router.trained import files, report
from router.trained.blocking import with_store
from router.trained.encoders import EncodingFailed, encoder_of
from router.trained.record import VersionRecord, record_of
from router.trained.sources import Material, read_material
from router.trained.store import Stored, TrainedStore
from router.trained.train import about, options_for, train

COLUMNS = ("name", "version", "trained", "by", "examples", "log-loss", "AUC", "state")
UNBOUNDED = 100_000  # columns of a file or a pipe: more than any table has
ORIGINS = {"train": "hand", "retrain": "schedule", "file": "file"}


def run_train(
    config_path: Path | None,
    *,
    sources: Sequence[str],
    route: str,
    kind: str,
    since: str,
    out: Path | None,
    promote: bool,
    report_path: Path | None,
    seed: int,
    as_json: bool,
) -> str:
    """Train, keep and perhaps promote; what to print. Raises ConfigError, and TrainingRefused (exit status 3)."""
    settings = load(config_path, upstream_keys=False) if config_path else None
    name = f"{route}:{kind}"
    _require_possible(settings, route, kind, sources, out, promote, report_path)
    with progress_bar("reading") as tell:
        material = read_material(settings, sources, route, kind, since)
        trained = _trained(settings, kind, material, route, seed, tell)
    trained = about(trained, material.models)
    record = record_of(trained, "train", time.time(), until=material.until, data=material.data)
    data = artifact.dumps(trained)
    if out is not None:
        files.write_trained(out, data)
    number = _keep(settings, name, data, record, promote) if settings and settings.config.redis else None
    title = name if number is None else f"{name}@{number}"
    if report_path is not None:
        report.write_report(report_path, title, record, trained.report)
    if as_json:
        told = {"name": name, "number": number, "in_force": promote, "out": str(out) if out else None}
        return _json({**told, **_shown(record, trained)})
    said = [report.as_text(title, record, trained.report), "", *_what_next(name, number, out, promote)]
    return "\n".join(said if report_path is None else [*said, f"The report is in {report_path}."])


def run_list(config_path: Path, *, as_json: bool) -> str:
    """Every version that is kept, by name. Raises ConfigError."""

    async def every(store: TrainedStore) -> list[Stored]:
        return [each for name in await store.names() for each in await store.versions(name)]

    stored = with_store(load(config_path, upstream_keys=False), every)
    if as_json:
        return _json([_listed(each) for each in stored])
    if not stored:
        return "No trained policy is kept; `distill-router policy train` makes one."
    return _table(stored)


def run_show(config_path: Path | None, *, what: str, report_path: Path | None, as_json: bool) -> str:
    """The training report of a file, or of NAME or NAME@NUMBER in the store. Raises ConfigError."""
    if Path(what).is_file():
        trained = files.read_trained(Path(what))
        title, record = what, record_of(trained, "file", Path(what).stat().st_mtime)
        told = _shown(record, trained)
    else:
        if config_path is None:
            raise ConfigError(f"{what}: there is no such file; for what is kept in Redis give --config FILE")
        stored, trained = _kept(load(config_path, upstream_keys=False), what)
        title, record = _title(stored), stored.record
        told = {**_listed(stored), "report": dict(trained.report)}
    if report_path is not None:
        report.write_report(report_path, title, record, trained.report)
    if as_json:
        return _json(told)
    return report.as_text(title, record, trained.report)


def run_promote(config_path: Path, *, what: str, file: Path | None) -> str:
    """Put NAME@NUMBER in force in all gateways; NAME alone: its newest version. `file`: keep that one first, and
    promote it under NAME. Raises ConfigError."""
    settings = load(config_path, upstream_keys=False)
    name, number = _parsed(what)
    if file is not None:
        if number is not None:
            raise ConfigError(f"{what}: a file gets the next number; name it {name}")
        trained = files.read_trained(file)
        _require_kind(name, trained.kind)
        until = float(trained.report.get("until", 0.0))
        record = record_of(trained, "file", time.time(), until=until)
        number = _keep(settings, name, artifact.dumps(trained), record, promote=False)

    async def put_in_force(store: TrainedStore) -> tuple[int, VersionRecord, bool]:
        kept = await store.versions(name)
        chosen = number if number is not None or not kept else kept[-1].number
        found = await store.find(name, chosen)
        _require_loadable(found, await store.file(name, found.number))
        return found.number, found.record, await store.promote(name, found.number)

    promoted, record, changed = with_store(settings, put_in_force)
    now = "is in force now" if changed else "was in force already"
    return f"{name}@{promoted} (version {record.version}) {now}"


def run_rollback(config_path: Path, *, name: str) -> str:
    """Put in force what was before. Raises ConfigError."""

    async def back(store: TrainedStore) -> Stored:
        return await store.find(name, await store.rollback(name))

    stored = with_store(load(config_path, upstream_keys=False), back)
    return f"{_title(stored)} (version {stored.record.version}) is in force again"


def _require_possible(
    settings: Settings | None,
    route: str,
    kind: str,
    sources: Sequence[str],
    out: Path | None,
    promote: bool,
    report_path: Path | None,
) -> None:
    """Before the work: whatever would make it worth nothing afterwards. Raises ConfigError."""
    if kind not in MODULES:
        raise ConfigError(f"--kind {kind}: unknown; known: {', '.join(MODULES)}")
    if settings is not None and route not in settings.config.routes:
        raise ConfigError(f"unknown route '{route}'; known: {', '.join(settings.config.routes) or 'none'}")
    if not sources:
        raise ConfigError("--from: nothing to learn from; expected redis, an archive or a file; repeatable")
    stores = settings is not None and settings.config.redis is not None
    if promote and not stores:
        raise ConfigError("--promote: needs --config FILE with redis, where gateways look for what is in force")
    if not stores and out is None:
        raise ConfigError("nothing would be kept: give --out FILE, or --config FILE with redis")
    if stores and settings is not None:
        with_store(settings, lambda store: store.names())
    if out is not None:
        files.require_free(out)
    if report_path is not None:
        report.require_form(report_path)


def _trained(
    settings: Settings | None, kind: str, material: Material, route: str, seed: int, tell: Progress
) -> Trained:
    configured = settings.config.routes.get(route) if settings else None
    encoder = encoder_of(settings, route) if settings else None
    options = options_for(configured.policy if configured else None, kind, encoder)
    try:
        return train(kind, material.examples, seed=seed, progress=tell, options=options)
    except (ImportError, EncodingFailed) as error:
        raise ConfigError(str(error)) from error


def _keep(settings: Settings, name: str, data: bytes, record: VersionRecord, promote: bool) -> int:
    async def put(store: TrainedStore) -> int:
        number = await store.put(name, data, record)
        if promote:
            await store.promote(name, number)
        return number

    return with_store(settings, put)


def _kept(settings: Settings, what: str) -> tuple[Stored, Trained]:
    name, number = _parsed(what)

    async def read(store: TrainedStore) -> tuple[Stored, bytes]:
        found = await store.find(name, number)
        return found, await store.file(name, found.number)

    stored, data = with_store(settings, read)
    return stored, _require_loadable(stored, data)


def _require_loadable(stored: Stored, data: bytes) -> Trained:
    """Raises ConfigError for a file that a gateway could not use."""
    try:
        trained = artifact.loads(data)
    except ValueError as error:
        raise ConfigError(f"{_title(stored)}: {error}") from error
    _require_kind(stored.name, trained.kind)
    return trained


def _require_kind(name: str, kind: str) -> None:
    expected = name.rpartition(":")[2]
    if kind != expected:
        raise ConfigError(f"{name}: the trained policy is of kind {kind}, not {expected}")


def _parsed(what: str) -> tuple[str, int | None]:
    """NAME or NAME@NUMBER. Raises ConfigError."""
    name, at, number = what.partition("@")
    if at and not number.isdecimal():
        raise ConfigError(f"{what}: expected NAME or NAME@NUMBER, such as auto:difficulty@3")
    return name, int(number) if at else None


def _what_next(name: str, number: int | None, out: Path | None, promoted: bool) -> Iterator[str]:
    if out is not None:
        yield f"It is in {out}."
    if number is None:
        return
    if promoted:
        yield f"{name}@{number} is in force now."
    else:
        yield f"`distill-router policy promote {name}@{number}` puts it in force."


def _title(stored: Stored) -> str:
    return f"{stored.name}@{stored.number}"


def _state(stored: Stored) -> str:
    return "in force" if stored.in_force else "was in force" if stored.promoted else "candidate"


def _shown(record: VersionRecord, trained: Trained) -> dict[str, Any]:
    return {**record.model_dump(mode="json"), "report": dict(trained.report)}


def _listed(stored: Stored) -> dict[str, Any]:
    told = {"name": stored.name, "number": stored.number, "state": _state(stored)}
    return told | stored.record.model_dump(mode="json")


def _table(stored: Sequence[Stored]) -> str:
    table = Table()
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for each in stored:
        table.add_row(*_cells(each))
    console = Console() if sys.stdout.isatty() else Console(width=UNBOUNDED)
    with console.capture() as shown:
        console.print(table)
    return shown.get().rstrip()


def _cells(stored: Stored) -> list[str]:
    record = stored.record
    figures = record.figures
    return [
        _title(stored),
        record.version,
        time.strftime("%Y-%m-%d %H:%M", time.gmtime(record.created)),
        ORIGINS[record.origin],
        f"{figures['examples']:,.0f}" if "examples" in figures else "",
        f"{figures['log_loss']:.4f}" if "log_loss" in figures else "",
        f"{figures['auc']:.3f}" if "auc" in figures else "",
        _state(stored),
    ]


def _json(value: Any) -> str:
    return json.dumps(value, indent=2)
