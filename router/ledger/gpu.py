"""The bill of self-hosted models: it accrues by the hour while gateways run, whether anybody asks the models or not.

Every worker claims the time since the last claim. Redis gives each millisecond to one of them, over all workers and
gateways that share it; without Redis the worker that holds a lock file has the time of this machine. What calls are
charged of the bill, and the idle rest, is counted by `Metrics.machine`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Protocol

import redis.asyncio as aioredis

from router.evidence.redis import Unreachable, connect
from router.ledger.names import HOUR_S, PREFIX, hour_field, hour_key
from router.record.metrics import Metrics
from router.settings import Settings
from router.upstream.model import ModelClient

log = logging.getLogger("distill_router.ledger")

GPU_BILL = PREFIX + "gpu-bill"  # hash: model -> until when it is billed (Redis time, ms); `model|rest` -> see CLAIM
GPU_BILL_ORIGIN = "gpu_bill"  # stands where an origin does in the hourly sums
LOCK_FILE = "gpu-bill.lock"
EVERY_S = 5.0
GAP_MS = 300_000
NS_PER_S = 1_000_000_000
SECONDS_PER_DAY = 86_400

# KEYS: the bill, the hour's sums. ARGV: longest gap (ms), how long the sums are kept (s), then for each model its name,
# nano-USD an hour, how long this worker has had it (ms), and its field in the sums. Gives nano-USD by model.
#
# A longer gap is one in which no gateway ran, unless this worker was there all the time and Redis was away. The rest
# is what a claim leaves of a nano-dollar, in 1/3,600,000 (nano-USD an hour x ms), so that many claims bill as much as
# one. Products stay below 2^53, up to which Lua's numbers are exact: hence the division before the multiplication.
CLAIM = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local gap = tonumber(ARGV[1])
local claimed = {}
for i = 3, #ARGV, 4 do
  local model, hourly, had = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local last = tonumber(redis.call('HGET', KEYS[1], model) or now)
  local rest = tonumber(redis.call('HGET', KEYS[1], model .. '|rest') or 0)
  local due = math.max(0, now - last)
  if due > gap then due = math.min(due, had) end
  local whole = math.floor(hourly / 3600000)
  local parts = (hourly - whole * 3600000) * due + rest
  local carried = math.floor(parts / 3600000)
  local nano = whole * due + carried
  redis.call('HSET', KEYS[1], model, string.format('%.0f', now),
    model .. '|rest', string.format('%.0f', parts - carried * 3600000))
  if nano > 0 then
    redis.call('HINCRBY', KEYS[2], ARGV[i + 3], string.format('%.0f', nano))
    redis.call('EXPIRE', KEYS[2], ARGV[2])
  end
  claimed[#claimed + 1] = string.format('%.0f', nano)
end
return claimed
"""


class Claims(Protocol):
    """Gives each stretch of time to one claimer."""

    async def claim(self, hourly: Mapping[str, int]) -> dict[str, int]:
        """Nano-USD by model since the last claim of anybody, for models with their nano-USD an hour."""

    async def close(self) -> None: ...


class RedisClaims:
    """`sums_s`: how long the hourly sums are kept. Raises `Unreachable`; the time is then claimed later."""

    def __init__(self, redis: aioredis.Redis, sums_s: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._redis = redis
        self._script = redis.register_script(CLAIM)
        self._sums_s = sums_s
        self._had_since: dict[str, float] = {}

    async def claim(self, hourly: Mapping[str, int]) -> dict[str, int]:
        now = self._clock()
        self._had_since = {model: self._had_since.get(model, now) for model in hourly}
        if not hourly:
            return {}
        args: list[str | int] = [GAP_MS, self._sums_s]
        for model, nano in hourly.items():
            had_ms = int((now - self._had_since[model]) * 1000)
            args += [model, nano, had_ms, hour_field("", "", "", "", model, GPU_BILL_ORIGIN)]
        hour = int(time.time()) // HOUR_S * HOUR_S
        nanos = await self._script(keys=[GPU_BILL, hour_key(hour)], args=args)
        return {model: int(nano) for model, nano in zip(hourly, nanos, strict=True)}

    async def close(self) -> None:
        await self._redis.aclose()


class LocalClaims:
    """Without Redis: of the workers that share `folder` the one that holds its lock claims (None: the only worker).

    When it dies, the next one that asks has the lock; what was not claimed by then (one interval at most) is lost.
    """

    def __init__(self, folder: Path | None, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock_ns = clock_ns
        self._folder = folder
        self._lock: IO[bytes] | None = None
        self._since: dict[str, int] = {}
        self._rest: dict[str, int] = {}

    async def claim(self, hourly: Mapping[str, int]) -> dict[str, int]:
        now = self._clock_ns()
        since, self._since = self._since, dict.fromkeys(hourly, now)
        if not self._holds_lock():
            return {}
        return {model: self._due(model, nano, now - since.get(model, now)) for model, nano in hourly.items()}

    def _due(self, model: str, hourly: int, elapsed_ns: int) -> int:
        nano, self._rest[model] = divmod(hourly * elapsed_ns + self._rest.get(model, 0), HOUR_S * NS_PER_S)
        return nano

    def _holds_lock(self) -> bool:
        if self._folder is None or self._lock is not None:
            return True
        lock = (self._folder / LOCK_FILE).open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._lock = lock
        return True

    async def close(self) -> None:
        if self._lock is not None:
            self._lock.close()


class GpuBill:
    """One per worker. `models`: those of the configuration that is in effect when it is asked."""

    def __init__(self, claims: Claims, metrics: Metrics, models: Callable[[], Iterable[ModelClient]]) -> None:
        self._claims = claims
        self._metrics = metrics
        self._models = models
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._away = False

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="GPU bill")

    async def close(self) -> None:
        """Claim the time up to now, then stop."""
        self._stopping.set()
        if self._task:
            await self._task
        await self._claims.close()

    async def accrue(self) -> None:
        """Claim once, for the models that are priced by the hour now. Raises what the claims raise."""
        hourly = {model.name: model.prices.per_hour for model in self._models() if model.prices.per_hour}
        for model in hourly:
            self._metrics.machine(model)  # shown from the start, at zero
        for model, nano in (await self._claims.claim(hourly)).items():
            self._metrics.machine(model).bill(nano)

    async def _run(self) -> None:
        """A claim that has begun is not cancelled: its answer would be lost, and what it says with it."""
        while not self._stopping.is_set():
            await self._accrue_safely()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._stopping.wait()
        await self._accrue_safely()

    async def _accrue_safely(self) -> None:
        try:
            await self.accrue()
            self._away = False
        except Unreachable as error:
            if not self._away:
                log.warning("the GPU bill waits for Redis: %s", error)
            self._away = True
        except Exception:  # the edge of a background task
            log.exception("the GPU bill was not accrued")


def gpu_bill(
    settings: Settings,
    redis_url: str | None,
    metrics: Metrics,
    shared_dir: Path | None,
    models: Callable[[], Iterable[ModelClient]],
) -> GpuBill:
    """The bill of this worker: kept in the ledger's Redis, or without any in `shared_dir`."""
    if redis_url is None:
        return GpuBill(LocalClaims(shared_dir), metrics, models)
    url = (settings.config.redis and settings.config.redis.ledger_url) or redis_url
    claims = RedisClaims(connect(url, settings), settings.config.ledger.sums_days * SECONDS_PER_DAY)
    return GpuBill(claims, metrics, models)
