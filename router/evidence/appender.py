"""Gives batches to Redis, each of them once however often it is sent, and keeps the streams within their bounds."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import redis.asyncio as aioredis
from redis.exceptions import NoScriptError, RedisError

from router.evidence.bounds import Bounds
from router.evidence.memory import MemoryShare, is_full
from router.evidence.redis import TIMEOUT_S
from router.evidence.scripts import APPEND, APPEND_SHA, GAP, marker_key
from router.evidence.segment import Frame
from router.evidence.streams import STREAMS, SUMS, shard_key

CALL_BYTES = 512 * 1024  # Redis counts a request that it receives as used memory
CALL_FRAMES = 32
CALL_S = 2 * TIMEOUT_S


class Additions(msgspec.Struct):
    """A record of SUMS: the hash `k` on its shard, and what is added to its fields."""

    k: str
    f: dict[str, float]


_additions = msgspec.json.Decoder(Additions)


class Gap(RedisError):
    """Redis has lost batches that it had confirmed: they are to be sent again before anything newer."""


class Sending(NamedTuple):
    """A frame on its way. `floor`: the number of the batch before it that Redis must have."""

    frame: Frame
    floor: int


class Appender:
    def __init__(self, client: aioredis.Redis, share: MemoryShare, bounds: Bounds) -> None:
        self._redis = client
        self._share = share
        self._bounds = bounds

    async def send(self, producer: str, group: Sequence[Sending], had: Callable[[Frame], None]) -> None:
        """Append frames of one producer in order; `had` is called for each that Redis has, in order.

        When Redis is full, older evidence makes room, once. Raises Unreachable (Gap is one) at the first that Redis
        does not have.
        """
        left = await self._try(producer, group, had)
        if left and is_full(left[1]):
            await self._share.yield_some()
            left = await self._try(producer, left[0], had)
        if left:
            raise left[1]

    async def _try(
        self, producer: str, group: Sequence[Sending], had: Callable[[Frame], None]
    ) -> tuple[Sequence[Sending], RedisError] | None:
        """What Redis does not have and why; None: it has all."""
        calls = [self._call(producer, sending) for sending in group]
        replies = await self._execute(calls)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            await self._redis.script_load(APPEND)
            replies = await self._execute(calls)  # what was appended before is not appended again
        for place, (sending, reply) in enumerate(zip(group, replies, strict=True)):
            if isinstance(reply, RedisError):
                return group[place:], reply
            if reply == GAP:
                return group[place:], Gap(f"Redis has lost what came before batch {sending.frame.number}")
            had(sending.frame)
        return None

    async def _execute(self, calls: list[list[Any]]) -> list[Any]:
        async with asyncio.timeout(CALL_S), self._redis.pipeline(transaction=False) as pipeline:
            for call in calls:
                pipeline.execute_command("EVALSHA", *call)
            return await pipeline.execute(raise_on_error=False)

    def _call(self, producer: str, sending: Sending) -> list[Any]:
        """The arguments of `APPEND` for a frame; records that nothing here could read are left out."""
        frame = sending.frame
        streams = {stream: records for stream, records in frame.records.items() if records and stream in STREAMS}
        keys = [marker_key(frame.shard, producer)]
        values: list[Any] = [frame.number, sending.floor, len(streams)]
        for stream, records in streams.items():
            key = shard_key(frame.shard, stream)
            keys.append(key)
            bound = self._share.bound(key, self._bounds.entries(stream, records))
            self._share.wrote(sum(map(len, records)))
            values += [bound, len(records), *records]
        for name, fields in _added(frame.records.get(SUMS, ())).items():
            keys.append(shard_key(frame.shard, name))
            values += [len(fields), *(part for field in fields.items() for part in field)]
        return [APPEND_SHA, len(keys), *keys, *values]

    async def markers(self, producer: str, shards: Iterable[int]) -> dict[int, int]:
        """The numbers of the last batches of a producer that Redis has."""
        wanted = list(shards)
        async with asyncio.timeout(CALL_S), self._redis.pipeline(transaction=False) as pipeline:
            for shard in wanted:
                pipeline.get(marker_key(shard, producer))
            return {shard: int(reply or 0) for shard, reply in zip(wanted, await pipeline.execute(), strict=True)}

    async def look(self, now: float) -> None:
        """Keep to our share of Redis' memory, now and then."""
        if self._share.due(now):
            async with asyncio.timeout(CALL_S):
                await self._share.look(now)


def first_group(waiting: Iterable[Sending]) -> list[Sending]:
    """As many as go into one request to Redis; at least one of them."""
    group: list[Sending] = []
    size = 0
    for sending in waiting:
        size += sum(sum(map(len, records)) for records in sending.frame.records.values())
        if group and (size > CALL_BYTES or len(group) == CALL_FRAMES):
            break
        group.append(sending)
    return group


def readable(stream: str, data: bytes) -> bool:
    """Whether Redis can be given the record: of a known stream, and additions have their form."""
    if stream != SUMS:
        return stream in STREAMS
    try:
        return all(map(math.isfinite, _additions.decode(data).f.values()))
    except msgspec.DecodeError:
        return False


def _added(sums: Iterable[bytes]) -> dict[str, dict[str, float]]:
    """What is added to which field of which hash."""
    added: dict[str, dict[str, float]] = {}
    for addition in map(_additions.decode, sums):
        fields = added.setdefault(addition.k, {})
        for field, value in addition.f.items():
            fields[field] = fields.get(field, 0.0) + value
    return added
