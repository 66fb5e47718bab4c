"""Removing the erased from an archive: the files that hold something of theirs are written anew, or removed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import pyarrow

from router.evidence.archive.parquet import columns_of, encoded
from router.evidence.archive.store import Part, Store
from router.evidence.archive.tables import TABLES
from router.evidence.erasing import PAIRS
from router.evidence.erasure import Tombstones
from router.evidence.streams import LABELS


class InArchive:
    """The archive as a place to erase from; see `router.evidence.erasing.Place`."""

    def __init__(self, store: Store) -> None:
        self.name = f"the archive {store.url}"
        self._store = store

    def pairs(self, tombstones: Tombstones) -> set[str]:
        return {pair for stream in PAIRS for pair in self._going(stream, tombstones)}

    def erase_labels(self, tombstones: Tombstones, pairs: Collection[str]) -> int:
        self._store.sweep()
        return erase_parts(self._store, LABELS, self._store.parts(LABELS), tombstones, pairs)

    def erase_pairs(self, tombstones: Tombstones) -> int:
        return sum(erase_parts(self._store, stream, self._store.parts(stream), tombstones) for stream in PAIRS)

    def left(self, tombstones: Tombstones, pairs: Collection[str]) -> int:
        labels = sum(1 for _ in self._going(LABELS, tombstones, pairs))
        return labels + sum(1 for stream in PAIRS for _ in self._going(stream, tombstones))

    def _going(self, stream: str, tombstones: Tombstones, pairs: Collection[str] = ()) -> Iterator[str]:
        """The pair's id of each record that is to go."""
        for part in self._store.parts(stream):
            table = columns_of(self._store, part, _told(stream))
            if table is not None:
                yield from table["id"].filter(pyarrow.array(_gone(table, tombstones, pairs))).to_pylist()


def erase_parts(
    store: Store, stream: str, parts: Iterable[Part], tombstones: Tombstones, pairs: Collection[str] = ()
) -> int:
    """Remove the erased from these files; how many records that was. Decision rows hold no text, and stay."""
    if stream not in (*PAIRS, LABELS):
        return 0
    return sum(_erase_part(store, stream, part, tombstones, pairs) for part in parts)


def _erase_part(store: Store, stream: str, part: Part, tombstones: Tombstones, pairs: Collection[str]) -> int:
    table = columns_of(store, part, _told(stream))
    if table is None:
        return 0
    gone = _gone(table, tombstones, pairs)
    if not any(gone):
        return 0
    whole = columns_of(store, part)
    if whole is None:
        return 0
    rest = whole.filter(pyarrow.array([not one for one in gone]))
    if rest.num_rows:
        store.put(part.path, encoded(rest))
    else:
        store.remove(part.path)
    return sum(gone)


def _told(stream: str) -> list[str]:
    """The columns that say who said it."""
    return [name for name in ("id", "time", "key", "users") if name in TABLES[stream].schema.names]


def _gone(table: pyarrow.Table, tombstones: Tombstones, pairs: Collection[str] = ()) -> list[bool]:
    """For each line, whether it is to go."""
    users = table["users"].to_pylist() if "users" in table.column_names else [()] * table.num_rows
    said = zip(table["id"].to_pylist(), table["key"].to_pylist(), users, table["time"].to_pylist(), strict=True)
    return [identity in pairs or tombstones.drops(key, names, time) for identity, key, names, time in said]
