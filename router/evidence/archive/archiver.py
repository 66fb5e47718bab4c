"""From Redis into an archive: every record once, whatever dies on the way.

A shard is archived by one archiver at a time (`lock`). It reads through a consumer group, writes files, and only then
acknowledges: what it had when it was killed is delivered again, to whoever takes the lock next. Before a record is
written, the files that hold records of its time are looked through for its id, so that a second delivery adds nothing:
after a kill between file and acknowledgement, after a Redis that lost its last second, after a producer's second try.

What this leaves open: an archiver that is frozen for longer than the lock's lease exactly between its last look at the
lock and the file's appearance can write what another one has written. Readers go by id.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import redis

from router.errors import ConfigError
from router.evidence.archive.batch import Batch
from router.evidence.archive.erase import erase_parts
from router.evidence.archive.group import PAGE, Entry, Group
from router.evidence.archive.lock import LockLost, ShardLocks
from router.evidence.archive.store import Store
from router.evidence.erasure import ARCHIVES, Tombstones, read_tombstones, write_tombstones
from router.evidence.redis import Unreachable
from router.evidence.streams import STREAMS

log = logging.getLogger("distill_router.archive")

FLUSH_RECORDS = 50_000
FLUSH_BYTES = 64 * 1024 * 1024
FLUSH_S = 60.0
POLL_S = 0.5


@dataclass(slots=True)
class Summary:
    """Records by stream. `known`: were in the archive already; `gone`: were trimmed from Redis before they could be
    archived; `busy`: shards that another archiver is at."""

    written: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)
    erased: Counter[str] = field(default_factory=Counter)
    dead: Counter[str] = field(default_factory=Counter)
    gone: Counter[str] = field(default_factory=Counter)
    files: int = 0
    busy: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Shard:
    """What a shard's archiver holds in memory, delivered but not written. `since`: when it held nothing, the last time;
    a monotonic time."""

    number: int
    group: Group
    waiting: dict[str, list[Entry]] = field(default_factory=lambda: {stream: [] for stream in STREAMS})
    records: int = 0
    bytes: int = 0
    since: float = 0.0

    def add(self, stream: str, entries: Sequence[Entry]) -> None:
        self.waiting[stream].extend(entries)
        self.records += len(entries)
        self.bytes += sum(len(entry.data) for entry in entries)

    def clear(self) -> None:
        for entries in self.waiting.values():
            entries.clear()
        self.records = self.bytes = 0

    @property
    def full(self) -> bool:
        return self.records >= FLUSH_RECORDS or self.bytes >= FLUSH_BYTES


class Archiver:
    """Blocking; in one thread, beside that of the locks."""

    def __init__(
        self,
        client: redis.Redis,
        shards: int,
        store: Store,
        name: str,
        *,
        lease_s: float,
        flush_s: float = FLUSH_S,
        told: Callable[[Summary], None] = lambda _: None,
    ) -> None:
        """`name`: unique among archivers. `told` hears the sums so far after every write."""
        self._client = client
        self._store = store
        self._locks = ShardLocks(client, name, lease_s)
        self._shards = [_Shard(number, Group(client, number, name)) for number in range(shards)]
        self._flush_s = flush_s
        self._told = told
        self.summary = Summary()

    def once(self) -> Summary:
        """Archive what is there. A shard that another archiver is at is left to it. Raises ConfigError."""
        try:
            self._begin()
            with self._locks:
                for shard in self._shards:
                    if self._taken_patiently(shard):
                        self._drain(shard)
                        self._locks.release(shard.number)
                    else:
                        self.summary.busy.add(shard.number)
        except Unreachable as error:
            raise ConfigError(f"redis: no answer: {error}") from error
        except LockLost as error:
            raise ConfigError(f"archive: {error}; what was not written is its work now") from error
        return self.summary

    def follow(self, stop: threading.Event) -> Summary:
        """Go on until `stop` is set, through outages of Redis; what was read by then is written.

        Raises ConfigError where it cannot even begin.
        """
        self._begin()
        with self._locks:
            held: list[_Shard] = []
            well = True
            while not stop.is_set():
                try:
                    if not well:
                        self._begin()
                    held = self._hold(held)
                    came = self._step(held)
                    well = True
                except (*Unreachable, LockLost, ConfigError) as error:
                    if well:
                        log.warning("archiving pauses: %s", error)
                    held, came, well = self._let_go(), False, False
                if not came:
                    stop.wait(POLL_S)
            self._finish(held)
        return self.summary

    def _begin(self) -> None:
        """Raises ConfigError."""
        self._store.sweep()
        try:
            self._client.sadd(ARCHIVES, self._store.name)
        except Unreachable as error:
            raise ConfigError(f"redis: no answer: {error}") from error
        write_tombstones(self._client, self._store.tombstones())

    def _taken_patiently(self, shard: _Shard) -> bool:
        """The lock of a dead archiver ends within its lease; one that lasts longer is held by a living one."""
        deadline = time.monotonic() + self._locks.lease_s * 1.5
        while not self._locks.take(shard.number):
            if time.monotonic() > deadline:
                return False
            time.sleep(self._locks.lease_s / 20)
        return True

    def _drain(self, shard: _Shard) -> None:
        """Up to the first page that is not full: with traffic there is always one more record."""
        self._take_over(shard)
        while self._read(shard) == PAGE:
            if shard.full:
                self._flush(shard)
        self._flush(shard)

    def _hold(self, held: list[_Shard]) -> list[_Shard]:
        """With the shards that nobody else is at any more."""
        fresh = [shard for shard in self._shards if shard not in held and self._locks.take(shard.number)]
        for shard in fresh:
            self._take_over(shard)
        return [*held, *fresh]

    def _step(self, held: list[_Shard]) -> bool:
        """Read once from each shard and write what is due; whether anything came."""
        came = False
        for shard in held:
            self._locks.require(shard.number)
            came = bool(self._read(shard)) or came
            if shard.full or time.monotonic() - shard.since >= self._flush_s:
                self._flush(shard)
                self._take_over(shard)
        return came

    def _let_go(self) -> list[_Shard]:
        """What was not written stays unacknowledged and comes again."""
        self._locks.forget()
        for shard in self._shards:
            shard.clear()
        return []

    def _finish(self, held: Iterable[_Shard]) -> None:
        try:
            for shard in held:
                self._flush(shard)
        except (*Unreachable, LockLost, ConfigError) as error:
            log.warning("what was read last is left to the next archiver: %s", error)

    def _take_over(self, shard: _Shard) -> None:
        """What other consumers were given and never finished; there is nothing in memory now."""
        shard.since = time.monotonic()
        shard.group.ensure()
        for stream in STREAMS:
            for entries, gone in shard.group.left(stream):
                self.summary.gone += Counter({stream: gone})
                shard.add(stream, entries)
                if shard.full:
                    self._flush(shard)
        shard.group.tidy()

    def _read(self, shard: _Shard) -> int:
        """How many entries came of the stream that most came of."""
        entries = shard.group.fresh()
        for stream, some in entries.items():
            shard.add(stream, some)
        return max(map(len, entries.values()), default=0)

    def _flush(self, shard: _Shard) -> None:
        if not shard.records:
            return
        tombstones = self._tombstones()
        for stream, entries in shard.waiting.items():
            if entries:
                batch = Batch(stream, entries, tombstones, self._store)
                written = batch.write(partial(self._locks.check, shard.number))
                now = self._tombstones()
                if now != tombstones:  # someone erased while this was written
                    erase_parts(self._store, stream, written, now)
                shard.group.bury(stream, batch.dead)
                shard.group.done(stream, batch.finished())
                self._count(stream, batch, len(written))
        shard.clear()
        self._told(self.summary)

    def _tombstones(self) -> Tombstones:
        """Those of Redis, which the archive gets too: it may be read where Redis is not."""
        known = read_tombstones(self._client)
        if known:
            self._store.bury(known)
        return known

    def _count(self, stream: str, batch: Batch, files: int) -> None:
        summary = self.summary
        summary.written += Counter({stream: batch.written})
        summary.known += Counter({stream: batch.known})
        summary.erased += Counter({stream: batch.erased})
        summary.dead += Counter({stream: len(batch.dead)})
        summary.files += files
