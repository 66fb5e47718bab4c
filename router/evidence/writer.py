"""The one batching task that takes records off the request path: into bounded Redis streams, or the spool on disk.

`put` never waits and never fails: a full queue drops the record and counts it. A batch that Redis does not take goes to
the spool; when Redis is back, the spool is replayed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import Any

import redis.asyncio as aioredis

from router.evidence.redis import APPEND, Unreachable
from router.evidence.spool import Record, Spool, SpoolFull
from router.record.metrics import Metrics
from router.settings import Evidence

log = logging.getLogger("distill_router.evidence")

DECISIONS = "distill-router:decisions"
DISAGREEMENTS = "distill-router:disagreements"
AGREEMENTS = "distill-router:agreements"

BATCH_RECORDS = 500
BATCH_WAIT_S = 0.05
REPLAY_EVERY_S = 2.0


class EvidenceWriter:
    """`redis` None: everything goes to the spool."""

    def __init__(self, config: Evidence, redis: aioredis.Redis | None, metrics: Metrics) -> None:
        self._config = config
        self._redis = redis
        self._append: Any = redis.register_script(APPEND) if redis else None
        self._metrics = metrics
        self._spool = Spool(config.spool_dir, config.spool_max_bytes)
        self._bounds = {
            DECISIONS: config.decisions_max,
            DISAGREEMENTS: config.pairs_max,
            AGREEMENTS: config.pairs_max,
        }
        self._queue: deque[Record] = deque()
        self._queued_bytes = 0
        self._wanted = asyncio.Event()
        self._drained = asyncio.Event()
        self._stopping = False
        self._replay_at = 0.0
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
                async with asyncio.timeout(REPLAY_EVERY_S):
                    await self._wanted.wait()
            if not self._stopping:
                await asyncio.sleep(BATCH_WAIT_S)
            self._wanted.clear()
            while self._queue:
                await self._write([self._queue[i] for i in range(min(BATCH_RECORDS, len(self._queue)))])
            self._drained.set()
            await self._replay()

    async def _write(self, batch: list[Record]) -> None:
        """Write one batch, then take it off the queue: `flush` returns only after that."""
        size = len(batch)
        if not await self._to_redis(batch):
            await self._to_spool(batch)
        for _ in range(size):
            self._queued_bytes -= len(self._queue.popleft()[1])

    async def _to_redis(self, batch: list[Record]) -> bool:
        if self._redis is None or asyncio.get_running_loop().time() < self._replay_at:
            return False
        by_stream: dict[str, list[bytes]] = {}
        for stream, record in batch:
            by_stream.setdefault(stream, []).append(record)
        try:
            for stream, records in list(by_stream.items()):
                await self._append(keys=[stream], args=[self._bounds[stream], *records])
                self._metrics.records_written.labels(stream).inc(len(records))
                del by_stream[stream]
        except Unreachable as error:
            log.warning("Redis does not take evidence, spooling to disk: %s", error)
            self._replay_at = asyncio.get_running_loop().time() + REPLAY_EVERY_S
            batch[:] = [(stream, record) for stream, records in by_stream.items() for record in records]
            return False
        return True

    async def _to_spool(self, batch: list[Record]) -> None:
        try:
            await asyncio.to_thread(self._spool.append, batch)
        except SpoolFull as error:
            log.error("evidence lost: %s", error)
            self._metrics.records_dropped.labels("spool_full").inc(len(batch))
            return
        for stream, _ in batch:
            self._metrics.records_spooled.labels(stream).inc()

    async def _replay(self) -> None:
        """Give the spool back to Redis, one segment at a time, oldest first."""
        if self._redis is None or not await self._answers(self._redis):
            return
        while (records := await asyncio.to_thread(self._spool.take)) is not None:
            for start in range(0, len(records), BATCH_RECORDS):
                if not await self._to_redis(records[start : start + BATCH_RECORDS]):
                    return
            await asyncio.to_thread(self._spool.done)

    async def _answers(self, redis: aioredis.Redis) -> bool:
        if not await asyncio.to_thread(self._spool.waits):
            return False
        try:
            await redis.execute_command("PING")  # type: ignore[no-untyped-call]  # untyped there
        except Unreachable:
            return False
        return True
