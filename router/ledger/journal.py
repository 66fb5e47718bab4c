"""What a worker knows of money, kept in a memory-mapped file so that it outlives a killed process.

A slot holds three counters and a name. Writing a counter is one store to memory, without a system call: the kernel
keeps the page when the process dies. A machine that loses power loses what the kernel had not written: a journal from
before the machine started is not believed, and the whole lease counts as spent. A lock on the file tells a living owner
from a dead one.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAGIC = b"distill-router journal 1\n"
SLOT_BYTES = 1024
COUNTERS = 3
WORDS = SLOT_BYTES // 8
NAME_AT = 8 * COUNTERS + 8  # after the counters and the name's length
MAX_NAME = SLOT_BYTES - NAME_AT
SLOTS = 8_192
SUFFIX = ".journal"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # Linux; elsewhere every journal is believed


@dataclass(frozen=True, slots=True)
class Entry:
    """One slot as a dead worker left it."""

    name: str
    counters: tuple[int, int, int]


class JournalFull(Exception):
    """No slot is left, or the name does not fit into one."""


class Journal:
    """The file of one worker. `cells[slot * WORDS + i]` is counter `i` of a slot: integers of 64 bits, at least 0."""

    def __init__(self, folder: Path, worker: str) -> None:
        """Raises OSError when the file cannot be made."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = folder / f"{worker}{SUFFIX}"
        fresh = folder / f"{worker}.fresh"
        self._file = fresh.open("w+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            os.posix_fallocate(self._file.fileno(), 0, SLOTS * SLOT_BYTES)  # a full disk must not kill a worker later
        except OSError:
            self._file.close()
            fresh.unlink(missing_ok=True)
            raise
        self._map = mmap.mmap(self._file.fileno(), SLOTS * SLOT_BYTES)
        head = MAGIC + _boot()
        self._map[: len(head)] = head
        self.cells = memoryview(self._map).cast("q")
        self._free = list(range(SLOTS - 1, 0, -1))  # slot 0 is the head
        fresh.rename(self.path)  # with its lock: nobody finds it without

    def take(self, name: str) -> int:
        """A slot under `name`, its counters 0; gives the index of its first counter. Raises JournalFull."""
        text = name.encode()
        if not self._free or len(text) > MAX_NAME:
            raise JournalFull(name)
        slot = self._free.pop()
        start = slot * SLOT_BYTES
        self._map[start + NAME_AT : start + NAME_AT + len(text)] = text
        self.cells[slot * WORDS + COUNTERS] = len(text)  # last: only now the slot counts
        return slot * WORDS

    def give_back(self, index: int) -> None:
        """Forget a slot."""
        self.cells[index + COUNTERS] = 0
        for i in range(COUNTERS):
            self.cells[index + i] = 0
        self._free.append(index // WORDS)

    def close(self, *, remove: bool) -> None:
        """Let go of the file. `remove` False: somebody else settles what is in it."""
        self.cells.release()
        self._map.close()
        if remove:
            with contextlib.suppress(OSError):  # found again, what is in it was said already
                self.path.unlink(missing_ok=True)
        self._file.close()


@contextlib.contextmanager
def orphan(path: Path) -> Iterator[list[Entry] | None]:
    """The entries of a dead worker's journal, locked meanwhile; none of them when the machine has started since.

    None where its owner lives, it is gone, or it is no journal that this process can read.
    """
    try:
        file = path.open("rb")
    except OSError:
        yield None
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield _content(file.fileno()) if path.exists() else None


def journals(folder: Path) -> list[Path]:
    """All journals in a folder, of the living and of the dead."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def _boot() -> bytes:
    """Another one each time the machine starts."""
    try:
        return BOOT_ID.read_bytes()
    except OSError:
        return b""


def _content(descriptor: int) -> list[Entry] | None:
    if os.fstat(descriptor).st_size != SLOTS * SLOT_BYTES:
        return None
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as content:
        if content[: len(MAGIC)] != MAGIC:
            return None
        head = MAGIC + _boot()
        return list(_entries(content)) if content[: len(head)] == head else []


def _entries(content: mmap.mmap) -> Iterator[Entry]:
    for start in range(SLOT_BYTES, SLOTS * SLOT_BYTES, SLOT_BYTES):
        words = [int.from_bytes(content[start + 8 * i : start + 8 * i + 8], "little") for i in range(COUNTERS + 1)]
        size = words[COUNTERS]
        if 0 < size <= MAX_NAME:
            name = content[start + NAME_AT : start + NAME_AT + size].decode(errors="replace")
            yield Entry(name, (words[0], words[1], words[2]))
