"""Controllers through whole gateways that share a Redis: audits certify a floor, a budget paces, both are kept."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass

import httpx
import pytest

from policies.certify.records import FloorStatus
from router.control import control
from router.control.live import State
from router.control.names import state_key
from router.control.published import decoded
from router.ledger.status import declare_nothing
from tests.control.conftest import Connect
from tests.router.conftest import student, teacher
from tests.router.evidence.conftest import RedisProcess
from tests.support.gateway import PATIENCE_S, RunningGateway, eventually, running_gateway, two_models
from tests.support.keys import comes_to
from tests.support.scripted import Exchange, Fault, Reply, ScriptedUpstream, Usage, failing

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
    """Of a Redis that has just been emptied, and is told that no worker holds any money."""
    declare_nothing(lasting_redis.url)
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


async def certified(gw: RunningGateway) -> FloorStatus:
    for _ in range(40):
        await gw.ask("chat")
    await gw.idle()
    await eventually(lambda: _floor(gw) > 0.1, "a certified floor")
    return await status(gw, 40)


async def status(gw: RunningGateway, told: int) -> FloorStatus:
    """Once so many requests have been told to the floor, within and outside of what it certifies."""
    redis = gw.gateway.ledger_redis
    assert redis is not None
    async with asyncio.timeout(PATIENCE_S):
        while True:
            data = await redis.get(state_key("auto"))
            found = decoded(data).status if isinstance(data, bytes) else None
            if found is not None and found.requests + found.uncovered >= told:
                assert found.requests + found.uncovered == told
                return found
            await asyncio.sleep(0.01)


async def answers(gw: RunningGateway, count: int) -> Counter[str]:
    """Who answered, and why."""
    found = Counter([await ask(gw) for _ in range(count)])
    await gw.idle()
    return found


WRONG = Reply("another, wrong one", usage=Usage(20, 3), token_logprob=-3.0, headers={"connection": "close"})


async def test_what_a_spent_budget_left_to_the_student_is_outside_of_the_certificate(
    teacher: ScriptedUpstream, student: ScriptedUpstream, url: str
) -> None:
    teacher.default = student.default = SURE
    budget = {"window": "day", "limit_usd": 0.01, "counts": "teacher", "on_spent": "student"}
    config = two_models(
        teacher.url,
        student.url,
        policy=CASCADE | {"floor": FLOOR},
        models={"max_output_tokens": 100},
        budgets={"day": budget},
        redis=url,
    )
    async with running_gateway(config, redis_url=url, alone=False) as gw:
        await certified(gw)
        teacher.default = Reply("the same words", usage=Usage(200_000, 300), headers={"connection": "close"})
        student.default = WRONG
        found = await answers(gw, 30)
        forced = found["student:budget:day"]
        assert forced > 20
        after = await status(gw, 70)
        assert (after.uncovered, after.requests) == (forced, 70 - forced)
        await eventually(lambda: gw.metric("floor_uncovered", route="auto") == forced)


async def test_what_a_teacher_that_was_away_left_to_the_student_is_outside_of_the_certificate(
    teacher: ScriptedUpstream, student: ScriptedUpstream, url: str
) -> None:
    teacher.default = student.default = SURE
    config = two_models(teacher.url, student.url, policy=CASCADE | {"floor": FLOOR}, redis=url)
    config["routes"]["auto"]["fallback"] = {"teacher": "student"}
    async with running_gateway(config, redis_url=url, alone=False) as gw:
        before = await certified(gw)
        teacher.default, student.default = failing(500, "gone", headers={"connection": "close"}), WRONG
        found = await answers(gw, 20)
        assert {name.partition(":")[0] for name in found} == {"student"}
        assert {name.split(":")[1] for name in found} <= {"fallback", "down"}
        after = await status(gw, 60)
        assert after.uncovered == 20
        assert (after.requests, after.student_share) == (before.requests, before.student_share)


async def test_what_had_no_chance_of_being_audited_is_outside_of_the_certificate(
    teacher: ScriptedUpstream, student: ScriptedUpstream, url: str
) -> None:
    teacher.default = student.default = SURE
    config = two_models(teacher.url, student.url, policy=CASCADE | {"floor": FLOOR}, redis=url)
    async with running_gateway(config, redis_url=url, alone=False) as gw:
        await certified(gw)
        gw.gateway.auditor.sampler.pause(gw.gateway.runtime.routes["auto"])
        assert await answers(gw, 5) == {"student:cascade": 5}
        after = await status(gw, 45)
        assert (after.requests, after.uncovered) == (40, 5)


BREAKS_OFF = Reply(
    "the same words and many more", usage=Usage(20, 6), token_logprob=-0.01, headers=SURE.headers, fault=Fault(after=5)
)


@pytest.mark.parametrize(
    ("broken", "stream"), [(BREAKS_OFF, True), (failing(500, "broken", headers={"connection": "close"}), False)]
)
async def test_a_student_that_breaks_is_counted_as_served_and_lost(
    teacher: ScriptedUpstream, student: ScriptedUpstream, url: str, broken: Reply, stream: bool
) -> None:
    teacher.default = student.default = SURE
    lenient = FLOOR | {"alpha": 0.9}
    config = two_models(teacher.url, student.url, policy=CASCADE | {"floor": lenient}, redis=url)
    config["routes"]["auto"]["fallback"] = {"student": "error"}
    async with running_gateway(config, redis_url=url, alone=False) as gw:
        before = await certified(gw)
        student.default = broken
        for _ in range(10):
            with contextlib.suppress(httpx.HTTPError):
                await gw.ask("chat", stream=stream)
        await gw.idle()
        after = await status(gw, 50)
        assert (after.requests, after.audits, after.uncovered) == (50, 50, 0)
        served = round(after.student_share * 50) - round(before.student_share * 40)
        lost = after.loss_estimate * 50 - before.loss_estimate * 40
        assert (served, round(lost)) == (10, 10)


async def test_a_floor_that_was_promoted_while_the_student_answered_is_not_the_floor_of_its_score(
    teacher: ScriptedUpstream, student: ScriptedUpstream, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "TURN_EVERY_S", 600.0)  # what is published here stays
    config = two_models(teacher.url, student.url, policy=CASCADE | {"floor": FLOOR}, redis=url)
    async with running_gateway(config, redis_url=url, alone=False) as gw:
        live = gw.gateway.runtime.routes["auto"].live

        def publish() -> None:
            live.board.state, live.board.seen_at = State(live.version, 2.0, "certified"), time.monotonic()

        @dataclass(frozen=True)
        class Promoting(Reply):
            async def __call__(self, exchange: Exchange) -> None:
                live._scorer = lambda: "another"
                publish()
                await super().__call__(exchange)

        student.default = SURE
        publish()
        assert await ask(gw) == "student:cascade"
        student.default = Promoting("the same words", usage=Usage(20, 3), token_logprob=-0.01, headers=SURE.headers)
        assert await ask(gw) == "teacher:escalated:floor"
        assert (await gw.rows(2))[1].th == 0.0
