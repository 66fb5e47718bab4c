"""Controllers through whole gateways that share a Redis: audits certify a floor, a budget paces, both are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from router.control import control
from tests.control.conftest import Connect
from tests.router.conftest import student, teacher
from tests.router.evidence.conftest import RedisProcess
from tests.support.gateway import RunningGateway, eventually, running_gateway, two_models
from tests.support.scripted import Reply, ScriptedUpstream, Usage

__all__ = ["student", "teacher"]

FLOOR = {"alpha": 0.2, "delta": 0.2, "min_audits": 20, "shadow_rate": 1.0, "audit_rate": 1.0, "max_audits": 1.0}
SURE = Reply("the same words", usage=Usage(20, 3), token_logprob=-0.01)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "SHIP_EVERY_S", 0.02)
    monkeypatch.setattr(control, "TURN_EVERY_S", 0.02)


@pytest.fixture
async def config(
    teacher: ScriptedUpstream, student: ScriptedUpstream, lasting_redis: RedisProcess, connect: Connect
) -> AsyncIterator[dict[str, Any]]:
    teacher.default = student.default = SURE
    policy = {"kind": "cascade", "escalate_at": 0.5, "score_tokens": 3, "floor": FLOOR}
    yield two_models(teacher.url, student.url, policy=policy, redis=lasting_redis.url)


async def ask(gw: RunningGateway) -> str:
    answer = await gw.ask("chat")
    assert answer.status_code == 200, answer.text
    return f"{answer.headers['x-router-model']}:{answer.headers['x-router-reason']}"


async def test_audits_of_all_workers_certify_a_floor_that_outlives_them(
    config: dict[str, Any], lasting_redis: RedisProcess
) -> None:
    async with AsyncExitStack() as stack:
        gateways = [
            await stack.enter_async_context(running_gateway(config, redis_url=lasting_redis.url, alone=False))
            for _ in range(2)
        ]
        assert all((await ask(gw)).startswith("teacher:") for gw in gateways)
        for _ in range(15):
            for gw in gateways:
                await ask(gw)
        for gw in gateways:
            await gw.idle()
        for gw in gateways:
            live = gw.gateway.runtime.routes["auto"].live
            await eventually(lambda live=live: live.floor > 0.1, "a certified floor")
            assert await ask(gw) == "student:cascade"
    async with running_gateway(config, redis_url=lasting_redis.url, alone=False) as gw:
        assert await ask(gw) == "student:cascade"
