"""Where records wait on disk while Redis is away: segments of lines, bounded in bytes, safe with several workers.

A line is `stream<TAB>record`. A segment is locked by the process that writes or replays it (flock, so that a crash
frees it), and removed once Redis has all of it. A crash in the middle of a replay repeats records: readers go by id.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

log = logging.getLogger("distill_router.evidence")

Record = tuple[str, bytes]

SEGMENT_BYTES = 4 * 1024 * 1024
PRIVATE = 0o700  # prompts and answers of every tenant
SUFFIX = ".spool"
FRESH_SUFFIX = ".fresh"


class SpoolFull(Exception):
    """The spool has reached its bound, or the disk refuses."""


class Spool:
    """Blocking: callers run it in a thread, one call at a time."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = min(SEGMENT_BYTES, max_bytes // 8)
        self._segment: IO[bytes] | None = None
        self._taken: IO[bytes] | None = None

    def append(self, records: list[Record]) -> None:
        """Write records. Raises SpoolFull, and then none of them was written."""
        data = _lines(records)
        try:
            self._folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            if self._size() + len(data) > self._max_bytes:
                raise SpoolFull(f"the spool in {self._folder} holds {self._max_bytes} bytes, its bound")
            _write(self._open_segment(), data)
        except OSError as error:
            raise SpoolFull(str(error)) from error

    def take(self) -> list[Record] | None:
        """The records of the oldest segment that no other process holds; None when there is nothing to replay.

        It stays locked until `done` (Redis has it all), `keep` (it has some) or the next `take`.
        """
        self._close_segment()
        self._close_taken()
        for path in self._paths():
            segment = _lock(path)
            if segment is None:
                continue
            self._taken = segment
            try:
                return list(_records(segment.read()))
            except OSError as error:
                log.error("the spool's %s cannot be read: %s", path, error)
        return None

    def done(self) -> None:
        """Remove the segment that was taken."""
        if self._taken:
            Path(self._taken.name).unlink(missing_ok=True)
        self._close_taken()

    def drop_oldest(self) -> int:
        """Make room by removing the oldest segment that no other process holds; how many records that lost."""
        records = self.take()
        self.done()
        return 0 if records is None else max(1, len(records))

    def keep(self, records: list[Record]) -> None:
        """Put back what is left of the segment that was taken; the rest must not be replayed again."""
        if self._taken is None:
            return
        path = Path(self._taken.name)
        shortened = path.with_suffix(FRESH_SUFFIX)
        try:
            shortened.write_bytes(_lines(records))
            shortened.replace(path)
        except OSError as error:
            log.error("the spool's %s cannot be shortened, its records will be repeated: %s", path, error)
        self._close_taken()

    def close(self) -> None:
        """Close what is open; the files stay."""
        self._close_segment()
        self._close_taken()

    def _close_segment(self) -> None:
        if self._segment:
            self._segment.close()
        self._segment = None

    def _close_taken(self) -> None:
        if self._taken:
            self._taken.close()
        self._taken = None

    def _size(self) -> int:
        return sum(_file_size(path) for path in self._paths())

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{SUFFIX}"))

    def _open_segment(self) -> IO[bytes]:
        """Under another name until it is locked, so that no other process takes it for one that a crash left."""
        if self._segment and self._segment.tell() < self._segment_bytes:
            return self._segment
        self._close_segment()
        path = self._folder / f"{time.time_ns():020d}-{os.getpid()}{SUFFIX}"
        fresh = path.with_suffix(FRESH_SUFFIX)
        self._segment = fresh.open("ab", buffering=0)
        fcntl.flock(self._segment, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fresh.replace(path)
        return self._segment


def read_spool(folder: Path, stream: str) -> Iterator[bytes]:
    """Every record of `stream` that waits in the spool, oldest first. A gateway may be replaying it meanwhile."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue
        yield from (record for name, record in _records(data) if name == stream)


def _lock(path: Path) -> IO[bytes] | None:
    """The segment, locked; None when another process has it or has just removed it."""
    try:
        segment = path.open("rb")
    except FileNotFoundError:
        return None
    except OSError as error:
        log.error("the spool's %s cannot be read: %s", path, error)
        return None
    try:
        fcntl.flock(segment, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(segment.fileno()).st_ino == path.stat().st_ino:
            return segment
    except (BlockingIOError, FileNotFoundError):
        pass
    segment.close()
    return None


def _lines(records: list[Record]) -> bytes:
    return b"".join(b"%b\t%b\n" % (stream.encode(), record) for stream, record in records)


def _write(segment: IO[bytes], data: bytes) -> None:
    """All or nothing: half a batch would be taken for records. Raises OSError."""
    start, rest = os.fstat(segment.fileno()).st_size, memoryview(data)
    try:
        while rest:
            rest = rest[os.write(segment.fileno(), rest) :]
    except OSError:
        os.ftruncate(segment.fileno(), start)
        raise


def _records(data: bytes) -> Iterator[Record]:
    """Whole lines only: a crash may have cut the last one."""
    for line in data.split(b"\n")[:-1]:
        stream, tab, record = line.partition(b"\t")
        if tab:
            yield stream.decode("utf-8", "replace"), record


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
