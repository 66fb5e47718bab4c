"""Where records wait on disk while Redis is away: segments of lines, bounded in bytes, safe with several workers.

A line is `stream<TAB>record`. A segment is locked by the process that writes or replays it (flock, so that a crash
frees it), and removed once Redis has all of it. A crash in the middle of a replay repeats records: readers go by id.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

Record = tuple[str, bytes]

SEGMENT_BYTES = 4 * 1024 * 1024
SUFFIX = ".spool"


class SpoolFull(Exception):
    """The spool has reached its bound, or the disk refuses."""


class Spool:
    """Blocking: callers run it in a thread."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment: IO[bytes] | None = None
        self._taken: IO[bytes] | None = None

    def append(self, records: list[Record]) -> None:
        """Write records. Raises SpoolFull, and then none of them was written."""
        data = b"".join(b"%b\t%b\n" % (stream.encode(), record) for stream, record in records)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if self._size() + len(data) > self._max_bytes:
                raise SpoolFull(f"the spool in {self._folder} holds {self._max_bytes} bytes, its bound")
            segment = self._open_segment()
            segment.write(data)
            segment.flush()
        except OSError as error:
            raise SpoolFull(str(error)) from error

    def waits(self) -> bool:
        """Whether anything is in the spool."""
        return bool(self._paths())

    def take(self) -> list[Record] | None:
        """The records of the oldest segment that no other process holds; None when there is nothing to replay.

        It stays locked until `done` (Redis has it all) or the next `take`.
        """
        self.close()
        for path in self._paths():
            try:
                segment = path.open("rb")
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(segment, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                segment.close()
                continue
            self._taken = segment
            return list(_records(segment.read()))
        return None

    def done(self) -> None:
        """Remove the segment that was taken."""
        if self._taken:
            Path(self._taken.name).unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Close what is open; the files stay."""
        for segment in (self._segment, self._taken):
            if segment:
                segment.close()
        self._segment = self._taken = None

    def _size(self) -> int:
        return sum(_file_size(path) for path in self._paths())

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{SUFFIX}"))

    def _open_segment(self) -> IO[bytes]:
        if self._segment and self._segment.tell() < SEGMENT_BYTES:
            return self._segment
        self.close()
        path = self._folder / f"{time.time_ns():020d}-{os.getpid()}{SUFFIX}"
        self._segment = path.open("ab")
        fcntl.flock(self._segment, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return self._segment


def read_spool(folder: Path, stream: str) -> Iterator[bytes]:
    """Every record of `stream` that waits in the spool, oldest first."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        yield from (record for name, record in _records(path.read_bytes()) if name == stream)


def _records(data: bytes) -> Iterator[Record]:
    """Whole lines only: a crash may have cut the last one."""
    for line in data.split(b"\n")[:-1]:
        stream, tab, record = line.partition(b"\t")
        if tab:
            yield stream.decode(), record


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
