"""Audits: which requests are drawn, what the pair holds, what a shadow call costs, and what becomes of failures."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest

from policies.bounds import clopper_pearson
from router.evidence.records import PairRecord
from tests.support.gateway import API_KEY, PATHS, RunningGateway, eventually, running_gateway, two_models
from tests.support.scripted import HANG, Held, Reply, ScriptedUpstream, ToolCall, failing

Json = dict[str, Any]
TEACHER = {"kind": "fixed", "model": "teacher"}
STUDENT = {"kind": "fixed", "model": "student"}
CASCADE = {"kind": "cascade", "escalate_at": 0.5}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
def seeded() -> Iterator[None]:
    state = random.getstate()
    random.seed(7)
    yield
    random.setstate(state)


def audited(
    teacher: ScriptedUpstream, student: ScriptedUpstream, *, policy: Json = STUDENT, rate: float = 1.0, **audit: Any
) -> Json:
    """Each answer is asked for once, unless `audit` says otherwise."""
    settings = {"rate": rate, "second_draw": 0.0, "confirm": 0.0, **audit}
    config = two_models(teacher.url, student.url, policy=policy, route={"audit": settings})
    for model in config["models"].values():
        model["supports"] = ["tools", "logprobs"]
    return config


def audits_running() -> int:
    return sum(task.get_name().startswith("audit ") for task in asyncio.all_tasks())


async def pair_of(gateway: RunningGateway) -> PairRecord:
    """The only pair there is."""
    (pair,) = await gateway.pairs()
    return PairRecord.model_validate(pair)


@pytest.mark.parametrize(("rate", "requests"), [(0.0, 20), (1.0, 20), (0.2, 150)])
async def test_the_share_of_audited_requests_is_the_configured_one(
    rate: float, requests: int, teacher: ScriptedUpstream, student: ScriptedUpstream, seeded: None
) -> None:
    async with running_gateway(audited(teacher, student, rate=rate)) as gateway:
        for _ in range(requests):
            assert (await gateway.ask("chat")).status_code == 200
        pairs = await gateway.pairs()
        rows = await gateway.rows(requests)
        share = clopper_pearson(len(pairs), requests, 0.001)
        assert share.low <= rate <= share.high
        assert (len(pairs) == 0) == (rate == 0) and (len(pairs) == requests) == (rate == 1)
        assert {pair["id"] for pair in pairs} == {row.id for row in rows if row.au}
        assert {pair["audit_probability"] for pair in pairs} <= {rate}
        assert len(teacher.requests) == len(pairs)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("endpoint", ["chat", "completions", "responses"])
@pytest.mark.parametrize("policy", [TEACHER, STUDENT], ids=["teacher serves", "student serves"])
async def test_a_pair_holds_both_answers_and_what_they_cost(
    policy: Json, endpoint: str, stream: bool, teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    async with running_gateway(audited(teacher, student, policy=policy)) as gateway:
        answer = await gateway.ask(endpoint, stream=stream, safety_identifier="hash-1", user="4711")
        assert answer.status_code == 200, answer.text
        pair = await pair_of(gateway)
        assert pair.users == ["hash-1", "4711"]
        assert (pair.endpoint, pair.served, pair.route) == (endpoint, policy["model"], "auto")
        assert (pair.teacher.text, pair.student.text) == ("from the teacher", "from the student")
        assert not pair.verdict.same
        assert (pair.teacher.tokens.input, pair.student.tokens.input) == (10, 20)
        assert pair.teacher.cost_nano_usd == 44_000 and pair.student.cost_nano_usd == 6_400
        assert pair.student.mean_logprob is not None
        assert pair.request["model"] == "auto"
        assert pair.prices["teacher"].output == 8.0
        assert pair.id == answer.headers["x-router-decision-id"]
        served, shadow = await gateway.all_rows(2)
        assert (served.id, shadow.id) == (pair.id, f"{pair.id}.shadow")
        assert shadow.o == "shadow" and set(shadow.c) == {"shadow"}
        assert gateway.metric("disagreements_total", route="auto") == 1
        assert gateway.metric("comparisons_total", verdict="disagree") == 1


async def test_agreeing_answers_are_kept_and_counted_as_agreements(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    teacher.default = student.default = Reply("the same")
    async with running_gateway(audited(teacher, student)) as gateway:
        await gateway.ask("chat")
        pair = await pair_of(gateway)
        assert pair.verdict.same and not pair.verdict.harm
        assert gateway.metric("comparisons_total", verdict="agree") == 1
        assert gateway.metric("disagreements_total") == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_tool_calls_are_in_the_pair(stream: bool, teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    teacher.default = Reply("", tool_calls=(ToolCall("weather", '{"city": "Rome"}'),))
    student.default = Reply("", tool_calls=(ToolCall("weather", '{"city":  "Rome"}'),))
    async with running_gateway(audited(teacher, student)) as gateway:
        await gateway.ask("chat", tools=[TOOL], stream=stream)
        pair = await pair_of(gateway)
        assert pair.teacher.tool_calls == [{"name": "weather", "arguments": '{"city": "Rome"}'}]
        assert pair.student.tool_calls[0]["name"] == "weather"
        assert pair.verdict.same


@pytest.mark.parametrize("stream", [False, True])
async def test_an_escalated_answer_is_compared_without_asking_the_student_again(
    stream: bool, teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = Reply("doubtful", token_logprob=-3.0)
    async with running_gateway(audited(teacher, student, policy=CASCADE)) as gateway:
        answer = await gateway.ask("chat", stream=stream)
        assert answer.headers["x-router-reason"] == "escalated"
        pair = await pair_of(gateway)
        assert (pair.served, pair.teacher.text, pair.student.text) == ("teacher", "from the teacher", "doubtful")
        assert pair.student.mean_logprob == pytest.approx(-3.0)
        assert (len(student.requests), len(teacher.requests)) == (1, 1)
        assert [row.o for row in await gateway.all_rows(1)] == ["ok"]


async def test_an_accepted_answer_of_a_cascade_is_compared_with_the_teachers(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = Reply("sure", token_logprob=-0.01)
    async with running_gateway(audited(teacher, student, policy=CASCADE)) as gateway:
        await gateway.ask("chat")
        pair = await pair_of(gateway)
        assert (pair.served, pair.student.text, pair.teacher_probability) == ("student", "sure", 0.0)
        assert (len(student.requests), len(teacher.requests)) == (1, 1)


async def test_a_student_that_fails_in_the_background_is_a_pair_with_an_error(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = failing(500, "broken")
    async with running_gateway(audited(teacher, student, policy=TEACHER)) as gateway:
        assert (await gateway.ask("chat")).status_code == 200
        pair = await pair_of(gateway)
        assert pair.student.error and pair.student.text == ""
        assert not pair.verdict.same and pair.verdict.harm
        assert gateway.metric("comparisons_total", verdict="disagree") == 1


async def test_a_refusing_status_in_the_background_is_a_pair_with_an_error(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = failing(400, "cannot", kind="invalid_request_error")
    async with running_gateway(audited(teacher, student, policy=TEACHER)) as gateway:
        await gateway.ask("chat")
        assert (await pair_of(gateway)).student.error == "status 400"


async def test_a_teacher_that_fails_in_the_background_says_nothing_about_the_student(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    teacher.default = failing(500, "broken")
    async with running_gateway(audited(teacher, student)) as gateway:
        await gateway.ask("chat")
        assert (await pair_of(gateway)).teacher.error
        assert gateway.metric("comparisons_total", verdict="teacher_failed") == 1
        assert gateway.metric("disagreements_total") == 0


async def test_an_answer_that_takes_too_long_is_a_pair_with_an_error_and_is_paid_for(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = HANG
    async with running_gateway(audited(teacher, student, policy=TEACHER, timeout_s=0.2)) as gateway:
        await gateway.ask("chat")
        assert (await pair_of(gateway)).student.error == "no answer within 0.2 s"
        await student.client_gone.wait()
        shadow = next(row for row in await gateway.all_rows(2) if row.o == "shadow")
        assert shadow.e == 1 and shadow.c["shadow"] > 0


async def test_a_request_is_not_drawn_while_every_place_for_audits_is_taken(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = held = Held(student.default)
    config = audited(teacher, student, policy=TEACHER, max_in_flight=1)
    async with running_gateway(config) as gateway:
        for _ in range(5):
            assert (await gateway.ask("chat")).status_code == 200
        assert gateway.gateway.auditor.sampler.keep(gateway.gateway.runtime.routes["auto"]) == 0
        held.go.set()
        assert len(await gateway.pairs()) == 1
        assert [row.au for row in await gateway.rows(5)] == [1, 0, 0, 0, 0]


async def test_audits_that_were_drawn_at_once_are_bounded_when_their_answers_are_there(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = held = Held(student.default)
    config = audited(teacher, student, policy=TEACHER, max_in_flight=2)
    async with running_gateway(config) as gateway:
        gateway.gateway.auditor.sampler.keep = lambda route: 1.0  # type: ignore[method-assign]  # all before any answer
        await asyncio.gather(*(gateway.ask("chat") for _ in range(6)))
        await eventually(lambda: gateway.metric("audits_total", result="full") == 4, "four without a place")
        held.go.set()
        assert len(await gateway.pairs()) == 2


async def test_with_most_places_taken_fewer_are_drawn_and_the_lower_probability_is_in_the_pair(
    teacher: ScriptedUpstream, student: ScriptedUpstream, seeded: None
) -> None:
    student.default = held = Held(student.default)
    config = audited(teacher, student, policy=TEACHER, max_in_flight=4)
    async with running_gateway(config) as gateway:
        for _ in range(30):
            await gateway.ask("chat")
        held.go.set()
        pairs = await gateway.pairs()
        assert {pair["probability"] for pair in pairs} == {1, 0.5, 0.25} and len(pairs) == 4
        assert {pair["audit_probability"] for pair in pairs} == {1, 0.5, 0.25}


async def test_an_audit_waits_for_a_place_at_the_model(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    held = Held(student.default)
    student.script(held)
    config = audited(teacher, student, policy=TEACHER)
    config["models"]["student"]["max_in_flight"] = 1
    async with running_gateway(config) as gateway:
        client = asyncio.create_task(gateway.ask("chat", "student"))
        await student.arrived(1)
        await gateway.ask("chat")
        await eventually(lambda: audits_running() == 1, "an audit")
        held.go.set()
        assert (await client).status_code == 200
        assert (await pair_of(gateway)).student.text == "from the student"


async def test_nobody_blames_the_student_for_an_audit_that_gets_no_place_in_time(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    held = Held(student.default)
    student.script(held)
    config = audited(teacher, student, policy=TEACHER, timeout_s=0.05)
    config["models"]["student"]["max_in_flight"] = 1
    async with running_gateway(config) as gateway:
        client = asyncio.create_task(gateway.ask("chat", "student"))
        await student.arrived(1)
        await gateway.ask("chat")
        await eventually(lambda: gateway.metric("audits_total", result="starved") == 1, "an audit without a place")
        held.go.set()
        assert (await client).status_code == 200
        assert not await gateway.pairs() and len(student.requests) == 1


async def test_audits_take_a_share_of_a_models_places(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    student.default = held = Held(student.default)
    config = audited(teacher, student, policy=TEACHER)
    config["models"]["student"] |= {"max_in_flight": 8, "shadow": {"capacity_share": 0.25}}
    async with running_gateway(config) as gateway:
        for _ in range(5):
            await gateway.ask("chat")
        await student.arrived(2)
        assert (audits_running(), gateway.gateway.runtime.models["student"].in_flight) == (5, 2)
        held.go.set()
        assert len(await gateway.pairs()) == 5


async def test_background_calls_have_connections_and_settings_of_their_own_and_open_no_circuit(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.script(Reply("one"), Reply("two"), *[failing(503, "busy")] * 8)
    config = audited(teacher, student, policy=TEACHER)
    config["models"]["student"]["shadow"] = {"set": {"priority": 9}}
    async with running_gateway(config) as gateway:
        assert (await gateway.ask("chat", "student")).status_code == 200
        assert student.open_connections == 1
        for _ in range(9):
            await gateway.ask("chat")
            await gateway.idle()
            assert student.open_connections == 2
        client, *shadows = student.requests
        assert "priority" not in client.json and {shadow.json["priority"] for shadow in shadows} == {9}
        assert gateway.gateway.runtime.models["student"].available


async def test_an_audit_takes_no_clients_place(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    held = Held(student.default)
    student.script(held)
    config = audited(teacher, student, policy=TEACHER)
    config["models"]["student"]["max_in_flight"] = 1
    async with running_gateway(config) as gateway:
        await gateway.ask("chat")
        await student.arrived(1)
        assert (await gateway.ask("chat", "student")).status_code == 200
        held.go.set()


@pytest.mark.parametrize("value", ["1", "true", "yes"])
async def test_a_no_store_request_stays_out(value: str, teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    async with running_gateway(audited(teacher, student)) as gateway:
        body = {"model": "auto", "messages": [{"role": "user", "content": "secret"}]}
        await gateway.post(PATHS["chat"], body, x_router_no_store=value)
        assert not await gateway.pairs() and not teacher.requests
        assert (await gateway.row()).au == 0
        await gateway.post(PATHS["chat"], body, x_router_no_store="0")
        assert len(await gateway.pairs()) == 1


async def test_a_tenant_whose_audit_is_off_stays_out(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    key = {"name": "ci", "sha256": sha256(API_KEY.encode()).hexdigest(), "tenant": "acme"}
    config = audited(teacher, student) | {
        "server": {"auth": "keys"},
        "keys": [key],
        "tenants": {"acme": {"audit": False}},
    }
    async with running_gateway(config) as gateway:
        answer = await gateway.openai.chat.completions.create(model="auto", messages=[{"role": "user", "content": "x"}])
        assert answer.choices[0].message.content == "from the student"
        assert not await gateway.pairs() and not teacher.requests
        assert (await gateway.row()).tn == "acme"


@pytest.mark.parametrize(
    ("model", "headers"),
    [("auto", {"x_router_model": "student"}), ("auto", {"x_router_policy": "fixed-student"}), ("student", {})],
)
async def test_forced_requests_stay_out(
    model: str, headers: dict[str, str], teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    async with running_gateway(audited(teacher, student)) as gateway:
        body = {"model": model, "messages": [{"role": "user", "content": "x"}]}
        assert (await gateway.post(PATHS["chat"], body, **headers)).status_code == 200
        assert not await gateway.pairs() and not teacher.requests
        assert (await gateway.row()).fo == 1


async def test_a_student_that_failed_before_the_teacher_answered_is_a_pair_with_its_error(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = failing(500, "broken")
    async with running_gateway(audited(teacher, student)) as gateway:
        assert (await gateway.ask("chat")).headers["x-router-reason"] == "fallback:student"
        pair = await pair_of(gateway)
        assert (pair.served, pair.teacher.text) == ("teacher", "from the teacher")
        assert pair.student.error and not pair.verdict.same
        assert (len(student.requests), len(teacher.requests)) == (1, 1)


async def test_a_request_that_does_not_fit_the_student_is_no_pair(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    config = audited(teacher, student)
    config["models"]["student"]["supports"] = []
    async with running_gateway(config) as gateway:
        assert (await gateway.ask("chat", tools=[TOOL])).headers["x-router-reason"] == "guard:tools"
        assert not await gateway.pairs() and not student.requests
        assert gateway.metric("audits_total", result="misfit") == 1


async def test_a_pair_that_is_too_large_is_dropped_and_counted(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    config = audited(teacher, student)
    async with running_gateway(config) as gateway:
        large = [{"role": "user", "content": "x" * 300_000}]
        assert (await gateway.ask("chat", messages=large)).status_code == 200
        assert not await gateway.pairs()
        assert gateway.metric("audits_total", result="too_large") == 1


async def test_a_large_request_is_compared_and_counted_but_not_kept(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    async with running_gateway(audited(teacher, student) | {"retention": {"min_pairs": 1}}) as gateway:
        await gateway.ask("chat", messages=[{"role": "user", "content": "x" * 300_000}])
        await gateway.idle()
        assert gateway.metric("comparisons_total", verdict="disagree") == 1
        gateway.gateway.retention.ship()
        await gateway.gateway.retention.refresh()
        assert gateway.metric("route_loss", slice="all") == 1


async def test_a_shutdown_ends_running_audits_and_counts_them(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = HANG
    config = audited(teacher, student, policy=TEACHER) | {"server": {"auth": "none", "drain_s": 0.1}}
    async with running_gateway(config) as gateway:
        await gateway.ask("chat")
        await student.arrived(1)
        await gateway.gateway.auditor.close(0.1)
        assert gateway.metric("audits_total", result="shutdown") == 1
        assert not await gateway.pairs()
        await asyncio.wait_for(student.client_gone.wait(), 30)


async def test_a_pair_whose_second_draw_is_cut_short_is_kept_without_it(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    teacher.script(Reply("from the teacher"), HANG)
    async with running_gateway(audited(teacher, student, confirm=1.0) | {"retention": {"min_pairs": 1}}) as gateway:
        await gateway.ask("chat")
        await teacher.arrived(2)
        await gateway.gateway.auditor.close(0.1)
        pair = await pair_of(gateway)
        assert pair.second is None and pair.triage and pair.triage.label == "ambiguous"
        gateway.gateway.retention.ship()
        await gateway.gateway.retention.refresh()
        assert gateway.metric("retention_pairs", slice="all") == 1


async def test_observe_mode_serves_the_teacher_and_asks_the_student_a_sample(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    config = audited(teacher, student, policy=STUDENT)
    config["routes"]["auto"]["mode"] = "observe"
    async with running_gateway(config) as gateway:
        answer = await gateway.ask("chat")
        assert (answer.headers["x-router-model"], answer.headers["x-router-reason"]) == ("teacher", "observe")
        pair = await pair_of(gateway)
        assert (pair.served, pair.teacher_probability) == ("teacher", 1.0)
        assert pair.student.text == "from the student"
