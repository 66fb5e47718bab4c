"""What a policy is trained from: evidence in Redis and archives, files of pairs, files of judged requests."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from policies.judge.rows import TableError, Wanted
from policies.judge.tables import read_table
from policies.learn.example import Example
from router.errors import ConfigError
from router.evidence.archive.source import sources
from router.evidence.records import PairRecord
from router.json_lines import first_line, numbered_lines
from router.report.period import parse_period
from router.settings import Settings
from router.trained.examples import Collected, collect, served_on

REDIS = "redis"


@dataclass(frozen=True, slots=True)
class Material:
    """`examples`, and what is to be said of them beside a training report. `models`: as of `Collected`, where all are
    pairs."""

    examples: list[Example]
    until: float = 0.0
    data: dict[str, Any] = field(default_factory=dict)
    models: Mapping[str, list[str]] = field(default_factory=dict)


def read_material(settings: Settings | None, named: Sequence[str], route: str, kind: str, since: str) -> Material:
    """The examples in everything that is named: `redis`, archives and files.

    `since`: of pairs in Redis and archives. Raises ConfigError for what cannot be read, or needs a configuration.
    """
    evidence = [name for name in named if name == REDIS or is_archive(name)]
    files = [Path(name) for name in named if name not in evidence]
    of_pairs = [path for path in files if _holds_pairs(path)]
    pairs = chain(_evidence(settings, evidence, since), *(read_pairs(path) for path in of_pairs))
    collected = _collect(settings, pairs, route, kind) if evidence or of_pairs else Collected([], {})
    rows = [example for path in files if path not in of_pairs for example in _judged(path, kind)]
    data = {"pairs": len(collected.examples), "rows": len(rows), "left_out": dict(collected.left_out)}
    said = {"from": list(named), "route": route, **data}
    return Material([*collected.examples, *rows], collected.until, said, {} if rows else collected.models)


def read_pairs(path: Path) -> Iterator[PairRecord]:
    """The pair records in a file of JSON lines, such as `disagreements tail --json` prints. Raises ConfigError."""
    for number, line in numbered_lines(path):
        try:
            yield PairRecord.model_validate_json(line)
        except ValidationError as error:
            places = sorted({".".join(map(str, problem["loc"])) or "record" for problem in error.errors()})
            raise ConfigError(f"{path}: line {number}: no pair record: {', '.join(places)}") from None


def _evidence(settings: Settings | None, named: Sequence[str], since: str) -> Iterator[PairRecord]:
    """An archive is read with what Redis holds, each record once."""
    if not named:
        return iter(())
    period = parse_period(since, None, "UTC", time.time())
    return sources(_required(settings), [name for name in named if name != REDIS]).pairs(since=period.start)


def _collect(settings: Settings | None, pairs: Iterable[PairRecord], route: str, kind: str) -> Collected:
    known = _required(settings).config.routes
    if route not in known:
        raise ConfigError(f"unknown route '{route}'; known: {', '.join(known) or 'none'}")
    return collect(pairs, served_on(_required(settings), route), kind)


def _required(settings: Settings | None) -> Settings:
    if settings is None:
        raise ConfigError("pairs are those of a route: give --config FILE; only files of judged requests need none")
    return settings


def _judged(path: Path, kind: str) -> list[Example]:
    try:
        return [row.example() for row in read_table(path, wanted=Wanted(answers=kind == "cascade"))]
    except TableError as error:
        raise ConfigError(str(error)) from None


def is_archive(name: str) -> bool:
    """Whether what is named is a folder or a URL, not a file."""
    return "://" in name or Path(name).is_dir()


def _holds_pairs(path: Path) -> bool:
    """Whether the first line is a pair record."""
    try:
        found = msgspec.json.decode(first_line(path))
    except (msgspec.DecodeError, RecursionError):
        return False
    return isinstance(found, dict) and {"verdict", "teacher", "student", "probability"} <= found.keys()
