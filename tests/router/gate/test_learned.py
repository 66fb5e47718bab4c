"""A learned gate: what it sees, what it asks for, what stands in the row and in the pair; and the floor."""

from __future__ import annotations

from math import log

import pytest

from policies.cascade import Cascade
from router.evidence.records import ArmAnswer, PairRecord
from router.gate.seen import recorded
from tests.support.gateway import RunningGateway, running_gateway, two_models
from tests.support.pairs import pair
from tests.support.policy_parts import Estimator
from tests.support.scripted import Reply, ScriptedUpstream, ToolCall, Usage, Wire

BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
LEARNED = {"kind": "cascade", "escalate_at": 0.5, "gate": "learned", "file": "/none/trained"}
AUDIT = {"audit": {"rate": 1.0, "second_draw": 0.0, "confirm": 0.0}}


def promote(gw: RunningGateway, estimator: Estimator) -> None:
    policy = gw.gateway.runtime.routes["auto"].policy
    assert isinstance(policy, Cascade) and policy.slot is not None
    policy.slot.current = estimator


@BOTH
@pytest.mark.parametrize("loss", [0.2, 0.8])
async def test_a_promoted_gate_decides_and_its_version_is_in_the_row(
    teacher: ScriptedUpstream, student: ScriptedUpstream, loss: float, stream: bool
) -> None:
    student.default = Reply("from the student", usage=Usage(20, 3), token_logprob=-0.01)
    async with running_gateway(two_models(teacher.url, student.url, policy=LEARNED)) as gw:
        before = await gw.ask("chat", stream=stream)
        promote(gw, Estimator(loss))
        after = await gw.ask("chat", stream=stream)
        assert before.headers["x-router-model"] == "student"  # by the log-probabilities: nothing was promoted yet
        assert after.headers["x-router-model"] == ("teacher" if loss > 0.5 else "student")
        first, second = await gw.rows(2)
        assert first.pv.endswith("+none") and second.pv.endswith("+abcd1234")
        assert (second.q, second.th) == ((loss, 0.25), 0.5)
        assert first.s == (-0.01, 0.01) and first.q is None  # it would say P(wrong) again


@BOTH
@pytest.mark.parametrize("endpoint", ["chat", "responses"])
async def test_it_sees_the_request_and_the_whole_answer_with_entropies(
    teacher: ScriptedUpstream, student: ScriptedUpstream, endpoint: str, stream: bool
) -> None:
    student.default = Reply("from the student", token_logprob=[-0.5, -1.0, -1.5])
    async with running_gateway(two_models(teacher.url, student.url, policy=LEARNED)) as gw:
        estimator = Estimator(0.1)
        promote(gw, estimator)
        answer = await gw.ask(endpoint, stream=stream)
        assert b'"logprob":' not in answer.content and b'top_logprobs":[{' not in answer.content
    ((query, seen),) = estimator.seen
    assert (query.last, query.route) == ("hi", "auto")
    assert seen is not None and seen.signals is not None
    assert (seen.text, seen.finish_reason, seen.complete) == ("from the student", "stop", True)
    assert (seen.signals.tokens, seen.signals.mean, seen.signals.minimum) == (3, -1.0, -1.5)
    shares = [2.718281828459045**-rank for rank in range(5)]
    entropy = -sum(share / sum(shares) * log(share / sum(shares)) for share in shares)
    assert seen.signals.entropy_mean == pytest.approx(entropy)
    assert student.requests[0].json["top_logprobs"] == 5


@BOTH
async def test_with_the_first_sentence_it_sees_no_more_than_that(
    teacher: ScriptedUpstream, student: ScriptedUpstream, stream: bool
) -> None:
    student.default = Reply("I am sure of that. But not of this.", token_logprob=-0.5)
    policy = {**LEARNED, "decide_after": "sentence"}
    async with running_gateway(two_models(teacher.url, student.url, policy=policy)) as gw:
        estimator = Estimator(0.1, after="sentence")
        promote(gw, estimator)
        answer = await gw.ask("chat", stream=stream)
        assert b"this." in answer.content
    ((_, seen),) = estimator.seen
    assert seen is not None and seen.signals is not None
    assert (seen.text, seen.finish_reason, seen.complete) == ("I am sure of that.", None, False)
    assert seen.signals.tokens == 5


