"""What is done to the streams now and then: what is too old leaves them, and how far behind an archive is is shown.

An entry's age is the server's to say, whose clock is in its id: a gateway's clock may be wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any

import redis.asyncio as aioredis
from redis.exceptions import ResponseError

from router.evidence.bounds import Bounds
from router.evidence.redis import TIMEOUT_S
from router.evidence.streams import MAX_SHARDS, STREAMS, shard_key
from router.record.metrics import Metrics

log = logging.getLogger("distill_router.evidence")

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
        self._warned = False
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
        """All shards that there may be; in steps of about 10,000 entries, so that no other client waits for long."""
        try:
            now_s, _ = await self._redis.time()
        except ResponseError as error:
            self._warn(f"Redis does not say what time it is, and no evidence leaves it for its age: {error}")
            return
        for key, stream in await self._present():
            oldest_ms = max(0, int((now_s - self._bounds.age_s(stream)) * 1000))
            with contextlib.suppress(ResponseError):  # no stream: the batch for it says so
                while await self._redis.xtrim(key, minid=str(oldest_ms), approximate=True):
                    pass

    async def _present(self) -> list[tuple[str, str]]:
        """The streams that exist, by key, those included that a lowered `shards` has left behind."""
        keys = [(shard_key(shard, stream), stream) for shard in range(MAX_SHARDS) for stream in STREAMS]
        async with self._redis.pipeline(transaction=False) as pipeline:
            for key, _ in keys:
                pipeline.exists(key)
            return [key for key, there in zip(keys, await pipeline.execute(), strict=True) if there]

    def _warn(self, text: str) -> None:
        """Once."""
        if not self._warned:
            self._warned = True
            log.warning(text)

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
