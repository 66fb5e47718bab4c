"""The controllers' part in one process: tells what was counted, follows what is published, leads where it is elected.

Nothing of it is on the request path. Without a controller in the configuration it talks to nobody. While Redis is away
the last state stays, and a floor that nobody renews gives everything to the teacher after its `stale_s`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import redis.asyncio as aioredis

from router.control.follower import Follower
from router.control.leader import Leader
from router.control.live import Boards
from router.control.metrics import ControlSeries
from router.control.plan import Plan
from router.control.shipper import Shipper
from router.evidence.redis import Unreachable
from router.tasks import end

log = logging.getLogger("distill_router.control")

SHIP_EVERY_S: Final = 0.5
TURN_EVERY_S: Final = 1.0


class Control:
    """One per process. `redis`: the ledger's."""

    def __init__(self, redis: aioredis.Redis, series: ControlSeries, boards: Boards) -> None:
        self._plan = Plan()
        self._series = series
        self._boards = boards
        self._shipper = Shipper(redis, series, boards)
        self._leader = Leader(redis, series, lambda: self._plan)
        self._follower = Follower(redis, series, lambda: self._plan)
        self._away: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []

    def configure(self, plan: Plan) -> None:
        """What is to be controlled from now on: before the start, and at every reload."""
        for route, live in self._plan.routes.items():
            now = plan.routes.get(route)
            if now is None:
                self._series.forget(route)
            elif live.floor_settings is not None and now.floor_settings is None:
                self._series.forget_floor(route)
        self._plan = plan

    async def start(self) -> None:
        """Read what is published once, if Redis answers, and from then on work in the background."""
        await self._turn("states", self._follow)
        for name, every_s, part in (
            ("counts", SHIP_EVERY_S, self._shipper.ship),
            ("controllers", TURN_EVERY_S, self._lead),
            ("states", TURN_EVERY_S, self._follow),
        ):
            self._tasks.append(asyncio.create_task(self._forever(name, every_s, part), name=f"control: {name}"))

    async def close(self) -> None:
        """Tell what is left, write down what is known where this process leads, and let another one lead."""
        await end(self._tasks)
        with contextlib.suppress(*Unreachable):
            await self._shipper.ship()
        with contextlib.suppress(*Unreachable):
            await self._leader.close()
        self._series.leads.set(0)

    async def _lead(self) -> None:
        if self._plan.routes:
            await self._leader.turn()
        elif self._leader.leads:
            await self._leader.close()
        self._series.leads.set(int(self._leader.leads))

    async def _follow(self) -> None:
        try:
            await self._follower.refresh()
        finally:
            self._follower.show()

    async def _forever(self, name: str, every_s: float, part: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._turn(name, part)
            await asyncio.sleep(every_s)

    async def _turn(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        try:
            await part()
            self._away.discard(name)
        except Unreachable as error:
            if name not in self._away:
                log.warning("Redis does not answer, shared control waits (%s): %s", name, error)
            self._away.add(name)
        except Exception:  # the edge of a background task
            log.exception("shared control was not brought up to date (%s)", name)