async def test_a_gate_that_learned_from_whole_answers_does_not_judge_first_sentences(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = Reply("I am sure of that. But not of this.", token_logprob=-0.01)
    async with running_gateway(
        two_models(teacher.url, student.url, policy=LEARNED | {"decide_after": "sentence"})
    ) as gw:
        estimator = Estimator(0.9, after="answer")
        promote(gw, estimator)
        assert (await gw.ask("chat")).headers["x-router-model"] == "student"  # by the log-probabilities
        assert (await gw.row()).pv.endswith("+none")
    assert estimator.seen == []


async def test_a_gate_that_needs_no_entropies_asks_for_none(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    policy = {"kind": "cascade", "escalate_at": 1.0}
    async with running_gateway(two_models(teacher.url, student.url, policy=policy)) as gw:
        await gw.ask("chat")
        await gw.ask("completions")
    chat, completion = (request.json for request in student.requests)
    assert chat["logprobs"] is True and "top_logprobs" not in chat
    assert completion["logprobs"] == 1


@BOTH
@pytest.mark.parametrize("arm", ["teacher", "student"])
async def test_an_audited_student_is_recorded_with_its_signals(
    teacher: ScriptedUpstream, student: ScriptedUpstream, arm: str, stream: bool
) -> None:
    student.default = Reply("from the student", token_logprob=[-0.5, -1.0, -1.5])
    config = two_models(teacher.url, student.url, policy={"kind": "fixed", "model": arm}, route=AUDIT)
    async with running_gateway(config) as gw:
        await gw.ask("chat", stream=stream)
        (found,) = [PairRecord.model_validate(record) for record in await gw.pairs()]
    signals = found.student.signals
    assert signals is not None and found.student.mean_logprob == signals.mean == -1.0
    assert (signals.tokens, signals.minimum, signals.first) == (3, -1.5, -1.0)
    assert signals.entropy_mean is not None and signals.entropy_max is not None
    assert found.teacher.signals is None
    again = recorded(found.student)
    assert again.signals is not None and again.signals.entropy_mean == signals.entropy_mean
    assert (again.text, again.finish_reason, again.complete) == ("from the student", "stop", True)


def test_a_record_of_an_earlier_version_still_loads_and_knows_its_mean() -> None:
    old = pair(1, score=-0.7).model_dump(mode="json")
    for name in ("signals", "agreement", "samples", "checks"):
        del old["student"][name]
    answer = recorded(PairRecord.model_validate(old).student)
    assert answer.signals is not None and answer.signals.mean == -0.7
    assert (answer.agreement, dict(answer.checks)) == (None, {})


def test_a_recorded_answer_keeps_what_a_gate_looks_at() -> None:
    record = ArmAnswer(
        model="student",
        text="",
        tool_calls=[{"name": "look", "arguments": "{}"}],
        refusal="no",
        agreement=0.5,
        samples=2,
        checks={"mine": False},
    )
    answer = recorded(record)
    assert (answer.tool_calls, answer.refusal, answer.samples) == ((("look", "{}"),), "no", 2)
    assert (answer.agreement, dict(answer.checks), answer.signals) == (0.5, {"mine": False}, None)


async def test_a_stream_that_ends_without_done_was_read_to_its_end(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = Reply("from the student", token_logprob=-0.01, wire=Wire(done=False))
    async with running_gateway(two_models(teacher.url, student.url, policy=LEARNED)) as gw:
        estimator = Estimator(0.1)
        promote(gw, estimator)
        assert (await gw.ask("chat", stream=True)).headers["x-router-model"] == "student"
    ((_, seen),) = estimator.seen
    assert seen is not None and (seen.text, seen.complete) == ("from the student", True)


@BOTH
async def test_a_tool_call_is_seen_whole(teacher: ScriptedUpstream, student: ScriptedUpstream, stream: bool) -> None:
    student.default = Reply("", tool_calls=(ToolCall("look", '{"at": "this and that"}'),))
    config = two_models(teacher.url, student.url, policy=LEARNED, models={"supports": ["logprobs", "tools"]})
    async with running_gateway(config) as gw:
        estimator = Estimator(0.1)
        promote(gw, estimator)
        tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
        assert (await gw.ask("chat", stream=stream, tools=[tool])).headers["x-router-model"] == "student"
    ((query, seen),) = estimator.seen
    assert query.tools == 1
    assert seen is not None and seen.tool_calls == (("look", '{"at": "this and that"}'),)
