"""Routes, requests and counts made up for the controllers' tests, and processes that share a Redis."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import redis.asyncio as aioredis
from prometheus_client import CollectorRegistry

from policies.base import Arm
from policies.certify.records import Audited
from policies.certify.settings import FloorSettings
from policies.control.stickiness import StickySettings
from router.budget_settings import Budget
from router.control.conversations import Conversations
from router.control.follower import Follower
from router.control.leader import Leader
from router.control.live import Boards, LiveRoute
from router.control.metrics import ControlSeries
from router.control.plan import Plan
from router.control.shipper import Shipper
from router.ledger.pricing import PriceList, price_list
from router.price_settings import Price
from router.settings import Model
from tests.support.policy_parts import Asked

FLOOR = FloorSettings.model_validate({"alpha": 0.1, "min_audits": 20, "shadow_rate": 1.0})
PRICES = {
    "teacher": Price(input=2.0, cached_input=0.5, output=8.0),
    "student": Price(input=0.2, cached_input=0.1, output=0.8),
}


@dataclass(frozen=True)
class OneModel:
    version: str
    prices: PriceList
    config: Model


def model(arm: Arm) -> OneModel:
    config = Model(base_urls=("http://127.0.0.1:1/v1",), price=PRICES[arm])
    return OneModel(f"{arm}-1", price_list(PRICES[arm]), config)


def live_route(
    boards: Boards,
    route: str = "auto",
    *,
    scorer: Callable[[], str] = lambda: "v1",
    threshold: float | None = None,
    floor: FloorSettings | None = FLOOR,
    paced: bool = False,
    sticky: StickySettings | None = None,
    conversations: Conversations | None = None,
) -> LiveRoute:
    return LiveRoute(
        boards.named(route),
        model("teacher"),
        model("student"),
        scorer=scorer,
        threshold=threshold,
        floor=floor,
        paced=paced,
        sticky=sticky,
        conversations=conversations,
    )


def count(
    live: LiveRoute, requests: int, *, audited: int = 0, loss: float = 0.1, harm: float = 0.0, arm: Arm = "student"
) -> None:
    """So many requests with an expected loss, of which so many are audited."""
    for number in range(requests):
        live.decided(Asked(), live.version, loss, 0.0, arm)
        if number < audited:
            live.audited(live.version, Audited(loss, harm, 1.0, float(number), arm == "student"))


@dataclass
class Process:
    """What one worker has of the controllers; nothing runs by itself."""

    redis: aioredis.Redis
    floor: FloorSettings | None = FLOOR
    budget: Budget | None = None
    version: str = "v1"
    route: str = "auto"
    now_s: float = field(default_factory=time.time)
    boards: Boards = field(default_factory=Boards)

    def __post_init__(self) -> None:
        self.registry = CollectorRegistry()
        self.series = series = ControlSeries(self.registry)
        paced = self.budget is not None
        self.live = live_route(self.boards, self.route, scorer=lambda: self.version, floor=self.floor, paced=paced)
        self.shipper = Shipper(self.redis, series, self.boards)
        self.leader = Leader(self.redis, series, self.plan, clock=lambda: self.now_s)
        self.follower = Follower(self.redis, series, self.plan)

    def plan(self) -> Plan:
        if self.budget is None:
            return Plan({self.route: self.live})
        return Plan({self.route: self.live}, {self.route: "day"}, {"day": self.budget})

    async def work(
        self, requests: int, audited: int = 0, loss: float = 0.1, harm: float = 0.0, arm: Arm = "student"
    ) -> None:
        """Count and tell."""
        count(self.live, requests, audited=audited, loss=loss, harm=harm, arm=arm)
        await self.shipper.ship()

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"distill_router_{name}", labels)
