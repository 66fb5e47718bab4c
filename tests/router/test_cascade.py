"""The cascade: the student answers, the gate accepts or escalates, streaming and not, whatever fails."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.gateway import ask, eventually, running_gateway, two_models
from tests.support.raw_client import RawClient
from tests.support.scripted import CLOSE, HANG, Fault, Reply, ScriptedUpstream, Status, Step, Usage, failing

CASCADE = {"kind": "cascade", "escalate_at": 0.5, "score_tokens": 3}
KEEPS = {"fallback": {"teacher": "student"}}
ENDPOINTS = ("chat", "completions", "responses")
STUDENT_COST = 20 * 200 + 3 * 800
TEACHER_COST = 10 * 2_000 + 3 * 8_000
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
SURE = Reply("from the student", usage=Usage(20, 3), token_logprob=-0.01)
UNSURE = Reply("from the student", usage=Usage(20, 3), token_logprob=-3.0)


@BOTH
@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_sure_student_answers_alone(
    teacher: ScriptedUpstream, student: ScriptedUpstream, endpoint: str, stream: bool
) -> None:
    student.default = SURE
    async with running_gateway(two_models(teacher.url, student.url, policy=CASCADE)) as gw:
        response = await gw.ask(endpoint, stream=stream)
        assert b"student" in response.content
        assert b'"logprob":' not in response.content
        assert b"token_logprobs" not in response.content
        row = await gw.row()
        assert (row.r, row.p, row.c, row.s) == ("cascade", 0.0, {"serve": STUDENT_COST}, (-0.01, 0.01))
    assert teacher.requests == []


@BOTH
@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_an_unsure_student_is_replaced_and_its_tokens_are_the_price(
    teacher: ScriptedUpstream, student: ScriptedUpstream, endpoint: str, stream: bool
) -> None:
    student.default = UNSURE
    async with running_gateway(two_models(teacher.url, student.url, policy=CASCADE)) as gw:
        response = await gw.ask(endpoint, stream=stream)
        assert response.headers["x-router-model"] == "teacher"
        assert b" teacher" in response.content
        assert b" student" not in response.content
        row = await gw.row()
        assert (row.r, row.p, row.a, row.m) == ("escalated", 1.0, "t", "teacher")
        assert row.c["serve"] == TEACHER_COST
        # A stream is given up as soon as the gate knows, before its usage has come.
        assert row.c["escalation"] > 0 if stream else row.c["escalation"] == STUDENT_COST
        assert row.to == TEACHER_COST


async def test_a_stream_is_released_as_soon_as_the_gate_can_tell(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    """The first `score_tokens` tokens are held; the rest, which never comes here, is not waited for."""
    student.default = Reply("one two three four five", token_logprob=-0.01, fault=Fault(4, "hang"))
    async with (
        running_gateway(two_models(teacher.url, student.url, policy=CASCADE)) as gw,
        RawClient(gw.port) as client,
    ):
        await client.post("/v1/chat/completions", ask("chat", stream=True))
        received = await client.read_until(b"three")
        assert b"one" in received
        assert b"four" not in received


async def test_only_the_first_tokens_count(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    student.default = Reply("a b c d", token_logprob=[-0.1, -0.2, -0.3, -50.0])
    async with running_gateway(two_models(teacher.url, student.url, policy=CASCADE)) as gw:
        for stream in (False, True):
            assert (await gw.ask("chat", stream=stream)).headers["x-router-model"] == "student"
        assert [row.s and row.s[0] for row in await gw.rows(2)] == [-0.2, -0.2]


@BOTH
async def test_the_worst_of_several_choices_decides(
    teacher: ScriptedUpstream, student: ScriptedUpstream, stream: bool
) -> None:
    student.default = UNSURE
    config = two_models(teacher.url, student.url, policy=CASCADE, models={"supports": ["n", "logprobs"]})
    async with running_gateway(config) as gw:
        assert (await gw.ask("chat", n=2, stream=stream)).headers["x-router-reason"] == "escalated"


@BOTH
async def test_an_answer_without_log_probabilities_is_escalated(
    teacher: ScriptedUpstream, student: ScriptedUpstream, stream: bool
) -> None:
    student.default = Reply("")
    async with running_gateway(two_models(teacher.url, student.url, policy=CASCADE)) as gw:
        assert (await gw.ask("chat", stream=stream)).headers["x-router-reason"] == "escalated"
        row = await gw.row()
        assert (row.g, row.s) == (["no_logprobs"], None)


@BOTH
async def test_a_calibration_decides_between_its_points(
    teacher: ScriptedUpstream, student: ScriptedUpstream, stream: bool
) -> None:
    policy = {**CASCADE, "calibration": [[-2.0, 1.0], [-1.0, 0.0]]}
    async with running_gateway(two_models(teacher.url, student.url, policy=policy)) as gw:
        for logprob, model in ((-1.6, "teacher"), (-1.4, "student"), (-9.0, "teacher"), (0.0, "student")):
            student.script(Reply("a b c", token_logprob=logprob))
            assert (await gw.ask("chat", stream=stream)).headers["x-router-model"] == model


@BOTH
@pytest.mark.parametrize("fault", [CLOSE, failing(500, "oops"), failing(429, "slow down")], ids=["close", "500", "429"])
async def test_when_the_teacher_fails_the_students_answer_is_still_there(
    teacher: ScriptedUpstream, student: ScriptedUpstream, fault: Step, stream: bool
) -> None:
    student.default, teacher.default = UNSURE, fault
    async with running_gateway(two_models(teacher.url, student.url, policy=CASCADE, route=KEEPS)) as gw:
        response = await gw.ask("chat", stream=stream)
        assert response.headers["x-router-reason"] == "fallback:teacher"
        assert response.headers["x-router-model"] == "student"
        for word in (b"from", b"the", b"student"):
            assert response.content.count(word) >= 1
        assert response.content.endswith(b"[DONE]\n\n") == stream
        row = await gw.row()
        assert (row.c, row.fb, row.o) == ({"serve": STUDENT_COST}, 1, "ok")


@BOTH
async def test_a_teacher_that_answers_while_the_student_is_kept_loses_nothing(
    teacher: ScriptedUpstream, student: ScriptedUpstream, stream: bool
) -> None:
    student.default = UNSURE
    teacher.default = Reply("one two three", usage=Usage(10, 3))
    async with running_gateway(two_models(teacher.url, student.url, policy=CASCADE, route=KEEPS)) as gw:
        response = await gw.ask("chat", stream=stream)
        if stream:
            assert response.content.count(b"data: ") == 6  # role, three words, the end, [DONE]
        assert b"one" in response.content
        assert b"student" not in response.content.replace(b'"student"', b"")
        assert set((await gw.row()).c) == {"escalation", "serve"}


@BOTH
async def test_when_the_teacher_fails_and_nothing_else_is_allowed_it_is_an_error(
    teacher: ScriptedUpstream, student: ScriptedUpstream, stream: bool
) -> None:
    student.default, teacher.default = UNSURE, CLOSE
    async with running_gateway(two_models(teacher.url, student.url, policy=CASCADE)) as gw:
        assert (await gw.ask("chat", stream=stream)).status_code == 502
        row = await gw.row()
        assert (row.o, set(row.c)) == ("failed", {"escalation"})


async def test_a_kept_student_is_ended_when_the_client_hangs_up_after_the_teachers_failure(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = Reply("a b c d e", token_logprob=-3.0, fault=Fault(4, "hang"))
    teacher.default = failing(500, "oops")
    async with running_gateway(two_models(teacher.url, student.url, policy=CASCADE, route=KEEPS)) as gw:
        async with RawClient(gw.port) as client:
            await client.post("/v1/chat/completions", ask("chat", stream=True))
            await client.read_until(b"c")
        await asyncio.wait_for(student.client_gone.wait(), 30)
        assert (await gw.row()).o == "cancelled"


@pytest.mark.parametrize("keeps", [False, True], ids=["given up", "kept"])
@BOTH
async def test_a_hang_up_during_the_escalation_ends_both(
    teacher: ScriptedUpstream, student: ScriptedUpstream, stream: bool, keeps: bool
) -> None:
    student.default, teacher.default = UNSURE, HANG
    config = two_models(teacher.url, student.url, policy=CASCADE, route=KEEPS if keeps else {})
    async with running_gateway(config) as gw:
        async with RawClient(gw.port) as client:
            await client.post("/v1/chat/completions", ask("chat", stream=stream))
            await teacher.arrived(1)
        await asyncio.wait_for(teacher.client_gone.wait(), 30)
        row = await gw.row()
        assert (row.o, row.e) == ("cancelled", 1)
        assert "cancelled" in row.c
        await eventually(lambda: not any(model.in_flight for model in gw.gateway.runtime.models.values()))


async def test_a_hang_up_during_the_escalation_does_not_end_who_got_the_students_connection_next(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.script(UNSURE, Reply("for the other", delay_s=0.1))
    teacher.default = HANG
    async with running_gateway(two_models(teacher.url, student.url, policy=CASCADE)) as gw:
        async with RawClient(gw.port) as client:
            await client.post("/v1/chat/completions", ask("chat"))
            await teacher.arrived(1)
            other = asyncio.create_task(gw.ask("chat", "student"))
            await student.arrived(2)
            assert student.open_connections == 1
        assert (await other).status_code == 200
        assert [row.o for row in await gw.rows(2)] == ["cancelled", "ok"]


async def test_an_unreadable_answer_is_a_failure_of_the_student(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = Status(200, b'{"choices": [{"message": {"content": "\xff\xfe"}}]}')
    async with running_gateway(two_models(teacher.url, student.url, policy=CASCADE)) as gw:
        assert (await gw.ask("chat")).headers["x-router-reason"] == "fallback:student"
