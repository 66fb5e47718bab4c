"""Agreement: further answers of the student or of a second model, what they cost, and what happens when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.router.gate.asking import FIRST, OTHER, SAME, STUDENT_NANO, TEACHER_NANO, by_kind, is_sample
from tests.support.gateway import PATHS, ask, eventually, running_gateway, two_models
from tests.support.raw_client import RawClient
from tests.support.scripted import CLOSE, HANG, Reply, ScriptedUpstream, Step, Usage, failing

BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
ENDPOINTS = pytest.mark.parametrize("endpoint", ["chat", "completions", "responses"])
KEEPS = {"fallback": {"teacher": "student"}}


def config(teacher: ScriptedUpstream, student: ScriptedUpstream, **more: Any) -> dict[str, Any]:
    """P(wrong) of the first answer is 0.39: two that agree make it 0.26, two that do not 0.6."""
    agreement = {"samples": 2, **more.pop("agreement", {})}
    policy = {"kind": "cascade", "escalate_at": 0.5, "agreement": agreement, **more.pop("policy", {})}
    return two_models(teacher.url, student.url, policy=policy, **more)


@pytest.fixture
async def second() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(default=Reply("the answer is 7", usage=Usage(30, 4))) as upstream:
        yield upstream


@BOTH
@ENDPOINTS
async def test_a_student_that_says_the_same_again_is_believed(
    teacher: ScriptedUpstream, student: ScriptedUpstream, endpoint: str, stream: bool
) -> None:
    student.default = by_kind(FIRST, SAME)
    async with running_gateway(config(teacher, student)) as gw:
        answer = await gw.ask(endpoint, stream=stream)
        assert b" 7" in answer.content and answer.headers["x-router-model"] == "student"
        row = await gw.row()
        assert row.c == {"serve": STUDENT_NANO, "gate": 2 * STUDENT_NANO}
        assert row.s is not None and row.s[1] == pytest.approx(4 * 0.3935 / 6, abs=1e-3)
        assert row.to == 20 * 2_000 + 4 * 8_000  # of the answer that was served, once
    assert teacher.requests == []


@BOTH
@ENDPOINTS
async def test_a_student_that_contradicts_itself_is_replaced_and_all_of_it_is_the_price(
    teacher: ScriptedUpstream, student: ScriptedUpstream, endpoint: str, stream: bool
) -> None:
    student.default = by_kind(FIRST, OTHER)
    async with running_gateway(config(teacher, student)) as gw:
        answer = await gw.ask(endpoint, stream=stream)
        assert b" teacher" in answer.content and answer.headers["x-router-reason"] == "escalated"
        row = await gw.row()
        assert row.c == {"serve": TEACHER_NANO, "escalation": 3 * STUDENT_NANO}
        assert row.s is not None and row.s[1] == pytest.approx((4 * 0.3935 + 2) / 6, abs=1e-3)


async def test_further_answers_are_drawn_apart_and_whole(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    student.default = by_kind(FIRST, SAME)
    async with running_gateway(config(teacher, student)) as gw:
        await gw.ask("chat", stream=True, seed=4, temperature=0, max_tokens=9, stop=["x"])
    samples = [request.json for request in student.requests if is_sample(request)]
    assert len(samples) == 2
    for sample in samples:
        assert sample.keys() == {"model", "messages", "max_tokens", "stop", "temperature"}


async def test_a_model_that_knows_n_is_asked_once(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    student.default = by_kind(FIRST, SAME)
    models = {"supports": ["logprobs", "n"]}
    async with running_gateway(config(teacher, student, agreement={"samples": 3}, models=models)) as gw:
        await gw.ask("chat")
        (sample,) = [request.json for request in student.requests if is_sample(request)]
        assert sample["n"] == 3
        row = await gw.row()
        assert row.s is not None and row.s[1] == pytest.approx(4 * 0.3935 / 7, abs=1e-3)


@BOTH
@pytest.mark.parametrize(("says", "arm"), [("It is 7.", "student"), ("It is 8.", "teacher")])
async def test_a_second_model_agrees_or_not(
    teacher: ScriptedUpstream, student: ScriptedUpstream, second: ScriptedUpstream, says: str, arm: str, stream: bool
) -> None:
    student.default, second.default = FIRST, Reply(says, usage=Usage(30, 4))
    wanted = {"model": "second", "samples": 1, "comparator": "number"}
    settings = config(teacher, student, agreement=wanted)
    settings["models"]["second"] = {"base_urls": [second.url], "price": {"input": 0.1, "output": 0.1}}
    async with running_gateway(settings) as gw:
        assert (await gw.ask("chat", stream=stream, temperature=0.3)).headers["x-router-model"] == arm
        charge = next(charge for charge in (await gw.row()).ch if charge.model == "second")
        assert (charge.origin, charge.nano) == ("gate" if arm == "student" else "escalation", 34 * 100)
    (asked,) = second.requests
    assert (asked.json["model"], asked.json["temperature"], asked.json.get("stream")) == ("second", 0.3, None)


@BOTH
@pytest.mark.parametrize(
    "fault", [CLOSE, failing(500, "oops"), failing(400, "no"), Reply('{"broken')], ids=["close", "500", "400", "odd"]
)
async def test_without_further_answers_the_log_probabilities_decide(
    teacher: ScriptedUpstream, student: ScriptedUpstream, fault: Step, stream: bool
) -> None:
    student.default = by_kind(FIRST, fault)
    async with running_gateway(config(teacher, student, policy={"escalate_at": 0.9})) as gw:
        assert (await gw.ask("chat", stream=stream)).headers["x-router-model"] == "student"
        row = await gw.row()
        if not isinstance(fault, Reply):
            assert row.g == ["no_agreement"]
            assert row.s is not None and row.s[1] == pytest.approx(0.3935, abs=1e-3)
        assert row.n == 0  # the client's own call was not tried again


async def test_a_further_answer_that_takes_too_long_does_not_count(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = by_kind(FIRST, SAME, HANG)
    async with running_gateway(config(teacher, student, agreement={"timeout_s": 0.3})) as gw:
        assert (await gw.ask("chat")).headers["x-router-model"] == "student"
        row = await gw.row()
        assert row.s is not None and row.s[1] == pytest.approx(4 * 0.3935 / 5, abs=1e-3)  # one came, and weighs one
        assert row.c.keys() == {"serve", "gate"} and row.e == 1  # its prompt is paid, by an estimate


async def test_an_answer_that_nobody_could_compare_does_not_count(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = by_kind(FIRST, SAME, OTHER)
    comparators = {"mine": {"kind": "command", "argv": ["/none/such"]}}
    settings = config(teacher, student, agreement={"comparator": "mine"}, comparators=comparators)
    async with running_gateway(settings) as gw:
        await gw.ask("chat")
        row = await gw.row()
        assert row.s is not None and row.s[1] == pytest.approx(4 * 0.3935 / 5, abs=1e-3)  # the equal one needs nobody


@BOTH
async def test_while_the_student_fails_its_further_answers_are_given_up(
    teacher: ScriptedUpstream, student: ScriptedUpstream, stream: bool
) -> None:
    student.default = by_kind(failing(500, "oops"), HANG)
    async with running_gateway(config(teacher, student, agreement={"timeout_s": 3600})) as gw:
        assert (await gw.ask("chat", stream=stream)).headers["x-router-reason"] == "fallback:student"
        row = await gw.row()
        assert row.c["serve"] == TEACHER_NANO and row.o == "ok"
        await eventually(lambda: all(request.done.is_set() for request in student.requests), "an idle student")


@BOTH
async def test_a_hang_up_while_further_answers_are_awaited_ends_them(
    teacher: ScriptedUpstream, student: ScriptedUpstream, stream: bool
) -> None:
    student.default = by_kind(FIRST, HANG)
    async with running_gateway(config(teacher, student)) as gw:
        async with RawClient(gw.port) as client:
            await client.post(PATHS["chat"], ask("chat", stream=stream))
            await student.arrived(3)
            first = next(request for request in student.requests if not is_sample(request))
            await asyncio.wait_for(first.done.wait(), 30)
        await asyncio.wait_for(student.client_gone.wait(), 30)
        row = await gw.row()
        assert (row.o, set(row.c)) == ("cancelled", {"cancelled", "gate"})
        await eventually(lambda: not any(model.in_flight for model in gw.gateway.runtime.models.values()))
    assert teacher.requests == []


@BOTH
async def test_a_student_that_is_kept_pays_for_its_gate_when_the_teacher_fails(
    teacher: ScriptedUpstream, student: ScriptedUpstream, stream: bool
) -> None:
    student.default, teacher.default = by_kind(FIRST, OTHER), failing(500, "oops")
    async with running_gateway(config(teacher, student, route=KEEPS)) as gw:
        answer = await gw.ask("chat", stream=stream)
        assert b" 7" in answer.content and answer.headers["x-router-reason"] == "fallback:teacher"
        assert (await gw.row()).c == {"serve": STUDENT_NANO, "gate": 2 * STUDENT_NANO}


@BOTH
async def test_agreement_alone_is_enough_for_a_model_without_log_probabilities(
    teacher: ScriptedUpstream, student: ScriptedUpstream, stream: bool
) -> None:
    student.default = by_kind(FIRST, SAME)
    async with running_gateway(config(teacher, student, policy={"gate": "checks"})) as gw:
        assert (await gw.ask("chat", stream=stream)).headers["x-router-model"] == "student"
        assert (await gw.row()).s == (None, 0.3333)
        student.default = by_kind(FIRST, CLOSE)
        assert (await gw.ask("chat", stream=stream)).headers["x-router-reason"] == "escalated"
    assert not any("logprobs" in request.json for request in student.requests)


async def test_the_pair_says_how_far_the_student_agreed_with_itself(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = by_kind(FIRST, SAME, OTHER)
    audit = {"audit": {"rate": 1.0, "second_draw": 0.0, "confirm": 0.0}}
    async with running_gateway(config(teacher, student, route=audit, policy={"escalate_at": 0.9})) as gw:
        await gw.ask("chat")
        (pair,) = await gw.pairs()
        assert (pair["student"]["agreement"], pair["student"]["samples"]) == (0.5, 2)


@BOTH
async def test_a_budget_that_pays_for_the_answer_alone_leaves_the_further_ones_out(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str, stream: bool
) -> None:
    student.default = by_kind(FIRST, SAME)
    budgets = {"all": {"window": "day", "counts": "all", "limit_usd": 0.00016}}  # a call holds 0.0001
    models = {"max_output_tokens": 100, "template_tokens": 0}
    settings = config(teacher, student, models=models, budgets=budgets, redis={"url": redis_url})
    async with running_gateway(settings, redis_url=redis_url) as gw:
        assert (await gw.ask("chat", stream=stream)).headers["x-router-model"] == "student"
        row = await gw.row()
        assert (row.c, row.g) == ({"serve": STUDENT_NANO}, ["no_agreement"])
    assert len(student.requests) == 1
