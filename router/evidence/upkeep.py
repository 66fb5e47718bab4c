"""What is done to the streams now and then: what is too old leaves them, and how far behind an archive is is shown."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any

import redis.asyncio as aioredis
from redis.exceptions import ResponseError

from router.evidence.bounds import Bounds
from router.evidence.redis import TIMEOUT_S
from router.evidence.streams import STREAMS, shard_key
from router.record.metrics import Metrics

TRIM_EVERY_S = 60.0
LAG_EVERY_S = 10.0
ARCHIVE_GROUP = b"archive"
TURN_S = 5 * TIMEOUT_S


class Upkeep:
    def __init__(self, client: aioredis.Redis, shards: int, bounds: Bounds, metrics: Metrics) -> None:
        self._redis = client
        self._keys = {stream: [shard_key(shard, stream) for shard in range(shards)] for stream in STREAMS}
        self._bounds = bounds
        self._metrics = metrics
        self._trim_at = 0.0
        self._lag_at = 0.0

    async def turn(self, now: float) -> None:
        """Raises Unreachable."""
        async with asyncio.timeout(TURN_S):
            if now >= self._trim_at:
                self._trim_at = now + TRIM_EVERY_S
                await self._trim()
            if now >= self._lag_at:
                self._lag_at = now + LAG_EVERY_S
                await self._show_lag()

    async def _trim(self) -> None:
        """In steps of about 10,000 entries, so that no other client waits for long."""
        for stream, keys in self._keys.items():
            oldest_ms = max(0, int((time.time() - self._bounds.age_s(stream)) * 1000))
            for key in keys:
                with contextlib.suppress(ResponseError):  # no stream: the batch for it says so
                    while await self._redis.xtrim(key, minid=str(oldest_ms), approximate=True):
                        pass

    async def _show_lag(self) -> None:
        for stream, keys in self._keys.items():
            lags = [lag for key in keys if (lag := await self._lag(key)) is not None]
            if lags:
                self._metrics.archive_lag.labels(stream).set(sum(lags))

    async def _lag(self, key: str) -> int | None:
        """Entries that the archive has not read; None where there is no archive."""
        try:
            groups = await self._redis.xinfo_groups(key)
            group = next((group for group in groups if group["name"] == ARCHIVE_GROUP), None)
            if group is None:
                return None
            lag = group.get("lag")  # Redis before 7 does not say, later ones not after a deletion
            return estimated_lag(await self._redis.xinfo_stream(key), group) if lag is None else int(lag)
        except ResponseError:  # no such stream
            return None


def estimated_lag(stream: Mapping[str, Any], group: Mapping[str, Any]) -> int:
    """By time: as if entries came evenly between the first and the last."""
    length, read = int(stream["length"]), _place(group["last-delivered-id"])
    if not length or read >= _place(stream["last-generated-id"]):
        return 0
    first, last = _place(stream["first-entry"][0]), _place(stream["last-entry"][0])
    if read < first:
        return length
    return max(1, int(length * (last[0] - read[0]) / max(1, last[0] - first[0])))


def _place(entry_id: bytes) -> tuple[int, int]:
    time_ms, _, number = entry_id.partition(b"-")
    return int(time_ms), int(number)
