"""What was spent of a budget in the window that its pace looks at, read from the ledger's Redis."""

from __future__ import annotations

from typing import Any

import redis.asyncio as aioredis

from policies.control.pace import Spending
from router.budget_settings import Budget
from router.ledger.names import window_key
from router.ledger.pricing import NANO_PER_USD
from router.ledger.scripts import LOOK
from router.ledger.windows import PARTS, window_at


async def read_spending(redis: aioredis.Redis, name: str, budget: Budget, now_s: float) -> Spending:
    """Of the current window: settled, and presumed spent. Raises redis' errors.

    A rolling window never ends. It is paced in consecutive spans of its length, counted from the Unix epoch: a target
    for each span, while the hard limit goes on rolling.
    """
    start, end, starts = _span(budget, now_s)
    keys = [window_key(name, budget.window, budget.timezone, budget.member or "", each) for each in starts]
    look: Any = redis.register_script(LOOK)
    _, spent, presumed, *_ = await look(keys=keys)
    return Spending(start, end, (spent + presumed) / NANO_PER_USD)


def _span(budget: Budget, now_s: float) -> tuple[int, int, list[int]]:
    """Start and end, and the starts of the parts that have begun."""
    window = window_at(budget, now_s)
    if len(window.counted) == 1:
        return window.start, window.end, [window.start]
    size = window.end - window.start
    first = window.start - window.start // size % PARTS * size
    return first, first + PARTS * size, list(range(first, window.start + size, size))
