"""The spool: write-ahead logs with what Redis does not have for sure, in segment files, bounded in bytes.

Every process has a log of its own (`PRODUCER-NUMBER-FIRST.wal`) in the folder that all share; its `Counts` file is the
lock. The log of a process that has ended is taken over by another that writes to the same Redis: the name of a producer
ends with a digest of where its records go. Nothing is synced to the disk: a killed process loses nothing, a machine
that loses power may lose what the kernel had not written.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import IO, Self

from router.evidence.counts import KEPT, LOST, Counts
from router.evidence.counts import SUFFIX as COUNTS_SUFFIX
from router.evidence.segment import Frame, decode_frames, encode_frames

log = logging.getLogger("distill_router.evidence")

SEGMENT_BYTES = 4 * 1024 * 1024
# Prompts and answers of every tenant.
PRIVATE = 0o700
PRIVATE_FILE = 0o600
SUFFIX = ".wal"
ERASING = ".erasing"  # of a segment, as it is written anew without what was erased
NAME = re.compile(r"(?P<producer>\d{20}-[0-9a-f]{12}-[0-9a-f]{8})-(?P<number>\d{10})-(?P<first>\d+)(\.wal|\.erasing)")


class NoNet(Exception):
    """The log has reached its bound, or the disk refuses."""


class Unread(OSError):
    """A segment that is there cannot be read now."""


@dataclass(slots=True, eq=False)
class Segment:
    """One file. `first`, `last`: the totals before and after its frames; `last` None where nobody has read it yet.

    `damaged`: records in it that cannot be read. `numbers`: of its last batch on each shard. `acked_at`: when it was
    seen that Redis has all of it; a monotonic time, None: not yet.
    """

    path: Path
    first: int
    size: int
    oldest: float
    last: int | None = None
    damaged: int = 0
    numbers: dict[int, int] = field(default_factory=dict)
    acked_at: float | None = None


class Spool:
    """The folder that the processes of a machine share, and how many bytes all their logs may take.

    `destination`: names where the records of this process go. Gateways in one folder may write to different servers.
    """

    def __init__(self, path: Path, max_bytes: int, destination: str = "") -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.digest = sha256(destination.encode()).hexdigest()[:8]
        self.segment_bytes = min(SEGMENT_BYTES, max_bytes // 8)
        self.size = 0

    def measure(self) -> None:
        """What others write and remove in between is not seen: with several processes the bound holds about."""
        self.size = sum(map(_file_size, _segments(self.path)))

    def producers(self) -> set[str]:
        """Those that have left something here, a log or a count, wherever their records go."""
        logs = set(map(producer_of, [*_segments(self.path), *_segments(self.path, suffix=ERASING)]))
        return logs | {path.stem for path in self.path.glob(f"*{COUNTS_SUFFIX}")}

    def is_ours(self, producer: str) -> bool:
        """Whether its records go where those of this process go."""
        return producer.endswith(f"-{self.digest}")

    def oldest(self) -> list[Path]:
        """All segments of ours, the one written to first in front."""
        ours = [path for path in _segments(self.path) if self.is_ours(producer_of(path))]
        return sorted(ours, key=lambda path: (_modified(path), path.name))

    def foreign(self) -> list[Path]:
        """The segments that are not ours."""
        return [path for path in _segments(self.path) if not self.is_ours(producer_of(path))]

    def counts(self, producer: str) -> Path:
        return self.path / f"{producer}{COUNTS_SUFFIX}"


class Log:
    """The segments of one producer. Blocking: callers run it in a thread, one call at a time."""

    def __init__(self, spool: Spool, producer: str, counts: Counts) -> None:
        self.spool = spool
        self.producer = producer
        self.counts = counts
        self.segments = [_found(path) for path in _segments(spool.path, f"{producer}-")]
        self._file: IO[bytes] | None = None
        self._opened_at = 0.0
        self._next = 1 + max((int(_part(segment.path, "number")) for segment in self.segments), default=0)

    @classmethod
    def create(cls, spool: Spool) -> Self:
        """Of this process. Creates the folder where it can."""
        producer = f"{time.time_ns():020d}-{secrets.token_hex(6)}-{spool.digest}"
        try:
            spool.path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        except OSError as error:
            log.error("no spool: %s", error)
        counts = Counts.create(spool.counts(producer))
        spool.measure()
        return cls(spool, producer, counts)

    @classmethod
    def take(cls, spool: Spool, producer: str) -> Self | None:
        """Of a process that has ended; None when it lives or another has taken it. Raises OSError."""
        counts = Counts.take(spool.counts(producer))
        if counts is None:
            return None
        try:
            for path in _segments(spool.path, f"{producer}-", ERASING):  # its program was killed
                path.unlink(missing_ok=True)
            return cls(spool, producer, counts)
        except BaseException:
            counts.close()
            raise

    def counts_on_disk(self) -> Counts | None:
        """A file for counts that are in memory only, as there was no room or no folder; None: that is still so."""
        with contextlib.suppress(OSError):
            self.spool.path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        counts = Counts.create(self.spool.counts(self.producer))
        if counts.locked:
            return counts
        counts.close()
        return None

    def count_in(self, counts: Counts) -> None:
        """Go on with these, from where the present ones are; from now on there is a log. Not blocking."""
        counts.cells[:] = self.counts.cells
        self.counts.close()
        self.counts = counts

    @property
    def total(self) -> int:
        """Records that were ever in it."""
        return self.counts.cells[KEPT]

    def append(self, frames: list[Frame]) -> None:
        """Write frames, their totals following on `total`. Raises NoNet, and then none of them was written."""
        if not self.counts.locked:
            raise NoNet(f"the spool in {self.spool.path} could not be locked")
        data = encode_frames(frames)
        if self.spool.size + len(data) > self.spool.max_bytes:
            raise NoNet(f"the spool in {self.spool.path} holds {self.spool.max_bytes} bytes, its bound")
        try:
            segment, file = self._open(frames[0].time)
            write_all(file, data)
        except OSError as error:
            raise NoNet(str(error)) from error
        self.counts.cells[KEPT] = frames[-1].total
        segment.size += len(data)
        segment.last = frames[-1].total
        segment.numbers.update((frame.shard, frame.number) for frame in frames)
        self.spool.size += len(data)

    def rotate(self, older_s: float = 0.0) -> None:
        """Begin a new segment with the next frame, if the present one was begun `older_s` ago."""
        if self._file and time.monotonic() >= self._opened_at + older_s:
            self._file.close()
            self._file = None

    @property
    def closed(self) -> list[Segment]:
        """Segments that nothing is added to, oldest first."""
        return self.segments[:-1] if self._file else list(self.segments)

    def read(self, segment: Segment) -> list[Frame]:
        """The whole frames of a closed segment; notes what is damaged: all, if it is gone. Raises Unread."""
        try:
            frames = list(decode_frames(segment.path.read_bytes()))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EIO):  # no descriptor left, no permission: not for ever
                raise Unread(error.errno, error.strerror, str(segment.path)) from error
            log.error("the spool's %s cannot be read: %s", segment.path, error)
            frames = []
        segment.numbers.update((frame.shard, frame.number) for frame in frames)
        if segment.last is None:
            segment.last = self._last(segment, frames)
        segment.damaged = segment.last - segment.first - sum(frame.count for frame in frames)
        return frames

    def _last(self, segment: Segment, frames: list[Frame]) -> int:
        """Of a log that was taken over: where the next segment begins, or where its process says that it was."""
        later = self.segments[self.segments.index(segment) + 1 :]
        if later:
            return later[0].first
        return max(frames[-1].total if frames else segment.first, self.total)

    def recount(self) -> None:
        """A process was killed after it wrote a frame and before it counted it. Raises Unread."""
        if self.segments:
            self.read(self.segments[-1])
            self.counts.cells[KEPT] = self.segments[-1].last or 0

    def remove(self, segment: Segment, lost: int) -> None:
        """Redis has it but for `lost` records."""
        segment.path.unlink(missing_ok=True)
        self.segments.remove(segment)
        self.spool.size -= segment.size
        self.counts.cells[LOST] += lost

    def _open(self, now: float) -> tuple[Segment, IO[bytes]]:
        """Where the next frames go. Raises OSError."""
        if self._file and self.segments[-1].size >= self.spool.segment_bytes:
            self.rotate()
        if self._file is None:
            path = self.spool.path / f"{self.producer}-{self._next:010d}-{self.total}{SUFFIX}"
            self._file = create_private(path)
            self._next += 1
            self._opened_at = time.monotonic()
            self.segments.append(Segment(path, self.total, 0, now, self.total))
        return self.segments[-1], self._file

    def close(self) -> None:
        """The files stay, and the next process may take them."""
        self.rotate()
        self.counts.close()


def read_spool(folder: Path, stream: str, marker: Callable[[str, int], int] | None = None) -> Iterator[bytes]:
    """Every record of `stream` in the logs of all processes, by log oldest first.

    `marker`: the number of the last batch of a producer on a shard that Redis has; those and older ones are left out.
    """
    for path in _segments(folder):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue
        for frame in decode_frames(data):
            if stream in frame.records and (marker is None or marker(producer_of(path), frame.shard) < frame.number):
                yield from frame.records[stream]


def write_all(file: IO[bytes], data: bytes) -> None:
    """All or nothing. Raises OSError."""
    start, rest = os.fstat(file.fileno()).st_size, memoryview(data)
    try:
        while rest:
            rest = rest[os.write(file.fileno(), rest) :]
    except OSError:
        os.ftruncate(file.fileno(), start)
        os.lseek(file.fileno(), start, os.SEEK_SET)
        raise


def create_private(path: Path) -> IO[bytes]:
    """A new file that only its user can read, whatever folder it is in. Raises OSError."""
    return open(path, "xb", buffering=0, opener=lambda name, flags: os.open(name, flags, PRIVATE_FILE))


def _segments(folder: Path, prefix: str = "", suffix: str = SUFFIX) -> list[Path]:
    """Of each producer in order."""
    return sorted(path for path in folder.glob(f"{prefix}*{suffix}") if NAME.fullmatch(path.name))


def _found(path: Path) -> Segment:
    return Segment(path, int(_part(path, "first")), _file_size(path), _modified(path))


def producer_of(path: Path) -> str:
    """Of a segment."""
    return _part(path, "producer")


def _part(path: Path, name: str) -> str:
    match = NAME.fullmatch(path.name)
    assert match
    return match[name]


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
