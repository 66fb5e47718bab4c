"""Runs the controllers in one process at a time: elected by a lock in Redis that ends by itself.

The leader reads what workers told, in order, lets the controllers look, and publishes. Every few seconds it writes
their memory together with the cursor of what is in it. Whoever comes after goes on from there and reads again what came
since: each event is counted once, whoever dies when. A leader that lost its lock finds out when it writes, and forgets.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import redis.asyncio as aioredis

from policies.control.pace import Spending
from router.client import unique_id
from router.control.controllers import Controllers
from router.control.events import received
from router.control.metrics import ControlSeries
from router.control.names import EVENTS, LEADER, MEMORY, state_key
from router.control.plan import Plan
from router.control.published import Published, encoded
from router.control.scripts import PUBLISH, RESIGN
from router.control.spending import read_spending

log = logging.getLogger("distill_router.control")

LEASE_S: Final = 5.0
REMEMBER_EVERY_S: Final = 10.0
STATE_KEPT_S: Final = 30 * 86_400
BATCH: Final = 200  # events read at once
MOST_BATCHES: Final = 20  # a turn
BEGINNING: Final = b"0-0"

Events = list[tuple[bytes, Mapping[bytes, bytes]]]


class Leader:
    """`plan`: gives what is configured now. `clock`: Unix time."""

    def __init__(
        self,
        redis: aioredis.Redis,
        series: ControlSeries,
        plan: Callable[[], Plan],
        *,
        lease_s: float = LEASE_S,
        remember_every_s: float = REMEMBER_EVERY_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._redis = redis
        self._series = series
        self._plan = plan
        self._lease_ms = round(lease_s * 1000)
        self._remember_every_s = remember_every_s
        self._clock = clock
        self._token = unique_id()
        self._controllers: Controllers | None = None
        self._turning: asyncio.Future[None] | None = None
        self._cursor = BEGINNING
        self._remembered = BEGINNING
        self._remembered_at = 0.0
        self._publish: Any = redis.register_script(PUBLISH)
        self._resign: Any = redis.register_script(RESIGN)

    @property
    def leads(self) -> bool:
        """As far as this process knows."""
        return self._controllers is not None

    async def turn(self) -> None:
        """Look at what came and publish, if this process leads or can. Raises what Redis raises.

        A turn that was begun ends, also where its caller is cancelled: a thread may be at work on the controllers.
        """
        self._turning = asyncio.ensure_future(self._take_turn())
        await asyncio.shield(self._turning)

    async def _take_turn(self) -> None:
        plan = self._plan()
        if self._controllers is None and not await self._elected(plan):
            return
        controllers = self._controllers
        assert controllers is not None
        events = await self._events()
        now_s = self._clock()
        spendings = await self._spendings(plan, now_s)
        published = await asyncio.to_thread(self._step, controllers, plan, events, spendings, now_s)
        if events:
            self._cursor = events[-1][0]
        due = now_s - self._remembered_at >= self._remember_every_s and self._cursor != self._remembered
        await self._write(published, remember=due)

    async def close(self) -> None:
        """Write down what is known and let somebody else lead. Raises what Redis raises."""
        if self._turning is not None:
            await asyncio.wait([self._turning])
        if self._controllers is not None:
            await self._write({}, remember=True)
            await self._resign(keys=[LEADER], args=[self._token])
            self._controllers = None

    async def _elected(self, plan: Plan) -> bool:
        if not await self._redis.set(LEADER, self._token, nx=True, px=self._lease_ms):
            return False
        state: Any
        cursor: Any
        state, cursor = await self._redis.hmget(MEMORY, ["state", "cursor"])
        self._controllers = await asyncio.to_thread(_recalled, plan, state, self._clock())
        self._cursor = self._remembered = cursor or BEGINNING
        self._remembered_at = self._clock()
        log.info("this process runs the controllers of %s", ", ".join(plan.routes) or "no route")
        return True

    async def _events(self) -> Events:
        """What came after the cursor, as far as one turn takes it."""
        found: Events = []
        for _ in range(MOST_BATCHES):
            last = found[-1][0] if found else self._cursor
            batch: Any = await self._redis.xrange(EVENTS, min=b"(" + last, count=BATCH)
            found += batch
            if len(batch) < BATCH:
                break
        return found

    async def _spendings(self, plan: Plan, now_s: float) -> dict[str, Spending]:
        return {name: await read_spending(self._redis, name, budget, now_s) for name, budget in plan.budgets.items()}

    def _step(
        self, controllers: Controllers, plan: Plan, events: Events, spendings: Mapping[str, Spending], now_s: float
    ) -> dict[str, Published]:
        """In a thread: a floor may take its time."""
        lost = controllers.lost
        for _, fields in events:
            try:
                controllers.take(received(fields[b"d"]), now_s)
            except (ValueError, KeyError) as error:
                log.warning("what a worker told the controllers cannot be read: %s", error)
                self._series.unreadable.inc()
        self._series.lost.inc(controllers.lost - lost)
        controllers.step(plan, spendings, now_s)
        return controllers.published(plan, now_s)

    async def _write(self, published: Mapping[str, Published], *, remember: bool) -> None:
        """Publish, and remember what is known; forget it where somebody else leads by now."""
        controllers = self._controllers
        assert controllers is not None
        state = await asyncio.to_thread(controllers.dump) if remember else b""
        written = await self._publish(
            keys=[LEADER, MEMORY, EVENTS, *(state_key(route) for route in published)],
            args=[
                self._token,
                self._lease_ms,
                STATE_KEPT_S,
                state,
                self._cursor if remember else b"",
                *(encoded(each) for each in published.values()),
            ],
        )
        if not written:
            log.warning("this process was too slow to go on running the controllers")
            self._controllers = None
        elif remember:
            self._remembered, self._remembered_at = self._cursor, self._clock()


def _recalled(plan: Plan, state: bytes | None, now_s: float) -> Controllers:
    if state is None:
        return Controllers()
    try:
        return Controllers.load(plan, state)
    except ValueError as error:
        log.warning("the controllers begin anew: %s", error)
        return Controllers.anew(plan, now_s)
