"""The one batching task that takes records off the request path: into bounded Redis streams, or the spool on disk.

`put` never waits and never fails: a full queue drops the record and counts it. A batch that Redis does not take goes to
the spool, and what follows it too, until Redis is back and has the spool: within a stream a process keeps its order.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import deque
from collections.abc import Iterable
from typing import Any

import redis.asyncio as aioredis
from redis.exceptions import ResponseError

from router.evidence.memory import MemoryShare, is_full
from router.evidence.redis import APPEND, Unreachable
from router.evidence.spool import Record, Spool, SpoolFull
from router.record.metrics import Metrics
from router.settings import Evidence

log = logging.getLogger("distill_router.evidence")

DECISIONS = "distill-router:decisions"
DISAGREEMENTS = "distill-router:disagreements"
AGREEMENTS = "distill-router:agreements"
STREAMS = frozenset({DECISIONS, DISAGREEMENTS, AGREEMENTS})

BATCH_RECORDS = 500
BATCH_BYTES = 512 * 1024  # Redis counts a request that it receives as used memory
BATCH_WAIT_S = 0.05
REPLAY_EVERY_S = 2.0


class EvidenceWriter:
    """`redis` None: everything goes to the spool. `replay_every_s`: how long Redis is left alone after a failure."""

    def __init__(
        self,
        config: Evidence,
        redis: aioredis.Redis | None,
        metrics: Metrics,
        replay_every_s: float = REPLAY_EVERY_S,
    ) -> None:
        self._config = config
        self._replay_every_s = replay_every_s
        self._redis = redis
        self._append: Any = redis.register_script(APPEND) if redis else None
        self._share = MemoryShare(redis, metrics, STREAMS) if redis else None
        self._metrics = metrics
        self._spool = Spool(config.spool_dir, config.spool_max_bytes)
        self._written: dict[str, tuple[int, int]] = {}
        for stream in STREAMS:
            metrics.records_written.labels(stream)
            metrics.records_spooled.labels(stream)
        self._queue: deque[Record] = deque()
        self._queued_bytes = 0
        self._wanted = asyncio.Event()
        self._drained = asyncio.Event()
        self._stopping = False
        self._behind = False  # older records than those in the queue wait in the spool
        self._redis_at = 0.0  # Redis has failed and is left alone until then
        self._look_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def put(self, stream: str, record: bytes) -> None:
        """Queue one record (JSON without line breaks)."""
        config = self._config
        if len(self._queue) >= config.queue_max_records or self._queued_bytes + len(record) > config.queue_max_bytes:
            self._metrics.records_dropped.labels("queue_full").inc()
            return
        self._queue.append((stream, record))
        self._drained.clear()
        self._queued_bytes += len(record)
        if not self._wanted.is_set():
            self._wanted.set()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="evidence writer")

    async def flush(self) -> None:
        """Wait until everything queued so far has been written somewhere."""
        if self._queue:
            await self._drained.wait()

    async def close(self) -> None:
        """Write what is queued, then stop."""
        self._stopping = True
        self._wanted.set()
        if self._task:
            await self._task
        self._spool.close()
        if self._redis:
            await self._redis.aclose()

    async def _run(self) -> None:
        while not (self._stopping and not self._queue):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._replay_every_s):
                    await self._wanted.wait()
            if not self._stopping:
                await asyncio.sleep(BATCH_WAIT_S)
            self._wanted.clear()
            try:
                await self._turn()
            except Exception:  # the edge of a background task
                log.exception("evidence lost")
                lost = len(self._next_batch())
                self._metrics.records_dropped.labels("writer_error").inc(lost)
                self._take_off(lost)
                if not self._queue:
                    self._drained.set()

    async def _turn(self) -> None:
        """What is older goes first: the spool, then the queue."""
        if not self._stopping:
            await self._look()
            await self._replay()
        while batch := self._next_batch():
            size = len(batch)
            if left := await self._to_redis(batch):
                await self._to_spool(left)
            self._take_off(size)
        self._drained.set()

    def _next_batch(self) -> list[Record]:
        return first_batch(self._queue)

    def _take_off(self, size: int) -> None:
        """Only once a batch is written: `flush` returns after that."""
        for _ in range(size):
            self._queued_bytes -= len(self._queue.popleft()[1])

    async def _to_redis(self, batch: list[Record]) -> list[Record]:
        """Append a batch; gives back what Redis did not take, or all of it while older records wait in the spool."""
        if self._share is None or self._behind or self._now() < self._redis_at:
            return batch
        return await self._append_all(self._share, batch)

    async def _look(self) -> None:
        """Keep to our share of Redis' memory, now and then."""
        if self._share is None or self._now() < self._redis_at or not self._share.due(self._now()):
            return
        try:
            await self._share.look(self._now())
        except Unreachable as error:
            self._leave_alone(error)

    def _leave_alone(self, error: Exception) -> None:
        log.warning("Redis does not take evidence, spooling to disk: %s", error)
        self._redis_at = self._now() + self._replay_every_s

    async def _append_all(self, share: MemoryShare, batch: list[Record]) -> list[Record]:
        await self._look()
        if self._now() < self._redis_at:
            return batch
        by_stream: dict[str, list[bytes]] = {}
        for stream, record in batch:
            by_stream.setdefault(stream, []).append(record)
        try:
            for stream, records in list(by_stream.items()):
                await self._append_one(share, stream, records)
                self._metrics.records_written.labels(stream).inc(len(records))
                del by_stream[stream]
        except Unreachable as error:
            self._leave_alone(error)
        return [(stream, record) for stream, records in by_stream.items() for record in records]

    async def _append_one(self, share: MemoryShare, stream: str, records: list[bytes]) -> None:
        """All or nothing. When Redis is full, older evidence makes room, once. Raises `Unreachable`."""
        bound = share.bound(stream, self._bound(stream, records))
        share.wrote(sum(map(len, records)))
        try:
            await self._append(keys=[stream], args=[bound, *records])
        except ResponseError as error:
            if not is_full(error):
                raise
            await share.yield_some()
            await self._append(keys=[stream], args=[share.bound(stream, bound), *records])

    def _known(self, records: list[Record]) -> list[Record]:
        """A spool may hold streams of another version of this program: nothing here could read them."""
        known = [record for record in records if record[0] in STREAMS]
        if len(known) < len(records):
            self._metrics.records_dropped.labels("unknown_stream").inc(len(records) - len(known))
        return known

    def _bound(self, stream: str, records: list[bytes]) -> int:
        """How many entries the stream may keep: as configured, and of pairs no more than the bytes allow on average."""
        if stream == DECISIONS:
            return self._config.decisions_max
        count, size = self._written.get(stream, (0, 0))
        count, size = count + len(records), size + sum(map(len, records))
        self._written[stream] = (count, size)
        return max(1, min(self._config.pairs_max, self._config.pairs_max_bytes * count // size))

    async def _to_spool(self, batch: list[Record]) -> None:
        while True:
            try:
                await asyncio.to_thread(self._spool.append, batch)
                break
            except SpoolFull as error:
                if await self._made_room():
                    continue
                log.error("evidence lost: %s", error)
                self._metrics.records_dropped.labels("spool_full").inc(len(batch))
                return
        self._behind = self._redis is not None
        for stream, _ in batch:
            self._metrics.records_spooled.labels(stream).inc()

    async def _made_room(self) -> bool:
        """Without Redis the spool is all there is: the latest evidence is worth more than the oldest."""
        if self._redis is not None:
            return False
        lost = await asyncio.to_thread(self._spool.drop_oldest)
        if lost:
            self._metrics.records_dropped.labels("spool_oldest").inc(lost)
        return lost > 0

    async def _replay(self) -> None:
        """Give the spool back to Redis, one segment at a time, oldest first; what comes in meanwhile queues behind.

        Without a spool of its own a process looks now and then for what a crash left behind.
        """
        if self._share is None or self._now() < (self._redis_at if self._behind else self._look_at):
            return
        self._look_at = self._now() + self._replay_every_s
        while (records := await asyncio.to_thread(self._spool.take)) is not None:
            records = self._known(records)
            while records:
                batch = first_batch(records)
                records = records[len(batch) :]
                if left := await self._append_all(self._share, batch):
                    await asyncio.to_thread(self._spool.keep, left + records)
                    self._behind = True
                    return
            await asyncio.to_thread(self._spool.done)
            if len(self._queue) > BATCH_RECORDS:
                return  # a long replay must not let the queue run over: on with the rest at the next turn
        self._behind = False

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def first_batch(records: Iterable[Record]) -> list[Record]:
    """As many as go into one request to Redis; at least one of them."""
    batch: list[Record] = []
    size = 0
    for record in itertools.islice(records, BATCH_RECORDS):
        size += len(record[1])
        if batch and size > BATCH_BYTES:
            break
        batch.append(record)
    return batch
