"""What a process has done with its records, in a file mapped into memory: a SIGKILL loses none of it.

The kernel keeps what was stored. A process holds the lock (flock) of its file as long as it lives, so that another can
tell a dead one, and count what it had accepted and neither kept nor dropped as lost in the crash.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

SUFFIX = ".counts"

# Cells of eight bytes, so that storing one is a single step.
PRODUCED = 0  # accepted by `put`, or dropped by it
DROPPED = 1  # never in the log, never given to Redis; counted by reason
KEPT = 2  # in the log, ever
DIRECT = 3  # given to Redis without having been in the log
WRITTEN = 4  # of those in the log, up to this total Redis has been seen to have them
LOST = 5  # of those in a log, this process' or another's: dropped later, counted by reason
CRASHED = 6  # neither kept nor dropped when the process ended
SETTLED = 7  # 1: the process has ended and CRASHED is known
DOUBT_SHARD, DOUBT_NUMBER, DOUBT_DIRECT = 8, 9, 10  # the last batch without the log, and DIRECT once Redis has it
_CELLS = 16
_SIZE = 8 * _CELLS
NEVER = 2**63


@dataclass(frozen=True, slots=True)
class Totals:
    """Records of all processes whose files are still in the folder; `produced` is the sum of the rest.

    `taken`: in Redis, or waiting in a log. A living process' queue is in none of the rest.
    """

    produced: int
    dropped: int
    crashed: int
    lost: int
    taken: int


class Counts:
    """`cells` are the numbers."""

    def __init__(self, memory: mmap.mmap, descriptor: int | None) -> None:
        self._memory = memory
        self._descriptor = descriptor
        self.cells = memoryview(memory).cast("Q")

    @classmethod
    def nowhere(cls) -> Self:
        """In memory only."""
        return cls(mmap.mmap(-1, _SIZE), None)

    @classmethod
    def create(cls, path: Path) -> Self:
        """A new file, locked before others can see it; where the folder takes none, the numbers are in memory only."""
        fresh = path.with_suffix(".new")
        try:
            descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:
            return cls.nowhere()
        try:
            os.write(descriptor, bytes(_SIZE))  # allocated: a full disk must not show at a store
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            memory = mmap.mmap(descriptor, _SIZE)
            fresh.replace(path)
            return cls(memory, descriptor)
        except OSError:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                fresh.unlink()
            return cls.nowhere()

    @classmethod
    def take(cls, path: Path) -> Self | None:
        """The file of a process that has ended, locked; None when it lives, or another has it.

        Where there is none it is made: the log of a process without one is to be taken over, too.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                if os.fstat(descriptor).st_size < _SIZE:
                    os.pwrite(descriptor, bytes(_SIZE), 0)
                return cls(mmap.mmap(descriptor, _SIZE), descriptor)
        except OSError:
            pass
        os.close(descriptor)
        return None

    @property
    def locked(self) -> bool:
        return self._descriptor is not None

    def close(self) -> None:
        """Frees the lock; the file stays."""
        self.cells.release()
        self._memory.close()
        if self._descriptor is not None:
            os.close(self._descriptor)

    def direct(self, shard: int, number: int, count: int) -> None:
        """A batch goes to Redis without having been in the log: whether it arrived, its marker will tell."""
        cells = self.cells
        cells[DOUBT_NUMBER] = NEVER
        cells[DOUBT_SHARD], cells[DOUBT_DIRECT] = shard, cells[DIRECT] + count
        cells[DOUBT_NUMBER] = number

    def arrived(self) -> None:
        """Redis has the batch of `direct`."""
        self.cells[DIRECT] = self.cells[DOUBT_DIRECT]

    @property
    def missing(self) -> int:
        """Accepted, and so far neither kept nor dropped: in the queue of a living process, lost by a dead one."""
        cells = self.cells
        return max(0, cells[PRODUCED] - cells[DROPPED] - cells[KEPT] - cells[DIRECT])

    def settle(self) -> int:
        """The process has ended; how many records it took with it."""
        self.cells[CRASHED] = self.missing
        return self.missing

    def settled(self) -> None:
        """What `settle` said has been counted."""
        self.cells[SETTLED] = 1


def read_totals(folder: Path) -> Totals:
    """The sum over all files: what tests and benches hold against what they find."""
    files = list(_files(folder))

    def total(*cells: int) -> int:
        return sum(file[cell] for file in files for cell in cells)

    return Totals(total(PRODUCED), total(DROPPED), total(CRASHED), total(LOST), total(KEPT, DIRECT) - total(LOST))


def _files(folder: Path) -> Iterator[memoryview]:
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):
            data = path.read_bytes()
            if len(data) == _SIZE:
                yield memoryview(data).cast("Q")
