"""Entries of one stream on their way into files: each record once, none that was erased, none that nobody can read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from router.evidence.archive.erase import erase_parts
from router.evidence.archive.group import DeadLetter, Entry
from router.evidence.archive.parquet import columns_of, encoded
from router.evidence.archive.store import Part, Store, day_of, new_part
from router.evidence.archive.tables import TABLES, Undecodable, Values
from router.evidence.erasure import Tombstones
from router.evidence.streams import DECISIONS


class Batch:
    """`known`: how many were in the archive already, or twice in the batch. See `router.evidence.archive.archiver`."""

    def __init__(self, stream: str, entries: Sequence[Entry], tombstones: Tombstones, store: Store) -> None:
        self._stream = stream
        self._table = TABLES[stream]
        self._entries = entries
        self._tombstones = tombstones
        self._store = store
        self.dead: list[DeadLetter] = []
        self.written = self.known = self.erased = 0

    def write(self, check: Callable[[], None]) -> list[Part]:
        """Write what is not there yet, a file for each day. `check` runs just before each can be seen."""
        lines = self._kept(self._lines())
        known = self._archived(lines)
        fresh = [line for line in lines if line[self._table.identity] not in known]
        self.known += len(lines) - len(fresh)
        self.written = len(fresh)
        return [self._put(day, list(some), check) for day, some in groupby(fresh, self._day)]

    def finished(self) -> list[str]:
        """The entries to acknowledge: all but dead letters, which are acknowledged where they are buried."""
        dead = {letter.entry.entry_id for letter in self.dead}
        return [entry.entry_id for entry in self._entries if entry.entry_id not in dead]

    def _lines(self) -> list[Values]:
        """In the order of time."""
        lines: dict[str, Values] = {}
        for _, line in self._fitting(self._readable()):
            self.known += line[self._table.identity] in lines
            lines[line[self._table.identity]] = line
        return sorted(lines.values(), key=self._time)

    def _readable(self) -> list[tuple[Entry, Values]]:
        found = []
        for entry in self._entries:
            try:
                found.append((entry, self._table.line(entry.data)))
            except Undecodable as error:
                self.dead.append(DeadLetter(entry, str(error)))
        return found

    def _fitting(self, found: list[tuple[Entry, Values]]) -> list[tuple[Entry, Values]]:
        """Without those that have a number that no column holds: one of them must not keep all the others out."""
        try:
            self._table.batch([line for _, line in found])
            return found
        except Undecodable:
            return [(entry, line) for entry, line in found if self._fits(entry, line)]

    def _fits(self, entry: Entry, line: Values) -> bool:
        try:
            self._table.batch([line])
        except Undecodable as error:
            self.dead.append(DeadLetter(entry, str(error)))
            return False
        return True

    def _kept(self, lines: list[Values]) -> list[Values]:
        """Without the erased; they are in no file either, if this is not the first try to archive them."""
        if self._stream == DECISIONS or not self._tombstones:
            return lines
        kept: list[Values] = []
        gone: list[Values] = []
        for line in lines:
            erased = self._tombstones.drops(line["key"], line.get("users", ()), line["time"])
            (gone if erased else kept).append(line)
        erase_parts(self._store, self._stream, self._parts(gone), self._tombstones)
        self.erased = len(gone)
        return kept

    def _archived(self, lines: Sequence[Values]) -> set[str]:
        """Of the lines' identities, at least those that the archive has."""
        found: set[str] = set()
        for part in self._parts(lines):
            table = columns_of(self._store, part, [self._table.identity])
            if table is not None:
                found.update(table[self._table.identity].to_pylist())
        return found

    def _parts(self, lines: Sequence[Values]) -> Iterable[Part]:
        """The files that may hold one of the lines, which are in the order of time."""
        if not lines:
            return ()
        times = [self._time(line) for line in lines]
        return [part for part in self._store.parts(self._stream, times[0], times[-1]) if part.spans(times)]

    def _put(self, day: str, lines: list[Values], check: Callable[[], None]) -> Part:
        part = new_part(self._stream, day, self._time(lines[0]), self._time(lines[-1]))
        self._store.put(part.path, encoded(self._table.batch(lines)), check)
        return part

    def _time(self, line: Values) -> float:
        return float(line[self._table.time])

    def _day(self, line: Values) -> str:
        return day_of(self._time(line))
