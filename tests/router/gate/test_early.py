"""How long a stream is held back, and that a gate says the same of a stream and of a whole answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.gateway import ask, running_gateway, two_models
from tests.support.raw_client import RawClient
from tests.support.scripted import Fault, Reply, ScriptedUpstream, Status, Usage

BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
ENDPOINTS = pytest.mark.parametrize("endpoint", ["chat", "completions", "responses"])
TEXT = "I am sure of that. But not of this at all."
LOGPROBS = [-0.1, -0.1, -0.1, -0.1, -0.2, *([-9.0] * 6)]
AFTER: dict[str, tuple[dict[str, Any], float]] = {
    "tokens": ({"score_tokens": 6}, -9.6 / 6),
    "sentence": ({"decide_after": "sentence"}, -0.12),
    "a short sentence": ({"decide_after": "sentence", "score_tokens": 3}, -0.1),
    "answer": ({"decide_after": "answer", "score_tokens": 6}, -9.6 / 6),
}


def cascade(**block: Any) -> dict[str, Any]:
    return {"kind": "cascade", "escalate_at": 0.5, **block}


@BOTH
@ENDPOINTS
@pytest.mark.parametrize(("block", "score"), AFTER.values(), ids=AFTER)
async def test_the_same_beginning_counts_in_a_stream_and_in_a_whole_answer(
    teacher: ScriptedUpstream,
    student: ScriptedUpstream,
    endpoint: str,
    stream: bool,
    block: dict[str, Any],
    score: float,
) -> None:
    student.default = Reply(TEXT, token_logprob=LOGPROBS, usage=Usage(20, 11))
    async with running_gateway(two_models(teacher.url, student.url, policy=cascade(**block))) as gw:
        answer = await gw.ask(endpoint, stream=stream)
        row = await gw.row()
        assert row.s is not None and row.s[0] == pytest.approx(score, abs=1e-4)
        assert answer.headers["x-router-model"] == ("student" if score > -0.5 else "teacher")
        assert b'"logprob":' not in answer.content and b"token_logprobs" not in answer.content


async def test_a_stream_is_released_after_its_first_sentence(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = Reply(TEXT, token_logprob=LOGPROBS, fault=Fault(7, "hang"))
    config = two_models(teacher.url, student.url, policy=cascade(decide_after="sentence"))
    async with running_gateway(config) as gw, RawClient(gw.port) as client:
        await client.post("/v1/chat/completions", ask("chat", stream=True))
        received = await client.read_until(b"But")
        assert b"sure" in received and b"this" not in received


async def test_a_stream_that_is_held_to_its_end_is_delivered_whole(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = Reply(TEXT, token_logprob=-0.01, usage=Usage(20, 11))
    config = two_models(teacher.url, student.url, policy=cascade(decide_after="answer"))
    async with running_gateway(config) as gw:
        answer = await gw.ask("chat", stream=True)
        assert answer.content.count(b"data: ") == 14  # role, eleven words, the end, [DONE]
        row = await gw.row()
        assert (row.r, row.c) == ("cascade", {"serve": 20 * 200 + 11 * 800})


async def test_a_stream_that_breaks_while_it_is_held_is_the_students_failure(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = Reply(TEXT, token_logprob=-0.01, fault=Fault(5, "close"))
    config = two_models(teacher.url, student.url, policy=cascade(decide_after="answer"))
    async with running_gateway(config) as gw:
        answer = await gw.ask("chat", stream=True)
        assert answer.headers["x-router-reason"] == "fallback:student"
        assert b"teacher" in answer.content and b"sure" not in answer.content


@BOTH
async def test_the_worst_choice_decides_and_every_choice_is_waited_for(
    teacher: ScriptedUpstream, student: ScriptedUpstream, stream: bool
) -> None:
    student.default = Reply(TEXT, token_logprob=LOGPROBS)
    policy = cascade(decide_after="sentence")
    config = two_models(teacher.url, student.url, policy=policy, models={"supports": ["n", "logprobs"]})
    async with running_gateway(config) as gw:
        assert (await gw.ask("chat", n=3, stream=stream)).headers["x-router-reason"] == "cascade"


def two_choices(stream: bool) -> Status:
    """A sure answer, and one that is not."""
    choices = [
        {
            "index": index,
            "delta" if stream else "message": {"role": "assistant", "content": "word"},
            "logprobs": {"content": [{"token": "word", "logprob": logprob}]},
            "finish_reason": "stop",
        }
        for index, logprob in enumerate((-0.01, -3.0))
    ]
    usage = {"prompt_tokens": 20, "completion_tokens": 2, "total_tokens": 22}
    if not stream:
        return Status(200, {"object": "chat.completion", "choices": choices, "usage": usage})
    events = [{"choices": [choice]} for choice in choices]
    lines = [f"data: {json.dumps(event)}\n\n" for event in [*events, {"choices": [], "usage": usage}]]
    return Status(200, "".join([*lines, "data: [DONE]\n\n"]).encode(), content_type="text/event-stream")


@BOTH
@pytest.mark.parametrize("block", [{}, {"decide_after": "answer"}, {"decide_after": "sentence"}], ids=str)
async def test_of_two_choices_the_one_that_is_unsure_counts(
    teacher: ScriptedUpstream, student: ScriptedUpstream, block: dict[str, Any], stream: bool
) -> None:
    student.default = two_choices(stream)
    policy, models = cascade(**block), {"supports": ["n", "logprobs"]}
    async with running_gateway(two_models(teacher.url, student.url, policy=policy, models=models)) as gw:
        assert (await gw.ask("chat", n=2, stream=stream)).headers["x-router-reason"] == "escalated"
        assert (await gw.row()).s == (-3.0, 0.9502)
