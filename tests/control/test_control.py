"""The controllers' part in whole processes: that they start, lead, follow, stop and hand over by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import redis.asyncio as aioredis
from prometheus_client import CollectorRegistry

from router.control import control
from router.control.control import Control
from router.control.live import Boards, LiveRoute
from router.control.metrics import ControlSeries
from router.control.names import LEADER, PREFIX
from router.control.plan import Plan
from tests.control.conftest import KEEPING, Connect
from tests.control.made import FLOOR, count, live_route
from tests.router.evidence.conftest import RedisProcess
from tests.support.gateway import eventually


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "SHIP_EVERY_S", 0.02)
    monkeypatch.setattr(control, "TURN_EVERY_S", 0.02)


class Worker:
    def __init__(self, redis: aioredis.Redis) -> None:
        self.boards, self.registry = Boards(), CollectorRegistry()
        self.live: LiveRoute = live_route(self.boards)
        self.control = Control(redis, ControlSeries(self.registry), self.boards)
        self.control.configure(Plan({"auto": self.live}))

    @property
    def leads(self) -> bool:
        return self.registry.get_sample_value("distill_router_control_leader") == 1

    def audits(self) -> float | None:
        return self.registry.get_sample_value("distill_router_floor_audits", {"route": "auto"})


@asynccontextmanager
async def working(redis: aioredis.Redis) -> AsyncIterator[Worker]:
    worker = Worker(redis)
    await worker.control.start()
    try:
        yield worker
    finally:
        await worker.control.close()


async def test_workers_share_a_floor_and_another_leads_when_the_leader_ends(connect: Connect) -> None:
    async with working(connect()) as second:
        async with working(connect()) as first:
            await eventually(lambda: first.leads or second.leads)
            for worker in (first, second):
                count(worker.live, 100, audited=30)
            await eventually(lambda: first.audits() == second.audits() == 60)
            assert first.live.floor == second.live.floor
            assert first.live.floor is not None and first.live.floor > 0
            assert [first.leads, second.leads].count(True) == 1
        await eventually(lambda: second.leads)
        count(second.live, 10, audited=10)
        await eventually(lambda: second.audits() == 70)


async def test_what_is_counted_last_is_told_before_the_end_and_nobody_waits_for_the_lock(connect: Connect) -> None:
    redis = connect()
    async with working(redis) as one:
        await eventually(lambda: one.leads)
        count(one.live, 100, audited=30)
    assert await redis.exists(LEADER) == 0
    async with working(connect()) as other:
        await eventually(lambda: other.audits() == 30)


async def test_a_worker_that_starts_follows_what_was_published_before_its_start_returns(connect: Connect) -> None:
    async with working(connect()) as one:
        count(one.live, 100, audited=30)
        await eventually(lambda: one.audits() == 30)
        other = Worker(connect())
        await other.control.start()
        assert other.live.floor == one.live.floor != 0.0
        await other.control.close()


async def test_redis_away_at_the_start_and_later_is_waited_for(redis_process: RedisProcess) -> None:
    client = aioredis.Redis.from_url(redis_process.url, socket_timeout=2)
    async with working(client) as one:
        assert one.live.floor == 0.0
        count(one.live, 100, audited=30)
        redis_process.start(*KEEPING)
        await eventually(lambda: one.audits() == 30)
        before = one.live.floor
        assert before != 0.0
        redis_process.kill()
        count(one.live, 10, audited=5)
        await asyncio.sleep(0.1)
        assert one.live.floor == before
        redis_process.start(*KEEPING)
        await eventually(lambda: one.audits() == 35)
    await client.aclose()


async def test_a_reload_without_controllers_ends_the_leading_and_shows_nothing_alarming(connect: Connect) -> None:
    redis = connect()
    async with working(redis) as one:
        count(one.live, 100, audited=30)
        await eventually(lambda: one.audits() == 30)
        one.control.configure(Plan())
        await eventually(lambda: not one.leads)
        assert await redis.exists(LEADER) == 0
        shown = {sample.name for metric in one.registry.collect() for sample in metric.samples if sample.value > 0}
        assert not {name for name in shown if not name.endswith("_created")}


async def test_a_reload_without_the_floor_shows_it_no_more(connect: Connect) -> None:
    async with working(connect()) as one:
        count(one.live, 100, audited=30)
        await eventually(lambda: one.audits() == 30)
        one.control.configure(Plan({"auto": live_route(one.boards, floor=None, paced=True)}))
        assert one.audits() == 0
        await asyncio.sleep(0.1)  # it has the time to be shown again
        assert one.audits() == 0


async def test_without_a_controller_nobody_talks_to_redis(connect: Connect) -> None:
    redis = connect()
    worker = Worker(redis)
    worker.control.configure(Plan())
    await worker.control.start()
    await asyncio.sleep(0.1)
    await worker.control.close()
    assert [key async for key in redis.scan_iter(f"{PREFIX}*")] == []


async def test_the_age_of_a_state_and_the_bars_are_shown(connect: Connect) -> None:
    async with working(connect()) as one:
        count(one.live, 100, audited=30)
        await eventually(lambda: one.audits() == 30)
        shown = one.registry.get_sample_value
        assert shown("distill_router_threshold", {"route": "auto", "controller": "floor"}) == one.live.floor
        assert shown("distill_router_floor_phase", {"route": "auto", "phase": "certified"}) == 1
        assert shown("distill_router_floor_phase", {"route": "auto", "phase": "alarm"}) == 0
        age_s = shown("distill_router_control_state_age_seconds", {"route": "auto"})
        assert age_s is not None and age_s < FLOOR.stale_s
