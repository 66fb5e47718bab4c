"""How much of Redis' memory the evidence may take, so that full streams never refuse money.

A Redis that has reached `maxmemory` refuses writes, the ledger's too. The streams are buffers and must yield first: all
of them together get at most half of `maxmemory`, and less where the rest of the server needs it. Without `maxmemory`
the bounds of the configuration are all there is.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

import redis.asyncio as aioredis
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from router.evidence.streams import STREAMS, shard_key
from router.record.metrics import Metrics

log = logging.getLogger("distill_router.evidence")

LOOK_EVERY_S = 10.0
MOST = 0.5  # of maxmemory, for all streams together
FULL = 0.8  # of maxmemory, for everything: what others need beyond it, the streams give up
YIELD = 0.75  # of themselves: what the streams keep when Redis is full all the same
STEP = 0.02  # of the streams' share: after so many bytes written it is time to look again
LEAST_STEP = 64 * 1024
SAFE_POLICY = "noeviction"


class NoRoom(RedisError):
    """Others need nearly all of Redis' memory: the last of it is for money."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What one shard of a stream takes: `size` in bytes."""

    entries: int
    size: int

    def bound(self, size: float) -> int:
        """How many entries of the present average size fit into so many bytes; one at least."""
        return max(1, int(self.entries * size / self.size))


class MemoryShare:
    """The bounds in entries that follow from the memory; one per process, refreshed by `look`."""

    def __init__(self, client: aioredis.Redis, metrics: Metrics, shards: int) -> None:
        self._redis = client
        self._metrics = metrics
        self._keys = {shard_key(shard, stream): stream for stream in STREAMS for shard in range(shards)}
        self._bounds: dict[str, int] = {}
        self._look_at = 0.0
        self._step = math.inf
        self._written = 0
        self._warned: set[str] = set()

    def bound(self, key: str, configured: int) -> int:
        """How many entries the stream at `key` may keep."""
        return min(configured, self._bounds.get(key, configured))

    def wrote(self, size: int) -> None:
        """Count bytes on their way to Redis."""
        self._written += size

    def due(self, now: float) -> bool:
        return now >= self._look_at or self._written >= self._step

    async def look(self, now: float) -> None:
        """Read the memory, set the bounds, and trim what is over them.

        Raises what the client raises for no answer, and NoRoom; then it is due again at once.
        """
        self._look_at, self._written = now + LOOK_EVERY_S, 0
        try:
            limit, used = await self._memory()
            streams = await self._measure()
        except ResponseError as error:
            self._warn_once(f"Redis does not say what takes its memory, evidence is not capped: {error}")
            return
        for name in STREAMS:
            size = sum(streams[key].size for key, stream in self._keys.items() if stream == name and key in streams)
            self._metrics.stream_bytes.labels(name).set(size)
        taken = sum(stream.size for stream in streams.values())
        allowance = _allowance(limit, used, taken) if limit else math.inf
        await self._keep(streams, allowance)
        if not allowance:
            self._look_at = now
            raise NoRoom(f"others take more than {FULL:.0%} of its maxmemory")

    async def yield_some(self) -> None:
        """Redis is full: give up a part of what the streams hold."""
        streams = await self._measure()
        taken = sum(stream.size for stream in streams.values())
        await self._keep(streams, taken * YIELD)

    async def _keep(self, streams: Mapping[str, Stream], allowance: float) -> None:
        """Bound the streams so that they stay within `allowance` bytes until the next look."""
        self._step = max(LEAST_STEP, allowance * STEP)
        self._bounds = bounds(streams, allowance)
        for name, bound in self._bounds.items():
            if streams[name].entries > bound:
                self._warn_once("the evidence streams are trimmed to their share of Redis' memory (maxmemory)")
                await self._trim(name, bound)

    async def _trim(self, key: str, bound: int) -> None:
        """In steps of at most 10,000 entries each, so that no other client waits for long."""
        while await self._redis.xtrim(key, maxlen=bound, approximate=True):
            pass

    async def _memory(self) -> tuple[int, int]:
        """`maxmemory` (0: no limit) and what is used, in bytes."""
        memory = await self._redis.info("memory")
        limit, policy = int(memory["maxmemory"]), str(memory.get("maxmemory_policy", SAFE_POLICY))
        if limit and policy != SAFE_POLICY:
            self._warn_once(
                f"Redis has maxmemory-policy {policy}: when it is full it removes whole streams, and what the ledger "
                f"knows of money; set {SAFE_POLICY}"
            )
        return limit, int(memory["used_memory"])

    async def _measure(self) -> dict[str, Stream]:
        """The streams that exist, without what is in the place of one. Raises ResponseError where an ACL forbids it."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for key in self._keys:
                pipeline.xlen(key)
                pipeline.memory_usage(key)
            replies = await pipeline.execute(raise_on_error=False)
        streams = {}
        for key, entries, size in zip(self._keys, replies[::2], replies[1::2], strict=True):
            if "WRONGTYPE" in str(entries):
                self._warn_once(f"{key} in Redis is no stream, evidence for it waits on disk: rename or delete the key")
                continue
            for reply in (entries, size):
                if isinstance(reply, RedisError):
                    raise reply
            if entries and size:
                streams[key] = Stream(entries, size)
        return streams

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            log.warning(text)


def bounds(streams: Mapping[str, Stream], allowance: float) -> dict[str, int]:
    """Entries that each stream may have so that all of them take at most `allowance` bytes.

    Too much is taken from the largest: they come down to one level, the smaller ones keep what they have. Room is
    shared out in equal parts.
    """
    if allowance == math.inf:
        return {}
    taken = sum(stream.size for stream in streams.values())
    level, room = _level([stream.size for stream in streams.values()], allowance), max(0.0, allowance - taken)
    return {name: stream.bound(min(stream.size, level) + room / len(streams)) for name, stream in streams.items()}


def _level(sizes: list[int], allowance: float) -> float:
    """The size at which to cut so that the sum is `allowance`; infinite where nothing must be cut."""
    rest, left = allowance, len(sizes)
    for size in sorted(sizes):
        if size * left > rest:
            return rest / left
        rest -= size
        left -= 1
    return math.inf


def _allowance(limit: int, used: int, taken: int) -> float:
    """Bytes that the streams may take of a server with so much memory, used by all, taken by the streams."""
    return min(MOST * limit, max(0.0, FULL * limit - (used - taken)))


def is_full(error: Exception) -> bool:
    """Whether Redis refused a write for lack of memory; before Redis 7 a script says so in its own words."""
    return isinstance(error, OutOfMemoryError) or (isinstance(error, ResponseError) and "OOM " in str(error))
