"""Which model each conversation had last: one table of fixed size for all workers of a host.

A memory-mapped file, or plain memory for one worker, of 20-byte slots: hash of the conversation, time, tokens and arm,
checksum. A place of four slots holds a conversation; the one that was not used for longest makes room. Writers do not
lock: a slot that two of them tore apart fails its checksum and reads as unknown, as does a stale one.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from zlib import crc32

from policies.base import Arm

FILE = "conversations"
SLOTS = 65_536
WAYS = 4  # slots a conversation may be in
_BODY = Struct("<QII")  # hash, Unix time (s), tokens x 2 + is_teacher
_CHECK = Struct("<I")
_SLOT_BYTES = _BODY.size + _CHECK.size
_MOST_TOKENS = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Remembered:
    """The arm that answered last, and how many tokens its model has in its prefix cache."""

    arm: Arm
    tokens: int


class Conversations:
    """`folder`: shared by the workers of the host; None: this process alone. OSError where the file cannot be made."""

    def __init__(self, folder: Path | None = None, slots: int = SLOTS) -> None:
        self._places = max(1, slots // WAYS)
        self._table = _mapped(folder, self._places * WAYS * _SLOT_BYTES)

    def recall(self, route: str, conversation: bytes, now_s: float, ttl_s: float) -> Remembered | None:
        """What is known of a conversation on a route, unless it is older than `ttl_s`."""
        name = _name(route, conversation)
        for at in self._slots(name):
            found = self._read(at)
            if found and found[0] == name:
                _, time_s, word = found
                fresh = -1 <= now_s - time_s <= ttl_s  # another worker's clock may have ticked already
                return Remembered("teacher" if word & 1 else "student", word >> 1) if fresh else None
        return None

    def keep(self, route: str, conversation: bytes, arm: Arm, tokens: int, now_s: float) -> None:
        """That the arm answered, whose model has now seen so many tokens."""
        name = _name(route, conversation)
        word = min(max(0, tokens), _MOST_TOKENS) << 1 | (arm == "teacher")
        body = _BODY.pack(name, int(now_s), word)
        at = min(self._slots(name), key=lambda slot: self._rank(slot, name))
        self._table[at : at + _SLOT_BYTES] = body + _CHECK.pack(crc32(body))

    def close(self) -> None:
        self._table.close()

    def _slots(self, name: int) -> Iterator[int]:
        first = name % self._places * WAYS * _SLOT_BYTES
        return iter(range(first, first + WAYS * _SLOT_BYTES, _SLOT_BYTES))

    def _rank(self, at: int, name: int) -> int:
        """Which slot to write: the conversation's own, else one that is free, else the oldest."""
        found = self._read(at)
        if found is None:
            return 0
        return -1 if found[0] == name else found[1]

    def _read(self, at: int) -> tuple[int, int, int] | None:
        """Hash, time and the rest of a slot; None where it is empty or torn."""
        slot = self._table[at : at + _SLOT_BYTES]
        body = slot[: _BODY.size]
        if crc32(body) != _CHECK.unpack_from(slot, _BODY.size)[0]:
            return None
        name, time_s, word = _BODY.unpack(body)
        return name, time_s, word


def _name(route: str, conversation: bytes) -> int:
    digest = blake2b(conversation, digest_size=8, key=blake2b(route.encode(), digest_size=16).digest())
    return int.from_bytes(digest.digest(), "big")


def _mapped(folder: Path | None, size: int) -> mmap.mmap:
    if folder is None:
        return mmap.mmap(-1, size)
    handle = os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        # Zeros, which fail the checksum; every worker asks for the same size. Reserved, for a write into a page that
        # the disk has no room for kills the process.
        os.posix_fallocate(handle, 0, size)
        return mmap.mmap(handle, size)
    finally:
        os.close(handle)
