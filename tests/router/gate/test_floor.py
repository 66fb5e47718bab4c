"""A cascade under a floor that certifies nothing yet: the teacher serves, and the gate looks at the student's answer in
the background as it would have in the foreground."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from policies.certify.records import Audited
from router import background
from router.arm import ArmCall, open_arm
from router.control.live import LiveRoute
from router.errors import TooManyRequests
from router.evidence.records import PairRecord
from tests.router.gate.asking import FIRST, OTHER, SAME, STUDENT_NANO, by_kind, is_sample
from tests.support.gateway import Json, RunningGateway, ask, running_gateway, two_models
from tests.support.scripted import HANG, Reply, ScriptedUpstream, Usage

BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
AUDIT = {"audit": {"rate": 1.0, "second_draw": 0.0, "confirm": 0.0}}
P_WRONG = 0.3935  # of the first answer, by its log-probabilities
SENTENCES = "I am sure of that. But not of this at all."
LOGPROBS = (-0.1, -0.1, -0.1, -0.1, -0.2, *([-9.0] * 6))
YES = Reply('{"verdict": "yes"}', usage=Usage(50, 8))
AGREES = {"agreement": {"samples": 1, "model": "third", "timeout_s": 30}}
JUDGED = {"checks": {"fine": {"kind": "judge", "model": "third", "timeout_s": 30}}}


def config(teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str, **policy: Any) -> Json:
    block = {"kind": "cascade", "escalate_at": 0.5, "floor": {}, **policy}
    return two_models(teacher.url, student.url, policy=block, route=AUDIT, redis={"url": redis_url})


def with_one_place(settings: Json, third: ScriptedUpstream) -> Json:
    """The model `third` answers one request at a time."""
    settings["models"]["third"] = settings["models"]["teacher"] | {"base_urls": [third.url], "max_in_flight": 1}
    return settings


@asynccontextmanager
async def at_work(gw: RunningGateway, third: ScriptedUpstream) -> AsyncIterator[None]:
    """A client's request is all that `third` has a place for."""
    held = asyncio.create_task(gw.ask("chat", "third"))
    await third.arrived(1)
    yield
    held.cancel()
    await asyncio.wait([held])


@pytest.fixture
async def third() -> AsyncIterator[ScriptedUpstream]:
    """A judge, or a second cheap model."""
    async with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[Audited]:
    """What a floor is told of audits."""
    found: list[Audited] = []
    monkeypatch.setattr(LiveRoute, "audited", lambda self, version, pair: found.append(pair))
    return found


