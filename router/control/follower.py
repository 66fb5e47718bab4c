"""Brings what the controllers published to the boards of this process, and shows it as metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import redis.asyncio as aioredis

from router.control.live import LiveRoute, State
from router.control.metrics import ControlSeries
from router.control.names import state_key
from router.control.plan import Plan
from router.control.published import Published, decoded

log = logging.getLogger("distill_router.control")


class Follower:
    """One per process. While Redis is away the boards keep what was known last, and it ages."""

    def __init__(self, redis: aioredis.Redis, series: ControlSeries, plan: Callable[[], Plan]) -> None:
        self._redis = redis
        self._series = series
        self._plan = plan
        self._seen: dict[str, bytes] = {}
        self._unreadable: set[str] = set()

    async def refresh(self) -> None:
        """Read the states of all controlled routes. Raises what Redis raises."""
        routes = self._plan().routes
        if not routes:
            return
        found: list[Any] = await self._redis.mget([state_key(route) for route in routes])
        for (route, live), data in zip(routes.items(), found, strict=True):
            if data is not None and data != self._seen.get(route):
                self._apply(live, data)
        self._seen = {route: data for route, data in zip(routes, found, strict=True) if data is not None}

    def show(self) -> None:
        """The metrics that change also while nothing new is published."""
        for route, live in self._plan().routes.items():
            self._series.show_now(route, live.threshold, live.floor, live.age_s)

    def _apply(self, live: LiveRoute, data: bytes) -> None:
        board = live.board
        try:
            published = decoded(data)
        except ValueError as error:
            if board.route not in self._unreadable:  # it is there again every second
                log.warning("what was published of route '%s' cannot be read: %s", board.route, error)
            self._unreadable.add(board.route)
            return
        self._unreadable.discard(board.route)
        # The first time its age is known only by the publisher's clock; later it is new because it changed.
        age_s = 0.0 if board.route in self._seen else max(0.0, time.time() - published.at)
        board.seen_at = time.monotonic() - age_s
        board.state = _state(published)
        self._series.show_pace(board.route, published.pace_usd)
        if published.status is not None and live.floor_settings is not None:
            self._series.show_floor(board.route, published.status)


def _state(published: Published) -> State:
    return State(
        version=published.version,
        floor=published.floor,
        phase=published.status.phase if published.status else "",
        audit_rate=published.audit_rate,
        pace_usd=published.pace_usd,
    )
