"""Everything a broken upstream can do: retries and fallback before the first byte, an error event after it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.gateway import eventually, running_gateway, two_models
from tests.support.scripted import (
    CLOSE,
    CLOSE_AFTER_HEAD,
    GARBAGE,
    HANG,
    HANG_AFTER_HEAD,
    Fault,
    Raw,
    Reply,
    ScriptedUpstream,
    Status,
    Step,
    Usage,
    Wire,
    failing,
    oversized_header,
    truncated_body,
    truncated_chunk,
)

POLICIES = {"fixed": {"kind": "fixed", "model": "student"}, "cascade": {"kind": "cascade"}}
STREAMS = ("chat", "completions", "responses")
IMPATIENT = {"timeouts": {"connect_s": 5, "first_token_s": 0.1, "idle_s": 0.1, "total_s": 5}}
EVENT_STREAM = "content-type: text/event-stream\r\n"
WHOLE: dict[str, Step] = {
    "close": CLOSE,
    "reset": Raw(then="reset"),
    "garbage": GARBAGE,
    "500": failing(500, "oops"),
    "503": failing(503, "starting"),
    "html": Status(200, b"<html>", content_type="text/html"),
    "invalid utf-8": Status(200, b'{"choices": "\xff'),
    "an array": Status(200, b"[1, 2]"),
    "a number": Status(200, b"5"),
    "nothing": Status(200, b""),
    "no choices": Status(200, {"object": "chat.completion"}),
    "null choices": Status(200, {"choices": None, "output": None, "data": None}),
    "deep": Status(200, b'{"choices":' + b"[" * 100_000),
    "204": Status(204),
    "truncated body": truncated_body(),
    "oversized header": oversized_header(),
    "a stream instead": Status(200, b"data: {}\n\n", content_type="text/event-stream"),
    "hang": HANG,
}
BEFORE: dict[str, Step] = {
    "close": CLOSE,
    "reset": Raw(then="reset"),
    "garbage": GARBAGE,
    "500": failing(500, "oops"),
    "no stream": Status(200, {"choices": []}),
    "close after head": CLOSE_AFTER_HEAD,
    "hang": HANG,
    "hang after head": HANG_AFTER_HEAD,
    "truncated chunk": truncated_chunk(),
    "first event is an error": Reply("x", fault=Fault(0, "error")),
    "first event is garbage": Reply("x", fault=Fault(0, "garbage")),
    "comments, then an error": Reply("x", fault=Fault(0, "error"), wire=Wire(comments=True)),
    "an event without end": Raw(
        f"HTTP/1.1 200 OK\r\n{EVENT_STREAM}\r\n".encode() + b"data: " + b"x" * (9 * 1024 * 1024)
    ),
}
AFTER: dict[str, Fault] = {
    "closes": Fault(2, "close"),
    "resets": Fault(2, "reset"),
    "hangs": Fault(2, "hang"),
    "sends garbage": Fault(2, "garbage"),
    "sends an error": Fault(2, "error"),
}


def said(endpoint: str, body: Any) -> str:
    if endpoint == "responses":
        return str(body["output"][0]["content"][0]["text"])
    choice = body["choices"][0]
    return str(choice["text"] if endpoint == "completions" else choice["message"]["content"])


def events_of(content: bytes) -> list[Any]:
    lines = [line.removeprefix(b"data: ") for line in content.splitlines() if line.startswith(b"data: ")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


@pytest.mark.parametrize("fault", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("native", [False, True], ids=["translated", "native"])
async def test_a_broken_answer_is_replaced_by_the_teachers(
    teacher: ScriptedUpstream, student: ScriptedUpstream, fault: Step, native: bool
) -> None:
    models: dict[str, Any] = {"timeouts": {"total_s": 0.2}} if fault is HANG else {}
    models |= {"supports": ["responses"]} if native else {}
    config = two_models(teacher.url, student.url, models=models)
    async with running_gateway(config) as gw:
        for endpoint in STREAMS:
            student.script(fault)
            response = await gw.ask(endpoint)
            assert response.status_code == 200
            assert said(endpoint, response.json()) == "from the teacher"
            assert response.headers["x-router-reason"] == "fallback:student"
        rows = await gw.rows(3)
        assert all((row.o, row.fb, row.m) == ("ok", 1, "teacher") for row in rows)
        assert all(row.c["serve"] == 44_000 for row in rows)
        assert gw.metric("fallbacks_total", model="teacher") == 3
    await no_connections(student)


@pytest.mark.parametrize("fault", WHOLE.values(), ids=WHOLE)
async def test_a_broken_answer_without_fallback_is_an_openai_error(
    teacher: ScriptedUpstream, student: ScriptedUpstream, fault: Step
) -> None:
    models = {"timeouts": {"total_s": 0.2}} if fault is HANG else {}
    config = two_models(
        teacher.url,
        student.url,
        models=models,
        embeddings={"model": "student"},
        route={"fallback": {"student": "error"}},
    )
    async with running_gateway(config) as gw:
        for endpoint in (*STREAMS, "embeddings"):
            student.script(fault)
            response = await gw.ask(endpoint, "student" if endpoint == "embeddings" else "auto")
            assert response.status_code in (502, 503, 504)
            assert response.json()["error"]["type"] == "upstream_error"
        assert [row.o for row in await gw.rows(4)] == ["failed"] * 4
    assert teacher.requests == []


@pytest.mark.parametrize("fault", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("policy", ["fixed", "cascade"])
async def test_a_stream_that_breaks_before_its_first_event_is_replaced_by_the_teachers(
    teacher: ScriptedUpstream, student: ScriptedUpstream, fault: Step, policy: str
) -> None:
    kind = {"kind": "cascade"} if policy == "cascade" else {"kind": "fixed", "model": "student"}
    models = IMPATIENT if fault in (HANG, HANG_AFTER_HEAD) else {}
    async with running_gateway(two_models(teacher.url, student.url, policy=kind, models=models)) as gw:
        for endpoint in STREAMS:
            student.script(fault)
            response = await gw.ask(endpoint, stream=True)
            assert response.status_code == 200
            assert b"teacher" in response.content
            assert b"error" not in response.content.replace(b'"error":null', b"")
            assert response.headers["x-router-reason"] == "fallback:student"
        assert all((row.o, row.fb, row.m) == ("ok", 1, "teacher") for row in await gw.rows(3))
    await no_connections(student)


@pytest.mark.parametrize("fault", AFTER.values(), ids=AFTER)
@pytest.mark.parametrize(
    ("endpoint", "native"), [("chat", False), ("completions", False), ("responses", False), ("responses", True)]
)
async def test_a_stream_that_breaks_later_ends_with_an_error_event(
    teacher: ScriptedUpstream, student: ScriptedUpstream, fault: Fault, endpoint: str, native: bool
) -> None:
    student.default = Reply("one two three four five", fault=fault, gap_s=0.02)
    models: dict[str, Any] = IMPATIENT if fault.kind == "hang" else {}
    models = models | ({"supports": ["responses"]} if native else {})
    async with running_gateway(two_models(teacher.url, student.url, models=models)) as gw:
        response = await gw.ask(endpoint, stream=True)
        assert response.status_code == 200
        assert b"[DONE]" not in response.content
        last = events_of(response.content)[-1]
        message = last["message"] if endpoint == "responses" else last["error"]["message"]
        assert "student" in message
        assert "127.0.0.1" not in message
        if endpoint == "responses":
            assert last["type"] == "error"
        row = await gw.row()
        assert (row.o, row.st, row.e) == ("interrupted", 200, 1)
        assert row.c["serve"] > 0
    assert teacher.requests == []
    await no_connections(student)


@pytest.mark.parametrize("kind", ["close", "reset", "hang", "garbage", "error"])
async def test_a_held_stream_that_breaks_is_replaced_however_far_it_had_come(
    teacher: ScriptedUpstream, student: ScriptedUpstream, kind: Any
) -> None:
    student.default = Reply("one two three four", fault=Fault(3, kind))
    models = IMPATIENT if kind == "hang" else {}
    async with running_gateway(two_models(teacher.url, student.url, policy={"kind": "cascade"}, models=models)) as gw:
        response = await gw.ask("chat", stream=True)
        assert b"one" not in response.content
        assert b"teacher" in response.content
        row = await gw.row()
        assert (row.o, row.fb, row.m) == ("ok", 1, "teacher")
        assert set(row.c) == {"retry", "serve"}


@pytest.mark.parametrize("stream", [False, True])
async def test_the_teacher_falls_back_to_the_student_where_that_is_allowed(
    teacher: ScriptedUpstream, student: ScriptedUpstream, stream: bool
) -> None:
    teacher.default = CLOSE
    policy = {"kind": "fixed", "model": "teacher"}
    route = {"fallback": {"teacher": "student"}}
    async with running_gateway(two_models(teacher.url, student.url, policy=policy, route=route)) as gw:
        assert (await gw.ask("chat", stream=stream)).headers["x-router-reason"] == "fallback:teacher"
    async with running_gateway(two_models(teacher.url, student.url, policy=policy)) as gw:
        assert (await gw.ask("chat", stream=stream)).status_code == 502


@pytest.mark.parametrize("stream", [False, True])
async def test_an_overloaded_student_is_replaced(
    teacher: ScriptedUpstream, student: ScriptedUpstream, stream: bool
) -> None:
    student.default = failing(429, "slow down")
    for policy in ({"kind": "fixed", "model": "student"}, {"kind": "cascade"}):
        async with running_gateway(two_models(teacher.url, student.url, policy=policy)) as gw:
            assert (await gw.ask("chat", stream=stream)).headers["x-router-reason"] == "fallback:student"
    assert len(student.requests) == len(teacher.requests) == 2


@pytest.mark.parametrize(
    "policy", [{"kind": "fixed", "model": "student"}, {"kind": "cascade"}], ids=["fixed", "cascade"]
)
async def test_nobody_is_asked_twice_when_both_fail(
    teacher: ScriptedUpstream, student: ScriptedUpstream, policy: Any
) -> None:
    teacher.default = failing(500, "oops")
    for refusal in (failing(429, "slow down"), failing(500, "oops")):
        student.script(refusal)
        async with running_gateway(two_models(teacher.url, student.url, policy=policy)) as gw:
            assert (await gw.ask("chat")).status_code == 502
    assert (len(student.requests), len(teacher.requests)) == (2, 2)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", [CLOSE, failing(503, "starting"), failing(500, "oops")], ids=["close", "503", "500"])
async def test_a_failed_try_is_repeated_before_the_first_byte(
    teacher: ScriptedUpstream, student: ScriptedUpstream, fault: Step, stream: bool
) -> None:
    student.script(fault, fault)
    async with running_gateway(two_models(teacher.url, student.url, models={"retries": 2})) as gw:
        response = await gw.ask("chat", stream=stream)
        assert (response.headers["x-router-retries"], response.headers["x-router-model"]) == ("2", "student")
        row = await gw.row()
        assert (row.o, row.n, row.fb) == ("ok", 2, 0)
        assert gw.metric("upstream_retries_total") == 2
    assert len(student.requests) == 3


async def test_nothing_is_repeated_after_the_first_byte(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    student.script(Reply("a b c", fault=Fault(2, "close")))
    async with running_gateway(two_models(teacher.url, student.url, models={"retries": 2})) as gw:
        await gw.ask("chat", stream=True)
    assert (len(student.requests), len(teacher.requests)) == (1, 0)


@pytest.mark.parametrize("usage", [None, Usage(0, 0)], ids=["missing", "zero"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("endpoint", ["chat", "completions"])
async def test_an_answer_without_usage_is_estimated_marked_and_counted(
    teacher: ScriptedUpstream, student: ScriptedUpstream, endpoint: str, stream: bool, usage: Usage | None
) -> None:
    student.default = Reply("one two three", usage=usage)
    async with running_gateway(two_models(teacher.url, student.url)) as gw:
        response = await gw.ask(endpoint, stream=stream)
        if stream:
            assert b"usage" not in response.content
        row = await gw.row()
        assert (row.o, row.e) == ("ok", 1)
        assert row.c["serve"] > 0
        assert gw.metric("usage_missing_total", model="student") == 1


async def test_hostile_choices_of_a_held_stream_do_no_harm(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    """Well-formed events whose fields have every wrong type."""
    wrong: tuple[Any, ...] = (
        1,
        "x",
        [1],
        {"content": 5},
        {"tool_calls": 5},
        {"tool_calls": [{"function": {"name": 5}}]},
    )
    choices = [
        {"index": index, "delta": value, "logprobs": value, "finish_reason": value} for index, value in enumerate(wrong)
    ]
    events: list[dict[str, Any]] = [{"choices": [choice]} for choice in choices]
    events += [{"choices": [{"logprobs": {"content": [{"logprob": value}]}}]} for value in ("x", None, -1e308, [1])]
    events += [{"choices": [], "usage": value} for value in (1, "x", {"prompt_tokens": "5"}, {"prompt_tokens": -5})]
    body = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events) + b"data: [DONE]\n\n"
    student.default = Status(200, body, content_type="text/event-stream")
    for policy in ({"kind": "cascade"}, {"kind": "fixed", "model": "student"}):
        config = two_models(teacher.url, student.url, policy=policy, route={"audit": {"rate": 1.0}})
        async with running_gateway(config) as gw:
            for endpoint in STREAMS:
                assert (await gw.ask(endpoint, stream=True)).status_code == 200
            assert gw.metric("records_dropped_total", reason="audit_error") == 0


async def no_connections(upstream: ScriptedUpstream) -> None:
    await eventually(lambda: upstream.open_connections == 0, "an upstream without connections")
