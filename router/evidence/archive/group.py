"""The consumer group `archive` on the streams of one shard: what is new, what others left behind, and what is done."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis
from redis.exceptions import ResponseError

from router.evidence.streams import STREAMS, shard_key

GROUP = "archive"
DEAD = "dead"
DEAD_MAX = 10_000
DEAD_S = 30 * 24 * 3600
PAGE = 200
ACK_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """A stream's entry as it was delivered; `data`: the record."""

    entry_id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class DeadLetter:
    entry: Entry
    reason: str


class Group:
    """One consumer's view of one shard. Blocking; every method raises RedisError."""

    def __init__(self, client: redis.Redis, shard: int, consumer: str) -> None:
        self._client = client
        self._shard = shard
        self._consumer = consumer

    def ensure(self) -> None:
        """Create the groups, from the oldest record on."""
        for stream in STREAMS:
            try:
                self._client.xgroup_create(self._key(stream), GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    def fresh(self) -> dict[str, list[Entry]]:
        """The next entries of each stream that nobody has got yet."""
        keys = {self._key(stream): stream for stream in STREAMS}
        reply = cast(
            Any, self._client.xreadgroup(GROUP, self._consumer, dict.fromkeys(keys, ">"), count=PAGE, noack=False)
        )
        pairs = reply.items() if isinstance(reply, dict) else reply or []
        return {keys[name.decode()]: list(_entries(_flat(entries))) for name, entries in pairs}

    def left(self, stream: str) -> Iterator[tuple[list[Entry], int]]:
        """Take over, in pages, every entry that was delivered and not acknowledged: entries, and how many are gone.

        Those that the stream's bound has removed meanwhile are acknowledged, so that they are not asked for again.
        Whoever calls holds the shard's lock: other consumers of it are dead, or will find out that they are.
        """
        key, start = self._key(stream), "-"
        while pending := cast(Any, self._client.xpending_range(key, GROUP, start, "+", PAGE)):
            ids = [one["message_id"].decode() for one in pending]
            claimed = list(_entries(cast(Any, self._client.xclaim(key, GROUP, self._consumer, 0, ids))))
            gone = sorted(set(ids) - {entry.entry_id for entry in claimed})
            self.done(stream, gone)
            yield claimed, len(gone)
            start = f"({ids[-1]}"

    def done(self, stream: str, entry_ids: Sequence[str]) -> None:
        for start in range(0, len(entry_ids), ACK_PAGE):
            self._client.xack(self._key(stream), GROUP, *entry_ids[start : start + ACK_PAGE])

    def bury(self, stream: str, letters: Iterable[DeadLetter]) -> None:
        """Move what cannot be archived to the shard's dead letters, each in one step with its acknowledgement."""
        dead = shard_key(self._shard, DEAD)
        for letter in letters:
            with self._client.pipeline(transaction=True) as pipe:
                pipe.xadd(dead, {"r": _letter(stream, letter)}, maxlen=DEAD_MAX, approximate=True)
                pipe.expire(dead, DEAD_S)
                pipe.xack(self._key(stream), GROUP, letter.entry.entry_id)
                pipe.execute()

    def tidy(self) -> None:
        """Forget consumers that have nothing left; the caller holds the lock, so none of them is alive."""
        for stream in STREAMS:
            for one in self._client.xinfo_consumers(self._key(stream), GROUP):
                if one["pending"] == 0 and one["name"].decode() != self._consumer:
                    self._client.xgroup_delconsumer(self._key(stream), GROUP, one["name"])

    def _key(self, stream: str) -> str:
        return shard_key(self._shard, stream)


def _letter(stream: str, letter: DeadLetter) -> bytes:
    """As JSON; bytes that are no UTF-8 become U+FFFD."""
    return json.dumps(
        {
            "stream": stream,
            "entry": letter.entry.entry_id,
            "reason": letter.reason,
            "time": time.time(),
            "record": letter.entry.data.decode("utf-8", "replace"),
        }
    ).encode()


def _entries(reply: Iterable[tuple[bytes | None, dict[bytes, bytes] | None]]) -> Iterator[Entry]:
    """Without those that have no record: they were deleted."""
    for entry_id, fields in reply:
        if entry_id is not None and fields:
            yield Entry(entry_id.decode(), fields.get(b"r", b""))


def _flat(entries: Any) -> Iterable[tuple[bytes, dict[bytes, bytes]]]:
    """RESP3 wraps a stream's entries in one more list."""
    return cast(Iterable[Any], entries[0] if entries and isinstance(entries[0], list) else entries)