@pytest.fixture
def turned_away(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once a background call found no place."""
    seen = asyncio.Event()

    async def watched(*arguments: Any, **named: Any) -> ArmCall:
        try:
            return await open_arm(*arguments, **named)
        except TooManyRequests:
            seen.set()
            raise

    monkeypatch.setattr(background, "open_arm", watched)
    return seen


@BOTH
async def test_the_student_is_asked_in_the_background_alone(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str, stream: bool
) -> None:
    student.default = FIRST
    async with running_gateway(config(teacher, student, redis_url), redis_url=redis_url) as gw:
        answer = await gw.ask("chat", stream=stream)
        assert (answer.headers["x-router-model"], answer.headers["x-router-reason"]) == ("teacher", "floor")
        row = await gw.row()
        assert (row.p, row.th, set(row.c)) == (1.0, 0.0, {"serve"})
        (pair,) = await gw.pairs()
        assert pair["student"]["mean_logprob"] == -0.5
    assert len(student.requests) == 1


@pytest.mark.parametrize("further", [SAME, OTHER], ids=["agrees", "contradicts itself"])
async def test_what_the_gate_asks_is_asked_in_the_background_too(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str, further: Any
) -> None:
    student.default = by_kind(FIRST, further)
    checks = {"form": {"kind": "json_schema"}} if further is OTHER else {}
    block = {"agreement": {"samples": 2}, "checks": checks}
    async with running_gateway(config(teacher, student, redis_url, **block), redis_url=redis_url) as gw:
        assert (await gw.ask("chat")).headers["x-router-reason"] == "floor"
        (pair,) = [PairRecord.model_validate(pair) for pair in await gw.pairs()]
        shadow = next(row for row in await gw.all_rows(2) if row.o == "shadow")
        assert set(shadow.c) == {"shadow"}
        if checks:
            assert (pair.student.agreement, pair.student.checks) == (None, {"form": False})
        else:
            assert (pair.student.agreement, pair.student.checks) == (1.0, {})
            assert shadow.c == {"shadow": 3 * STUDENT_NANO}
            assert sum(is_sample(request) for request in student.requests) == 2


@BOTH
@pytest.mark.parametrize(
    ("block", "loss"),
    [
        ({"score_tokens": 3}, 0.0952),
        ({"decide_after": "sentence"}, 0.1131),
        ({"agreement": {"samples": 2}}, 0.8291),
        ({"checks": {"form": {"kind": "json_schema"}}}, 1.0),
    ],
    ids=["first tokens", "first sentence", "agreement", "checks"],
)
async def test_the_floor_is_told_the_same_score_of_an_answer_in_the_background_and_in_front_of_a_client(
    teacher: ScriptedUpstream,
    student: ScriptedUpstream,
    redis_url: str,
    fed: list[Audited],
    monkeypatch: pytest.MonkeyPatch,
    block: Json,
    loss: float,
    stream: bool,
) -> None:
    first = Reply(SENTENCES, token_logprob=LOGPROBS, usage=Usage(20, 11))
    student.default = by_kind(first, first, OTHER, first, OTHER)
    async with running_gateway(config(teacher, student, redis_url, **block), redis_url=redis_url) as gw:
        assert (await gw.ask("chat", stream=stream)).headers["x-router-reason"] == "floor"
        await gw.idle()
        monkeypatch.setattr(LiveRoute, "floor", 2.0)  # now the student serves everything
        assert (await gw.ask("chat", stream=stream)).headers["x-router-reason"] != "floor"
        await gw.idle()
    assert [each.score for each in fed] == [pytest.approx(loss, abs=1e-3)] * 2


@pytest.mark.parametrize(
    ("block", "says", "loss"), [(JUDGED, YES, P_WRONG), (AGREES, SAME, 4 * P_WRONG / 5)], ids=["judge", "sample"]
)
async def test_what_a_gate_asks_in_the_background_waits_for_a_place(
    teacher: ScriptedUpstream,
    student: ScriptedUpstream,
    third: ScriptedUpstream,
    redis_url: str,
    fed: list[Audited],
    turned_away: asyncio.Event,
    block: Json,
    says: Reply,
    loss: float,
) -> None:
    student.default, third.default = FIRST, says
    third.script(HANG)
    settings = with_one_place(config(teacher, student, redis_url, **block), third)
    async with running_gateway(settings, redis_url=redis_url) as gw:
        async with at_work(gw, third):
            await gw.ask("chat")
            await asyncio.wait_for(turned_away.wait(), 30)
        await gw.idle()
    assert [each.score for each in fed] == [pytest.approx(loss, abs=1e-3)]


@pytest.mark.parametrize(
    "block",
    [
        {"checks": {"fine": {"kind": "judge", "model": "third", "timeout_s": 0.2}}},
        {"agreement": {"samples": 1, "model": "third", "timeout_s": 0.2}},
    ],
    ids=["judge", "sample"],
)
async def test_what_a_gate_could_not_ask_in_the_background_is_not_held_against_the_student(
    teacher: ScriptedUpstream,
    student: ScriptedUpstream,
    third: ScriptedUpstream,
    redis_url: str,
    fed: list[Audited],
    block: Json,
) -> None:
    student.default, third.default = FIRST, HANG
    settings = with_one_place(config(teacher, student, redis_url, **block), third)
    async with running_gateway(settings, redis_url=redis_url) as gw:
        async with at_work(gw, third):
            await gw.ask("chat")
            await gw.gateway.auditor.idle()
        (pair,) = [PairRecord.model_validate(pair) for pair in await gw.pairs()]
        assert (pair.student.text, pair.student.agreement, pair.student.checks) == ("the answer is 7", None, {})
    assert fed == []


@pytest.mark.parametrize(("mode", "rate"), [("observe", 0.25), ("route", 1.0)])
async def test_only_a_route_that_routes_audits_as_often_as_its_floor_wants(
    teacher: ScriptedUpstream,
    student: ScriptedUpstream,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    rate: float,
) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.0)  # every draw hits
    floor = {"shadow_rate": 1.0, "audit_rate": 1.0, "max_audits": 1.0}
    settings = config(teacher, student, redis_url, floor=floor)
    settings["routes"]["auto"] |= {"mode": mode, "audit": {"rate": 0.25}}
    async with running_gateway(settings, redis_url=redis_url) as gw:
        await gw.ask("chat")
        assert (await gw.row()).au == rate


async def test_a_policy_that_a_header_names_is_not_held_against_the_routes_floor(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str, fed: list[Audited]
) -> None:
    student.default = FIRST
    settings = config(teacher, student, redis_url) | {"policies": {"mine": {"kind": "cascade", "escalate_at": 0.9}}}
    async with running_gateway(settings, redis_url=redis_url) as gw:
        assert (await gw.post("/v1/chat/completions", ask("chat"))).headers["x-router-reason"] == "floor"
        named = await gw.post("/v1/chat/completions", ask("chat"), x_router_policy="mine")
        assert (named.headers["x-router-model"], named.headers["x-router-reason"]) == ("student", "cascade")
        await gw.idle()
    assert len(fed) == 1
