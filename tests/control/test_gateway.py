"""Controllers through whole gateways that share a Redis: audits certify a floor, a budget paces, both are kept."""

from __future__ import annotations

import pytest

from router.control import control
from tests.control.conftest import Connect
from tests.router.conftest import student, teacher
from tests.router.evidence.conftest import RedisProcess
from tests.support.gateway import RunningGateway, eventually, running_gateway, two_models
from tests.support.keys import comes_to
from tests.support.scripted import Reply, ScriptedUpstream, Usage

__all__ = ["student", "teacher"]

CASCADE = {"kind": "cascade", "escalate_at": 0.5, "score_tokens": 3}
FLOOR = {"alpha": 0.2, "delta": 0.2, "min_audits": 20, "shadow_rate": 1.0, "audit_rate": 1.0, "max_audits": 1.0}
# No connection is left open between gateways.
SURE = Reply("the same words", usage=Usage(20, 3), token_logprob=-0.01, headers={"connection": "close"})


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "SHIP_EVERY_S", 0.02)
    monkeypatch.setattr(control, "TURN_EVERY_S", 0.02)


@pytest.fixture
def url(lasting_redis: RedisProcess, connect: Connect) -> str:
    """Of a Redis that has just been emptied."""
    return lasting_redis.url


async def ask(gw: RunningGateway) -> str:
    answer = await gw.ask("chat")
    assert answer.status_code == 200, answer.text
    return f"{answer.headers['x-router-model']}:{answer.headers['x-router-reason']}"


def _floor(gw: RunningGateway) -> float:
    return gw.gateway.runtime.routes["auto"].live.floor or 0.0


async def test_audits_of_all_workers_certify_a_floor_that_outlives_them(
    teacher: ScriptedUpstream, student: ScriptedUpstream, url: str
) -> None:
    teacher.default = student.default = SURE
    config = two_models(teacher.url, student.url, policy=CASCADE | {"floor": FLOOR}, redis=url)
    async with (
        running_gateway(config, redis_url=url, alone=False) as first,
        running_gateway(config, redis_url=url, alone=False) as second,
    ):
        gateways = [first, second]
        for gw in gateways:
            assert (await ask(gw)).startswith("teacher:")  # nothing is certified yet
        for gw in gateways * 15:
            await ask(gw)
        for gw in gateways:
            await gw.idle()
        for gw in gateways:
            await eventually(lambda: _floor(gw) > 0.1, "a certified floor")  # noqa: B023 - awaited here
            assert await ask(gw) == "student:cascade"
    async with running_gateway(config, redis_url=url, alone=False) as gw:
        assert await ask(gw) == "student:cascade"


async def test_a_budgets_pace_gives_requests_to_the_student_before_the_money_is_gone(
    teacher: ScriptedUpstream, student: ScriptedUpstream, url: str
) -> None:
    student.default = Reply("from the student", usage=Usage(20, 3), token_logprob=-3.0)  # unsure
    budget = {"window": "day", "limit_usd": 1, "target_usd": 0.0005, "counts": "teacher", "on_spent": "student"}
    config = two_models(
        teacher.url,
        student.url,
        policy=CASCADE | {"pace": "day"},
        models={"max_output_tokens": 100},
        budgets={"day": budget},
        redis=url,
    )
    async with running_gateway(config, redis_url=url, alone=False) as gw:
        assert await ask(gw) == "teacher:escalated"
        await comes_to(lambda: ask(gw), "student:cascade:pace")
        assert gw.metric("pace_price", route="auto") > 0.0
        assert gw.metric("budget_exhausted_total") == 0.0
