"""`/v1/usage`: what a key has spent, by day, model and origin, from the hourly sums that all workers keep in Redis."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from weakref import WeakKeyDictionary

import redis.asyncio as aioredis
from fastapi import APIRouter, Query, Request

from router.api.budgets import budgets_of
from router.auth import Caller
from router.errors import BadRequest, Conflict, TooManyRequests, Unavailable
from router.evidence.redis import Unreachable
from router.gateway import Gateway
from router.ledger.names import HOUR_S, TEACHER_ONLY, hour_key
from router.ledger.pricing import usd

router = APIRouter()

DAYS = 30
MAX_DAYS = 400
DAYS_OF_ALL = 31  # more is for the permission `admin`
DAY_S = 86_400
HOURS_A_CALL = 1  # a script holds up everybody else
ROUTE, TENANT, KEY, MODEL, ORIGIN = range(5)
BUSY_S = 1  # what a second call of a key is told to wait
NOT_SPENT = frozenset({TEACHER_ONLY, "gpu_bill"})

# Keys that a call of each gateway is running for: a sum is many scripts, and each holds up the ledger's.
_running: WeakKeyDictionary[Gateway, set[str]] = WeakKeyDictionary()

# KEYS: hours. ARGV[1]: what a field must contain. Gives fields and values, so that only what matters is sent.
MATCHING = """
local found = {}
for _, key in ipairs(KEYS) do
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    if string.find(all[i], ARGV[1], 1, true) then
      found[#found + 1] = all[i]
      found[#found + 1] = all[i + 1]
    end
  end
end
return found
"""


@router.get("/v1/usage")
async def usage(
    request: Request,
    days: Annotated[int, Query(ge=1, le=MAX_DAYS)] = DAYS,
    key: str | None = None,
    tenant: str | None = None,
) -> dict[str, Any]:
    """The last `days` days of UTC, today included. Another key, or a whole tenant: for the permission `admin`."""
    gateway: Gateway = request.app.state.gateway
    caller = gateway.runtime.authenticator.caller(request.scope["headers"])
    if key is not None and tenant is not None:
        raise BadRequest("ask for a key or a tenant, not for both", param="tenant")
    if tenant is not None or key not in (None, caller.name):
        caller.require("admin", "the usage of others")
    if days > DAYS_OF_ALL:
        caller.require("admin", f"usage of more than {DAYS_OF_ALL} days")
    if gateway.ledger_redis is None:
        raise Conflict("usage is summed up in Redis, and none is configured: set `redis`")
    name = caller.name if key is None else key
    whose = (TENANT, tenant) if tenant is not None else (KEY, name)
    today = datetime.fromtimestamp(time.time(), UTC).date()
    first = today - timedelta(days=days - 1)
    try:
        with _one_at_a_time(gateway, caller.name):
            spent = [await _day(gateway.ledger_redis, first + timedelta(days=n), *whose) for n in range(days)]
        subject = gateway.runtime.authenticator.named(name) if tenant is None else None
        budgets = await budgets_of(gateway, subject) if subject else []
    except Unreachable as error:
        raise Unavailable(f"Redis does not answer: {error}", retry_after_s=1) from error
    return {
        "object": "usage",
        **({"key": name} if tenant is None else {"tenant": tenant}),
        "since": first.isoformat(),
        "until": today.isoformat(),
        **_totals(spent),
        "data": [row for n, day in enumerate(spent) for row in _rows(first + timedelta(days=n), day)],
        "limits": _limits(subject),
        "budgets": budgets,
    }


@contextmanager
def _one_at_a_time(gateway: Gateway, key: str) -> Iterator[None]:
    """Raises TooManyRequests while another call of the key runs."""
    running = _running.setdefault(gateway, set())
    if key in running:
        raise TooManyRequests("another usage call of this key is running; wait for its answer", retry_after_s=BUSY_S)
    running.add(key)
    try:
        yield
    finally:
        running.discard(key)


Spent = Counter[tuple[str, str]]  # nano-USD by model and origin


async def _day(redis: aioredis.Redis, day: Any, place: int, name: str) -> Spent:
    start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
    hours = [hour_key(hour) for hour in range(start, start + DAY_S, HOUR_S)]
    spent: Spent = Counter()
    for n in range(0, len(hours), HOURS_A_CALL):
        keys = hours[n : n + HOURS_A_CALL]
        found = await redis.eval(MATCHING, len(keys), *keys, json.dumps(name))
        for field, nano in zip(found[::2], found[1::2], strict=True):
            labels = json.loads(field.partition(b"|")[2])
            if labels[place] == name:
                spent[labels[MODEL], labels[ORIGIN]] += int(nano)
    return spent


def _rows(day: Any, spent: Spent) -> Iterable[dict[str, str]]:
    for (model, origin), nano in sorted(spent.items()):
        if origin not in NOT_SPENT:
            yield {"date": day.isoformat(), "model": model, "origin": origin, "cost_usd": usd(nano)}


def _totals(days: list[Spent]) -> dict[str, str]:
    """`teacher_only_usd`: what the teacher alone would have cost, an estimate."""
    everything = [(origin, nano) for day in days for (_, origin), nano in day.items()]
    return {
        "total_usd": usd(sum(nano for origin, nano in everything if origin not in NOT_SPENT)),
        "teacher_only_usd": usd(sum(nano for origin, nano in everything if origin == TEACHER_ONLY)),
    }


def _limits(caller: Caller | None) -> list[dict[str, Any]]:
    limits = caller.limits if caller else ()
    return [{"of": limit.scope, "name": limit.member, f"{limit.kind}_per_minute": limit.per_minute} for limit in limits]
