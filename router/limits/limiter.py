"""Admits requests within the rate limits of their key and tenant. The usual request waits for nobody.

One background task talks to Redis: every quarter of a second about all buckets in use, and at once when a request finds
the slice of this worker empty. Without Redis, or while it is away, every worker counts the whole limit by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import redis.asyncio as aioredis

from router.auth import Caller
from router.errors import TooManyRequests
from router.evidence.redis import Unreachable
from router.ledger.names import PREFIX
from router.limits.admission import Admission, take
from router.limits.bucket import UNITS, Bucket, Kind, Limit, Offer
from router.limits.queue import PATIENCE_S, Queue, Waiter
from router.limits.script import LEASE, bucket_key
from router.record.metrics import Metrics
from router.tasks import end

log = logging.getLogger("distill_router.limits")

TALK_EVERY_S = 0.25
RETRY_S = 1.0  # how long Redis is left alone after a failure
BATCH = 100  # buckets a script call, which holds up all others
FORGET_S = 600.0
PROBE = PREFIX + "limits-probe"
KINDS: tuple[Kind, Kind] = ("requests", "tokens")


class Limiter:
    """`redis` None: each worker counts for itself. `worker`: a name that no other worker has."""

    def __init__(self, redis: aioredis.Redis | None, metrics: Metrics, worker: str) -> None:
        self._redis = redis
        self._lease: Any = redis.register_script(LEASE) if redis else None
        self._metrics = metrics
        self._worker = worker
        self._alone = redis is None
        self._retry_at = 0.0
        self._buckets: dict[tuple[str, str, str], Bucket] = {}
        self._of_callers: WeakKeyDictionary[Caller, tuple[Bucket, ...]] = WeakKeyDictionary()
        self._wanted = asyncio.Event()
        self._queue = Queue()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._redis:
            self._task = asyncio.create_task(self._run(self._redis), name="rate limits")

    async def close(self) -> None:
        """Give back what is leased."""
        if self._task:
            await end([self._task])
        if self._redis and not self._alone:
            with contextlib.suppress(*Unreachable):
                await self._talk(give_all=True)
        self._alone = True
        self._serve()

    async def admit(self, caller: Caller, prompt_tokens: int) -> Admission:
        """Take one request and an estimate of its tokens. Raises TooManyRequests."""
        buckets = self._of_callers.get(caller)
        if buckets is None:
            buckets = self._of_callers[caller] = tuple(self._bucket(limit) for limit in caller.limits)
        now = time.monotonic()
        for bucket in buckets:
            # What came before and still waits comes first.
            if bucket.available(now) - bucket.asked < UNITS:
                return await self._ask(caller, buckets, prompt_tokens)
        return take(buckets, prompt_tokens, now)

    async def _ask(self, caller: Caller, buckets: Sequence[Bucket], prompt_tokens: int) -> Admission:
        """Wait for talks with Redis until there is enough for the request, or Redis says that there is not."""
        waiter = Waiter(buckets, prompt_tokens, time.monotonic() + PATIENCE_S)
        self._queue.join(waiter)
        if self._alone:
            self._serve()
        self._wanted.set()
        try:
            verdict = await waiter.verdict
        except asyncio.CancelledError:
            self._queue.leave(waiter)
            waiter.give_back()
            raise
        if isinstance(verdict, Bucket):
            raise self._refusal(caller, verdict, buckets)
        return verdict

    def _serve(self) -> None:
        self._queue.serve(time.monotonic(), alone=self._alone)

    def _refusal(self, caller: Caller, bucket: Bucket, buckets: Sequence[Bucket]) -> TooManyRequests:
        limit = bucket.limit
        self._metrics.rate_limited.labels(caller.tenant, limit.kind).inc()
        wait_s = max(1, math.ceil(bucket.missing() / limit.per_minute / 1000))
        return TooManyRequests(
            f"rate limit of the {limit.scope} '{limit.member}': {limit.per_minute} {limit.kind} per minute; "
            f"try again in {wait_s} s",
            retry_after_s=wait_s,
            headers=tuple(_headers(buckets)),
        )

    def _bucket(self, limit: Limit) -> Bucket:
        bucket = self._buckets.get(limit.name)
        if bucket is None:
            bucket = self._buckets[limit.name] = Bucket(limit, time.monotonic(), alone=self._alone)
        elif bucket.limit != limit:
            bucket.resize(limit)
        return bucket

    async def _run(self, redis: aioredis.Redis) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TALK_EVERY_S):
                    await self._wanted.wait()
            self._wanted.clear()
            self._queue.hear()
            try:
                await self._turn(redis)
            except Exception:  # the edge of a background task
                log.exception("rate limits not brought up to date")
                self._go_alone()
            self._serve()
            if self._queue:
                self._wanted.set()

    async def _turn(self, redis: aioredis.Redis) -> None:
        now = time.monotonic()
        if self._alone and now < self._retry_at:
            return
        try:
            if self._alone:
                await redis.set(PROBE, 1, px=1000)  # a full Redis would still answer a ping
                self._go_shared()
            await self._talk()
        except Unreachable as error:
            if not self._alone:
                log.warning("Redis does not answer, each worker counts the whole rate limits by itself: %s", error)
            self._go_alone()
        self._forget(now)

    async def _talk(self, *, give_all: bool = False) -> None:
        """About every bucket that has something to say. Raises what Redis raises."""
        talking = [bucket for bucket in self._buckets.values() if bucket.talks]
        for start in range(0, len(talking), BATCH):
            await self._talk_about(talking[start : start + BATCH], give_all)

    async def _talk_about(self, buckets: list[Bucket], give_all: bool) -> None:
        sent_at = time.monotonic()
        offers = [bucket.offer(sent_at, give_all=give_all) for bucket in buckets]
        try:
            reply = await self._lease(
                keys=[bucket_key(bucket.limit) for bucket in buckets], args=[self._worker, *_arguments(buckets, offers)]
            )
        except BaseException:
            for bucket, offer in zip(buckets, offers, strict=True):
                bucket.unheard(offer)
            raise
        for bucket, offer, granted, level in zip(buckets, offers, reply[::2], reply[1::2], strict=True):
            bucket.granted(offer, granted, level, sent_at)

    def _go_alone(self) -> None:
        now = time.monotonic()
        self._alone = True
        self._retry_at = now + RETRY_S
        for bucket in self._buckets.values():
            bucket.go_alone(now)

    def _go_shared(self) -> None:
        self._alone = False
        for bucket in self._buckets.values():
            bucket.go_shared(time.monotonic())
        log.info("Redis answers again, workers share the rate limits")

    def _forget(self, now: float) -> None:
        """Buckets that nobody has used for long: in Redis they are full."""
        idle = [
            name
            for name, bucket in self._buckets.items()
            if now - bucket.used_at > FORGET_S and not bucket.talks and not bucket.open
        ]
        for name in idle:
            del self._buckets[name]
        if idle:
            self._of_callers.clear()


def _arguments(buckets: list[Bucket], offers: list[Offer]) -> Iterator[int]:
    for bucket, offer in zip(buckets, offers, strict=True):
        yield from (bucket.limit.per_minute, offer.returned, offer.kept, offer.least, offer.ahead)


def _headers(buckets: Sequence[Bucket]) -> Iterator[tuple[bytes, bytes]]:
    """As OpenAI's clients know them; of the key's and the tenant's limit the one with less left."""
    for kind in KINDS:
        of_kind = [bucket for bucket in buckets if bucket.limit.kind == kind]
        if of_kind:
            tightest = min(of_kind, key=lambda bucket: bucket.left)
            yield b"x-ratelimit-limit-%b" % kind.encode(), b"%d" % tightest.limit.per_minute
            yield b"x-ratelimit-remaining-%b" % kind.encode(), b"%d" % max(0, tightest.left // UNITS)
