"""Reading an archive: the same methods as `router.evidence.read.Evidence`, from Parquet files. Blocking.

Files are read in pieces and by day, so that memory does not grow with the archive.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow
import pyarrow.parquet
from pydantic import ValidationError

from router.errors import ConfigError
from router.evidence.archive.parquet import unreadable
from router.evidence.archive.store import Part, Store
from router.evidence.archive.tables import TABLES, Values, row_of
from router.evidence.erasure import Tombstones
from router.evidence.records import LabelRecord, PairRecord
from router.evidence.streams import AGREEMENTS, DECISIONS, DISAGREEMENTS, LABELS
from router.record.row import DecisionRow

PIECE = 1000


class Archive:
    """What `distill-router disagreements archive` has written below a URL; each record once, without the erased.

    `since` (Unix time) leaves out what is about earlier requests.
    """

    def __init__(self, url: str) -> None:
        """Raises ConfigError where there is nothing, or no way to it."""
        self._store = Store(url)
        if not self._store.exists():
            raise ConfigError(f"archive {url}: nothing is there; `distill-router disagreements archive` writes one")

    @property
    def url(self) -> str:
        return self._store.url

    def tombstones(self) -> Tombstones:
        return self._store.tombstones()

    def pairs(self, *, agreements: bool = True, since: float = 0.0) -> Iterator[PairRecord]:
        """Disagreements first. What was never to be archived by this version is left out."""
        for stream in (DISAGREEMENTS, AGREEMENTS) if agreements else (DISAGREEMENTS,):
            for values in self._lines(stream, since, ("id", "time", "key", "users", "record")):
                try:
                    yield PairRecord.model_validate_json(values["record"])
                except ValidationError:
                    continue

    def rows(self, since: float = 0.0) -> Iterator[DecisionRow]:
        """By day, about in the order of time."""
        for values in self._lines(DECISIONS, since):
            yield row_of(values)

    def labels(self) -> Iterator[LabelRecord]:
        for values in self._lines(LABELS, 0.0, ("label_id", "time", "key", "record")):
            try:
                yield LabelRecord.model_validate_json(values["record"])
            except ValidationError:
                continue

    def _lines(self, stream: str, since: float, columns: tuple[str, ...] | None = None) -> Iterator[Values]:
        table, tombstones, seen = TABLES[stream], self._store.tombstones(), _Seen()
        for part in self._store.parts(stream, since):
            known = seen.enter(part)
            for values in self._read(part, columns):
                identity = values[table.identity]
                if values[table.time] < since or any(identity in ids for ids in known):
                    continue
                known[-1].add(identity)
                if stream == DECISIONS or not tombstones.drops(
                    values["key"], values.get("users", ()), values[table.time]
                ):
                    yield values

    def _read(self, part: Part, columns: tuple[str, ...] | None) -> Iterator[Values]:
        """Nothing for a file that was removed meanwhile: an erasure left nothing of it."""
        try:
            with self._store.open(part.path) as file, pyarrow.parquet.ParquetFile(file) as parquet:
                for piece in parquet.iter_batches(batch_size=PIECE, columns=columns and list(columns)):
                    yield from piece.to_pylist()
        except FileNotFoundError:
            return
        except (pyarrow.ArrowException, OSError) as error:
            raise unreadable(self._store, part, error) from error


class _Seen:
    """The ids of those files that a later one may share records with: parts come by the time of their first record."""

    def __init__(self) -> None:
        self._open: list[tuple[int, set[str]]] = []

    def enter(self, part: Part) -> list[set[str]]:
        """The sets to look in; the last one is the part's own."""
        self._open = [(last_ms, ids) for last_ms, ids in self._open if last_ms >= part.first_ms]
        self._open.append((part.last_ms, set()))
        return [ids for _, ids in self._open]
