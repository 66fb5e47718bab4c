"""The requests that wait for a talk with Redis: first come, first served."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from router.limits.admission import Admission, take
from router.limits.bucket import UNITS, Bucket

PATIENCE_S = 2.0  # what a talk brought may be gone, paid for what others owed; so long it is asked again

Verdict = Admission | Bucket  # a bucket: the one that has too little


@dataclass(eq=False, slots=True)
class Waiter:
    """A request. `heard`: a talk began after it came, so that Redis's last word is about it too."""

    buckets: Sequence[Bucket]
    prompt_tokens: int
    gives_up_at: float
    verdict: asyncio.Future[Verdict] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    heard: bool = False

    def units(self, bucket: Bucket) -> int:
        """What it wants of a bucket."""
        return UNITS * (1 if bucket.limit.kind == "requests" else max(1, self.prompt_tokens))

    def give_back(self) -> None:
        """It has gone. What it was let in for meanwhile, its tokens, comes back."""
        if self.verdict.done() and not self.verdict.cancelled():
            verdict = self.verdict.result()
            if isinstance(verdict, Admission):
                verdict.settle(0)


class Queue:
    """What its requests want is `asked` of all their buckets, also of those that have enough.

    A talk gives back what nobody asks for, and a request needs all of its buckets at once.
    """

    def __init__(self) -> None:
        self._waiters: list[Waiter] = []

    def __bool__(self) -> bool:
        return bool(self._waiters)

    def join(self, waiter: Waiter) -> None:
        self._waiters.append(waiter)
        for bucket in waiter.buckets:
            bucket.asked += waiter.units(bucket)

    def leave(self, waiter: Waiter) -> None:
        """Nothing if it has left already."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            for bucket in waiter.buckets:
                bucket.asked -= waiter.units(bucket)

    def hear(self) -> None:
        """A talk begins."""
        for waiter in self._waiters:
            waiter.heard = True

    def serve(self, now: float, *, alone: bool) -> None:
        """In the order in which they came. `alone`: nobody is left to ask, everyone gets a verdict."""
        for waiter in tuple(self._waiters):
            short = [bucket for bucket in waiter.buckets if bucket.available(now) < UNITS]
            if short and not alone and not _hopeless(waiter, short, now):
                continue
            self.leave(waiter)
            if not waiter.verdict.done():
                waiter.verdict.set_result(_verdict(waiter, short, now))


def _verdict(waiter: Waiter, short: list[Bucket], now: float) -> Verdict:
    if short:
        return next((bucket for bucket in short if bucket.exhausted), short[0])
    return take(waiter.buckets, waiter.prompt_tokens, now)


def _hopeless(waiter: Waiter, short: list[Bucket], now: float) -> bool:
    """Redis said that there is not enough; or it has been asked for too long."""
    return (waiter.heard and any(bucket.exhausted for bucket in short)) or now >= waiter.gives_up_at
