"""How budgets stand, read from Redis by whoever asks: the admin API, a key's own usage, the command line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import redis as blocking
import redis.asyncio as aioredis

from router.budget_settings import Budget
from router.ledger.names import PREFIX, RUN, window_key
from router.ledger.scripts import FORGIVE, LOOK
from router.ledger.windows import Window, window_at


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """One budget of one member ('' for all requests) in the current window; nano-dollars and Unix seconds.

    `window_end`: None for a rolling window. `reserved_nano`: leased to living workers.
    `presumed_nano`: leased to workers that died, which nothing proves unspent.
    """

    budget: str
    member: str
    window: str
    window_start: int
    window_end: int | None
    limit_nano: int
    target_nano: int | None
    spent_nano: int
    reserved_nano: int
    presumed_nano: int


async def read_status(
    redis: aioredis.Redis, budgets: Mapping[str, Budget], now: float, own: Iterable[tuple[str, str, Budget]] = ()
) -> list[BudgetStatus]:
    """Every configured budget, those for each key, tenant or route with the members that were seen in this window.

    `own`: further (budget, member, settings), such as those of a key. Raises redis' errors.
    """
    look: Any = redis.register_script(LOOK)
    found = []
    for name, member, budget in [*await _members(redis, budgets, now), *own]:
        window = window_at(budget, now)
        keys = _keys(name, member, budget, window)
        ceiling, spent, presumed, *_ = await look(keys=keys)
        found.append(
            BudgetStatus(
                name,
                member,
                budget.window,
                window.counted[0],
                window.end if len(window.counted) == 1 else None,
                budget.limit_nano,
                budget.target_nano,
                spent,
                ceiling - spent - presumed,
                presumed,
            )
        )
    return found


async def forgive(redis: aioredis.Redis, name: str, member: str, budget: Budget, now: float) -> int:
    """Nano-dollars that were presumed spent in the current window and are free again. Raises redis' errors."""
    script: Any = redis.register_script(FORGIVE)
    freed: int = await script(keys=_keys(name, member, budget, window_at(budget, now)))
    return freed


def declare_nothing(url: str) -> None:
    """Tell a Redis that has just been started for this gateway alone that no worker holds anything.

    Otherwise the first grants would wait until every worker had the time to declare what it holds.
    """
    with blocking.Redis.from_url(url) as client:
        run_id = client.info("server")["run_id"]
        client.hset(RUN, mapping={"id": run_id, "until": 0})


async def _members(redis: aioredis.Redis, budgets: Mapping[str, Budget], now: float) -> list[tuple[str, str, Budget]]:
    """The configured budgets with their members, in the order of the file."""
    seen: dict[str, set[str]] = {}
    current = {name: window_at(budget, now).counted for name, budget in budgets.items() if budget.each}
    if current:
        async for key in redis.scan_iter(match=f"{PREFIX}window:*", count=1000):
            scope, _, start = bytes(key).decode().removeprefix(f"{PREFIX}window:").rpartition(":")
            name, window, timezone, member = json.loads(scope)
            if int(start) in current.get(name, ()) and (window, timezone) == _window(budgets[name]):
                seen.setdefault(name, set()).add(member)
    return [
        (name, member, budget)
        for name, budget in budgets.items()
        for member in (sorted(seen.get(name, ())) if budget.each else [budget.member or ""])
    ]


def _window(budget: Budget) -> tuple[str, str]:
    return budget.window, budget.timezone


def _keys(name: str, member: str, budget: Budget, window: Window) -> list[str]:
    return [window_key(name, budget.window, budget.timezone, member, start) for start in reversed(window.counted)]
