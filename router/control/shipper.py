"""Sends what this worker counted to the controllers, in order. While Redis is away it waits, up to a bound."""

from __future__ import annotations

from collections import deque
from typing import Final

import redis.asyncio as aioredis

from router.client import unique_id
from router.control.events import shipped
from router.control.live import Boards
from router.control.metrics import ControlSeries
from router.control.names import EVENTS

MOST_WAITING: Final = 240  # shipments; two minutes of them
MOST_EVENTS: Final = 4_000  # in the stream, about


class Shipper:
    """One per process. Shipments are numbered, so that one sent twice, because nobody answered, counts once."""

    def __init__(self, redis: aioredis.Redis, series: ControlSeries, boards: Boards) -> None:
        self._redis = redis
        self._series = series
        self._boards = boards
        self._worker = unique_id()
        self._number = 0
        self._waiting: deque[bytes] = deque()

    async def ship(self) -> None:
        """Send what was counted since the last time, and what waits. Raises what Redis raises."""
        self._collect()
        if not self._waiting:
            return
        sent = len(self._waiting)
        async with self._redis.pipeline(transaction=True) as pipeline:  # all or none, so that none is overtaken
            for data in self._waiting:
                pipeline.xadd(EVENTS, {b"d": data}, maxlen=MOST_EVENTS, approximate=True)
            await pipeline.execute()
        for _ in range(sent):
            self._waiting.popleft()

    def _collect(self) -> None:
        counts = [(board.route, tally) for board in self._boards.all() for tally in board.take()]
        if not counts:
            return
        if len(self._waiting) >= MOST_WAITING:  # the older ones are of a time when floors were followed
            self._series.dropped.inc()
            return
        self._number += 1
        self._waiting.append(shipped(self._worker, self._number, counts))
