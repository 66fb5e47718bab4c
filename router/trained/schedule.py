"""When each policy is trained again, and by which process: one claims it, for as long as it keeps saying so.

A process that dies in the middle leaves a claim that ends by itself; then the next one takes it. Times are Redis'.
"""

from __future__ import annotations

from router.trained.store import PREFIX, Evaluate

SCHEDULE = PREFIX + "schedule"  # hash: name -> when it is due (ms); while somebody trains, when the claim ends

_NOW = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000); "

# KEYS: the schedule. ARGV: name, how long the claim lasts (ms). Gives the claim, or '' while it is not due.
CLAIM = (
    _NOW
    + """
if tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0) > now then return '' end
local claim = string.format('%.0f', now + ARGV[2])
redis.call('HSET', KEYS[1], ARGV[1], claim)
return claim
"""
)

# KEYS: the schedule. ARGV: name, the claim, until when from now (ms). Gives the new claim, or '' if it was lost.
MOVE = (
    _NOW
    + """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return '' end
local claim = string.format('%.0f', now + ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], claim)
return claim
"""
)


class Schedule:
    """`evaluate`: `eval` of a Redis client. Every method raises what that raises."""

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate

    async def claim(self, name: str, lease_s: float) -> bytes | None:
        """The right to train it now, for so long; None: it is not due, or somebody else has it."""
        return await self._evaluate(CLAIM, 1, SCHEDULE, name, round(lease_s * 1000)) or None

    async def move(self, name: str, claim: bytes, seconds: float) -> bytes | None:
        """Keep a claim for so long, or make it due then; None: the claim was lost."""
        return await self._evaluate(MOVE, 1, SCHEDULE, name, claim, round(seconds * 1000)) or None
