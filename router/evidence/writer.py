"""Takes records off the request path: into a log on disk within 50 ms, from there to bounded Redis streams, once.

`put` never waits and never fails: a full queue drops the record and counts it. One task keeps the log, another brings
it to Redis (`Sender`), so that neither a slow disk nor a frozen Redis holds up the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter, deque

import redis.asyncio as aioredis

from router.evidence.appender import Sending, readable
from router.evidence.batches import BATCH_RECORDS, Batch, Record, batches
from router.evidence.counts import DROPPED, PRODUCED, Counts
from router.evidence.delivery import SURE_S
from router.evidence.orphans import Orphans
from router.evidence.segment import Frame
from router.evidence.sender import Sender
from router.evidence.spool import Log, NoNet, Spool
from router.evidence.streams import STREAMS, SUMS
from router.evidence_settings import Evidence
from router.record.metrics import Metrics

log = logging.getLogger("distill_router.evidence")

BATCH_WAIT_S = 0.05
TURN_RECORDS = 20 * BATCH_RECORDS
TURN_BYTES = 4 * 1024 * 1024
RETRY_S = 2.0


class EvidenceWriter:
    """`redis` None: the log is all there is, and drops the oldest when it is full.

    `destination` names the server behind `redis`, from one start to the next: the logs of ended processes that wrote to
    the same one are taken over. `retry_s`: how long Redis is left alone after a failure. `sure_s`: how long the log
    keeps what Redis has confirmed.
    """

    def __init__(
        self,
        config: Evidence,
        redis: aioredis.Redis | None,
        metrics: Metrics,
        retry_s: float = RETRY_S,
        sure_s: float = SURE_S,
        destination: str = "",
    ) -> None:
        self._config = config
        self._destination = destination
        self._redis = redis
        self._metrics = metrics
        self._retry_s = retry_s
        self._sure_s = sure_s
        for stream in (*STREAMS, SUMS):
            metrics.records_produced.labels(stream)
            metrics.records_written.labels(stream)
            metrics.records_spooled.labels(stream)
        self._counts = Counts.nowhere()
        self._cells = self._counts.cells
        self._queue: deque[Record] = deque()
        self._queued_bytes = 0
        self._taken = 0  # off the queue, and not in the log yet
        self._refusal = "queue_full"
        self._numbers: Counter[int] = Counter()  # by shard, of the last batch
        self._kept: dict[int, int] = {}  # by shard, of the last batch in the log
        self._wanted = asyncio.Event()
        self._full = asyncio.Event()
        self._drained = asyncio.Event()
        self._ended = asyncio.Event()
        self._stopping = False
        self._log: Log | None = None
        self._sender: Sender | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def put(self, stream: str, record_id: str, data: bytes) -> None:
        """Queue one record (JSON) about the request `record_id`."""
        self._cells[PRODUCED] += 1
        config, waiting, size = self._config, len(self._queue), self._queued_bytes + len(data)
        if waiting >= config.queue_max_records or size > config.queue_max_bytes:
            self._metrics.records_produced.labels(stream).inc()
            self._drop(self._refusal, 1)
            return
        self._queue.append(Record(stream, record_id, data))
        self._queued_bytes = size
        if not waiting:
            self._wanted.set()
        elif waiting + 1 == BATCH_RECORDS:
            self._full.set()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def start(self) -> None:
        """Opens the log. What was put before is in it, too."""
        spool = Spool(self._config.spool_dir, self._config.spool_max_bytes, self._destination)
        own = Log.create(spool)
        own.counts.cells[PRODUCED] += self._cells[PRODUCED]
        own.counts.cells[DROPPED] += self._cells[DROPPED]
        self._cells = own.counts.cells
        self._log = own
        self._orphans = Orphans(spool, own.producer, self._metrics)
        if self._redis:
            self._sender = Sender(
                self._redis, self._config, own, self._orphans, self._metrics, self._retry_s, self._sure_s
            )
            self._sender.start()
        self._tasks = [
            asyncio.create_task(self._keep(own), name="evidence writer"),
            asyncio.create_task(self._show(own), name="evidence gauges"),
        ]

    async def flush(self) -> None:
        """Wait until everything queued so far is in Redis, or in the log where Redis does not take it."""
        while self._queue or self._taken:
            self._drained.clear()
            await self._drained.wait()
        if self._sender:
            await self._sender.rest()

    async def close(self) -> None:
        """Write what is queued, then stop. The next process finds in the log what Redis does not have for sure."""
        self._stopping = True
        self._wanted.set()
        self._full.set()
        if self._sender:
            self._sender.closing()
        self._ended.set()
        for task in self._tasks:
            await task
        if self._sender:
            await self._sender.stop()
        if self._log:
            self._cells = Counts.nowhere().cells
            if late := self._log.counts.settle():
                self._metrics.records_dropped.labels("crash").inc(late)
            self._log.counts.settled()
            self._log.close()
        if self._redis:
            await self._redis.aclose()

    async def _keep(self, own: Log) -> None:
        while not (self._stopping and not self._queue):
            await self._some()
            try:
                await self._write(own, self._take())
            except Exception:  # the edge of a background task
                log.exception("evidence lost")
                self._drop("writer_error", self._taken)
            self._taken = 0
            self._drained.set()

    async def _some(self) -> None:
        """Until there is a batch, or something and a moment has passed."""
        if not self._queue and not self._stopping:
            self._wanted.clear()
            await self._wanted.wait()
        self._full.clear()
        if len(self._queue) < BATCH_RECORDS and not self._stopping:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BATCH_WAIT_S):
                    await self._full.wait()

    def _take(self) -> list[Record]:
        """Off the queue."""
        records: list[Record] = []
        size = 0
        while self._queue and len(records) < TURN_RECORDS and size < TURN_BYTES:
            records.append(self._queue.popleft())
            size += len(records[-1].data)
        self._queued_bytes -= size
        self._taken = len(records)
        for stream, count in Counter(record.stream for record in records).items():
            self._metrics.records_produced.labels(stream).inc(count)
        return records

    async def _write(self, own: Log, records: list[Record]) -> None:
        known = [record for record in records if readable(record.stream, record.data)]
        if len(known) < len(records):
            self._drop("unknown_stream", len(records) - len(known))
            self._taken = len(known)
        made = batches(known, self._config.shards)
        if not made:
            return
        if not own.counts.locked:
            await self._begin_log(own)
        sendings = self._number(own, made)
        try:
            await (self._sender.keep(sendings) if self._sender else self._to_log_alone(own, sendings))
        except NoNet as error:
            await self._without_log(own, made, error)
            return
        self._kept.update({sending.frame.shard: sending.frame.number for sending in sendings})

    async def _begin_log(self, own: Log) -> None:
        """The folder had no room at the start, or was not there: it may have now."""
        if counts := await asyncio.to_thread(own.counts_on_disk):
            own.count_in(counts)
            self._cells = counts.cells
            log.warning("evidence has a log on disk from now on")

    def _number(self, own: Log, made: list[Batch]) -> list[Sending]:
        """The batches as the next ones in the log. A number that was given is never given again."""
        total, now, floors = own.total, time.time(), self._kept.copy()
        sendings = []
        for batch in made:
            total += batch.count
            self._numbers[batch.shard] += 1
            frame = Frame(batch.shard, self._numbers[batch.shard], total, now, batch.records)
            sendings.append(Sending(frame, floors.get(batch.shard, 0)))
            floors[batch.shard] = frame.number
        return sendings

    async def _to_log_alone(self, own: Log, sendings: list[Sending]) -> None:
        """Without Redis: the latest evidence is worth more than the oldest. Raises NoNet."""
        frames = [sending.frame for sending in sendings]
        while True:
            try:
                await asyncio.to_thread(own.append, frames)
                break
            except NoNet:
                lost = await asyncio.to_thread(self._orphans.make_room, own)
                if lost is None:
                    raise
                self._metrics.records_dropped.labels("spool_oldest").inc(lost)
        for frame in frames:
            for stream, records in frame.records.items():
                self._metrics.records_spooled.labels(stream).inc(len(records))

    async def _without_log(self, own: Log, made: list[Batch], error: NoNet) -> None:
        """To Redis without the net, one batch at a time; meanwhile the queue is all the room there is."""
        if self._refusal == "queue_full":
            log.error("evidence has no room on disk: %s", error)
        self._refusal = "spool_full"
        for batch in made:
            self._numbers[batch.shard] += 1
            frame = Frame(batch.shard, self._numbers[batch.shard], 0, time.time(), batch.records)
            own.counts.direct(frame.shard, frame.number, batch.count)
            if self._sender and await self._sender.direct(Sending(frame, self._kept.get(batch.shard, 0))):
                own.counts.arrived()
                for stream, records in batch.records.items():
                    self._metrics.records_written.labels(stream).inc(len(records))
            else:
                self._drop("spool_full", batch.count)
            self._taken -= batch.count
        self._refusal = "queue_full"

    def _drop(self, reason: str, count: int) -> None:
        self._cells[DROPPED] += count
        self._metrics.records_dropped.labels(reason).inc(count)

    async def _show(self, own: Log) -> None:
        """The gauges of the spool; without Redis also the counts of processes that have ended."""
        while not self._stopping:
            try:
                await self._look(own)
            except Exception:  # the edge of a background task
                log.exception("the spool cannot be looked at")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._retry_s):
                    await self._ended.wait()

    async def _look(self, own: Log) -> None:
        await asyncio.to_thread(own.spool.measure)
        self._metrics.spool_bytes.set(own.spool.size)
        oldest = self._sender.oldest if self._sender else None
        self._metrics.spool_oldest.set(max(0.0, time.time() - oldest) if oldest else 0.0)
        if self._sender is None:
            for dead in await asyncio.to_thread(self._orphans.find, set()):
                await self._orphans.settle(dead, None)
                self._orphans.let_go(dead)
