"""One worker's part of a token bucket: a slice leased from Redis, or the whole bucket where there is no Redis.

A token bucket with the capacity b and the refill rate r admits no more than b + r·T in any time T (RFC 2215, section
3.6). Here b is a minute's amount and r the same amount a minute. Numbers are units: 1/60,000 of what is counted, so
that a millisecond refills whole units. Knows neither Redis nor asyncio.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

UNITS = 60_000
LEASE_S = 3.0  # how long a slice is good for after the last talk with Redis
MEASURED_S = 0.2  # shorter times say nothing about how much is used
AHEAD_S = 1.0  # a slice is what is used in so long
FORGOTTEN = UNITS / 10  # a use per second below which nothing is leased ahead

Scope = Literal["key", "tenant"]
Kind = Literal["requests", "tokens"]


@dataclass(frozen=True, slots=True)
class Limit:
    """So many requests or tokens per minute for one key, or for all keys of one tenant."""

    scope: Scope
    member: str
    kind: Kind
    per_minute: int

    @property
    def name(self) -> tuple[Scope, str, Kind]:
        """What stays when the amount is edited."""
        return self.scope, self.member, self.kind


@dataclass(frozen=True, slots=True)
class Offer:
    """What a bucket says to Redis, in units. `returned` below zero: overdrawn."""

    returned: int
    kept: int
    least: int
    ahead: int


class Bucket:
    """Admits while there is one request or one token; what a request takes beyond that is owed. Of what is left:

    `held`: what may be taken without asking; below zero: overdrawn. Times are of one monotonic clock, in seconds.

    `alone`: the whole bucket is here. Otherwise Redis has it: `level` is its last word on what nobody holds, `told` is
    at least what it thinks is held here. `asked`: units that requests wait for; `open`: requests still to be settled.
    """

    __slots__ = (
        "_filled_at",
        "_measured_at",
        "_used",
        "alone",
        "asked",
        "capacity",
        "held",
        "level",
        "limit",
        "open",
        "refund",
        "told",
        "until",
        "use_per_s",
        "used_at",
    )

    def __init__(self, limit: Limit, now: float, *, alone: bool) -> None:
        self.limit = limit
        self.capacity = limit.per_minute * UNITS
        self.alone = alone
        self.held = self.capacity if alone else 0
        self.level = 0 if alone else self.capacity
        self.told = 0
        self.refund = 0
        self.asked = 0
        self.open = 0
        self.until = 0.0
        self.use_per_s = 0.0
        self.used_at = now
        self._used = 0
        self._measured_at = now
        self._filled_at = now

    def resize(self, limit: Limit) -> None:
        """The amount was edited."""
        self.limit = limit
        self.capacity = limit.per_minute * UNITS
        self.held = min(self.held, self.capacity)
        self.level = min(self.level, self.capacity)

    def available(self, now: float) -> int:
        """Units that may be taken now."""
        if self.alone:
            self._refill(now)
        elif now > self.until:
            self.told = 0  # Redis has forgotten the slice
            self.held = min(0, self.held)
        return self.held

    def take(self, units: int, now: float) -> None:
        self.held -= units
        self._used += units
        self.used_at = now

    def settle(self, units: int) -> None:
        """A request has ended: what was taken too much (above zero) comes back, what was too little is owed."""
        self.open -= 1
        if self.alone:
            self.held = min(self.capacity, self.held + units)
            return
        # Redis keeps room for what it was told is held. The rest goes by Redis, and counts from when it hears of it:
        # taken back here, it would come on top of what has refilled meanwhile.
        here = units if units < 0 else min(units, max(0, self.told - self.held))
        self.held += here
        self.refund += units - here

    def missing(self) -> int:
        """Units to wait for, as far as it is known here."""
        return max(0, UNITS - self.left)

    @property
    def left(self) -> int:
        return self.held + (0 if self.alone else self.level)

    @property
    def exhausted(self) -> bool:
        """Neither here nor, by its last word, in Redis is enough."""
        return self.left < UNITS

    @property
    def talks(self) -> bool:
        """Whether there is anything to tell Redis."""
        return bool(self.held or self.told or self.refund or self.asked or self._used)

    def offer(self, now: float, *, give_all: bool = False) -> Offer:
        """Set aside what goes back, keeping what the next moments need; `granted` or `unheard` ends it."""
        self.available(now)
        self._measure(now)
        target = 0 if give_all or self.use_per_s < FORGOTTEN else int(min(self.use_per_s * AHEAD_S, self.capacity))
        kept = max(0, min(self.held, target))
        returned = self.held - kept + self.refund
        self.held = self.told = kept
        self.refund = 0
        return Offer(returned, kept, self.asked, target - kept)

    def granted(self, offer: Offer, units: int, level: int, sent_at: float) -> None:
        """Redis answered a talk that began at `sent_at`."""
        self.held += units
        self.told = offer.kept + units
        self.level = level
        self.until = sent_at + LEASE_S

    def unheard(self, offer: Offer) -> None:
        """Nobody knows whether Redis got it: what went back is lost (the refill replaces it), what is owed stays."""
        if offer.returned < 0:
            self.held += offer.returned

    def go_alone(self, now: float) -> None:
        """Redis is away: from here on the whole limit counts here alone, from its last word on."""
        if self.alone:
            return
        self.alone = True
        self.held = min(self.capacity, self.held + max(0, self.level))
        self.told = self.refund = 0
        self._filled_at = now

    def go_shared(self, now: float) -> None:
        """Redis is back, and what it has is the bucket again; only what is owed goes with us."""
        self.available(now)
        self.alone = False
        self.level = max(0, self.held)
        self.held = min(0, self.held)
        self.until = 0.0

    def _refill(self, now: float) -> None:
        elapsed_ms = int((now - self._filled_at) * 1000)
        if elapsed_ms > 0:
            self._filled_at += elapsed_ms / 1000
            self.held = min(self.capacity, self.held + elapsed_ms * self.limit.per_minute)

    def _measure(self, now: float) -> None:
        """A moving average of the use, of which half is from the last fifth of a second."""
        elapsed_s = now - self._measured_at
        if elapsed_s < MEASURED_S:
            return
        old = 0.5 ** (elapsed_s / MEASURED_S)
        self.use_per_s = old * self.use_per_s + (1 - old) * self._used / elapsed_s
        self._used = 0
        self._measured_at = now
