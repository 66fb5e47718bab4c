"""The task that brings the logs to Redis: this process' own, and those of processes that have ended.

After a failure Redis is left alone for a moment (a circuit that opens); what is written meanwhile waits in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable

import redis.asyncio as aioredis

from router.evidence.appender import Appender, Gap, Sending
from router.evidence.bounds import Bounds
from router.evidence.counts import LOST, WRITTEN
from router.evidence.delivery import SURE_S, Delivery
from router.evidence.memory import MemoryShare
from router.evidence.orphans import Orphans
from router.evidence.redis import Unreachable
from router.evidence.segment import Frame
from router.evidence.spool import Log, Unread
from router.evidence.streams import STREAMS, SUMS
from router.evidence.upkeep import Upkeep
from router.evidence_settings import Evidence
from router.record.metrics import Metrics

log = logging.getLogger("distill_router.evidence")

CHECK_EVERY_S = 1.0
KNOWN = {*STREAMS, SUMS}


class Sender:
    """`retry_s`: how long Redis is left alone after a failure, and how often others' logs are looked for."""

    def __init__(
        self,
        client: aioredis.Redis,
        config: Evidence,
        own: Log,
        orphans: Orphans,
        metrics: Metrics,
        retry_s: float,
        sure_s: float = SURE_S,
    ) -> None:
        bounds = Bounds(config)
        self._appender = Appender(client, MemoryShare(client, metrics, config.shards), bounds)
        self._upkeep = Upkeep(client, config.shards, bounds, metrics)
        self._own = Delivery(own, self._appender, self._had, behind=False, sure_s=sure_s)
        self._others: list[Delivery] = []
        self._orphans = orphans
        self._metrics = metrics
        self._retry_s = retry_s
        self._sure_s = sure_s
        self._open_until = 0.0
        self._failing = False
        self._check_at = 0.0
        self._find_at = 0.0
        self.wanted = asyncio.Event()
        self._moved = asyncio.Event()
        self._closing = self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="evidence sender")

    def closing(self) -> None:
        """From now on nothing waits for a Redis that is away."""
        self._closing = True

    async def stop(self) -> None:
        """Send what is on its way, if Redis takes it; the logs keep the rest."""
        self._stopping = True
        self.wanted.set()
        if self._task:
            await self._task
        for other in self._others:
            other.log.close()

    @property
    def oldest(self) -> float | None:
        """When the first record was written that Redis does not have (Unix time)."""
        found = [oldest for delivery in self._all if (oldest := delivery.oldest) is not None]
        return min(found, default=None)

    async def keep(self, sendings: list[Sending]) -> None:
        """Into the log, and on to Redis. Raises NoNet."""
        if not await self._own.keep(sendings):
            self._count_spooled(sending.frame for sending in sendings)
        elif self._own.swamped:
            self._count_spooled(self._own.fall_behind())
        self.wanted.set()

    async def direct(self, sending: Sending) -> bool:
        """To Redis, without the log: waits until it is there; False: the process ends first."""
        self._own.begin_direct(sending)
        self.wanted.set()
        while not self._own.arrived and not (self._closing and self._failing):
            await self.moved()
        return self._own.end_direct()

    async def rest(self) -> None:
        """Wait until what was kept is in Redis, or Redis does not take it."""
        while not (self._failing or self._own.at_rest):
            await self.moved()

    async def moved(self) -> None:
        """Something has been sent, or has failed."""
        self._moved.clear()
        await self._moved.wait()

    @property
    def _all(self) -> list[Delivery]:
        return [self._own, *self._others]

    async def _run(self) -> None:
        while True:
            self.wanted.clear()
            last = self._stopping
            more = await self._turn()
            self._moved.set()
            if last:
                return
            if not more:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(self._retry_s, CHECK_EVERY_S)):
                        await self.wanted.wait()

    async def _turn(self) -> bool:
        """Whether there is more to do at once."""
        now = self._now()
        try:
            await self._take_over(now)
            if now < self._open_until:
                return False
            more = await self._send(now)
        except Unreachable as error:
            self._open(error)
            return False
        except Exception as error:  # the edge of a background task
            log.exception("evidence waits in the log")
            self._open(error)
            return False
        if self._failing:
            self._failing = False
            log.warning("Redis takes evidence again")
        return more

    def _open(self, error: Exception) -> None:
        if not self._failing:
            log.warning("Redis does not take evidence, it waits on disk: %s", error)
        self._failing = True
        self._open_until = self._now() + self._retry_s
        self._count_spooled(self._own.fall_behind())

    async def _send(self, now: float) -> bool:
        """Whether there is more to do at once. Raises Unreachable."""
        await self._appender.look(now)
        await self._send_some(self._own)
        for other in list(self._others):
            await self._send_of(other)
        if self._stopping:
            return False
        if now >= self._check_at:
            self._check_at = now + min(CHECK_EVERY_S, self._sure_s)
            for delivery in self._all:
                await self._release(delivery, now)
            await self._let_go()
            await self._upkeep.turn(now)
        return not all(delivery.at_rest for delivery in self._all)

    async def _send_of(self, other: Delivery) -> None:
        """A log that cannot be read now holds no other up. Raises Unreachable."""
        try:
            await self._send_some(other)
        except Unread as error:
            self._others.remove(other)
            self._orphans.leave(other.log, error)

    async def _send_some(self, delivery: Delivery) -> None:
        """All that was kept since, or one segment from the disk. Raises Unreachable, Unread among them."""
        try:
            if delivery.behind and not self._stopping:
                await delivery.replay()
            await delivery.send_tail()
            await delivery.send_direct()
        except Gap:
            self._lose_ground(delivery)
        except Unreachable:
            self._count_spooled(delivery.fall_behind())
            raise

    async def _take_over(self, now: float) -> None:
        """Look for logs that nobody holds."""
        if self._stopping or now < self._find_at:
            return
        self._find_at = now + self._retry_s
        held = {delivery.log.producer for delivery in self._others}
        for other in await asyncio.to_thread(self._orphans.find, held):
            self._others.append(Delivery(other, self._appender, self._had, behind=True, sure_s=self._sure_s))

    async def _release(self, delivery: Delivery, now: float) -> None:
        """Remove what Redis has for sure. Raises Unreachable."""
        try:
            damaged = await delivery.release(now)
        except Gap:
            self._lose_ground(delivery)
            return
        if damaged:
            self._metrics.records_dropped.labels("damaged").inc(damaged)

    async def _let_go(self) -> None:
        """Count what dead processes lost, and leave those whose logs are empty. Raises Unreachable."""
        for other in list(self._others):
            await self._orphans.settle(other.log, self._appender)
            if not other.log.segments:
                self._others.remove(other)
                self._orphans.let_go(other.log)

    def _lose_ground(self, delivery: Delivery) -> None:
        log.warning("Redis has lost evidence that it had confirmed; what the log still has of it is sent again")
        self._count_spooled(delivery.lose_ground())

    def _had(self, own: Log, frame: Frame) -> None:
        """Redis has a frame: count it when that is the first time, in whatever process."""
        cells = own.counts.cells
        if frame.total <= cells[WRITTEN]:
            return
        for stream, records in frame.records.items():
            if stream in KNOWN:
                self._metrics.records_written.labels(stream).inc(len(records))
            else:
                self._metrics.records_dropped.labels("unknown_stream").inc(len(records))
                cells[LOST] += len(records)
        cells[WRITTEN] = frame.total

    def _count_spooled(self, frames: Iterable[Frame]) -> None:
        for frame in frames:
            for stream, records in frame.records.items():
                self._metrics.records_spooled.labels(stream).inc(len(records))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
