"""What goes upstream and what comes back, byte for byte, on a scripted upstream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response
from pydantic import BaseModel

from tests.support.gateway import HI, PATHS, PROMPTS, RunningGateway, ask, running_gateway, two_models
from tests.support.scripted import Reply, ScriptedUpstream, Status, ToolCall, Usage, Wire

ENDPOINTS = ("chat", "completions", "responses", "embeddings")
STREAMS = ("chat", "completions", "responses")
NATIVE = {"model": "scripted", "supports": ["logprobs", "responses", "tools", "json_schema", "images", "n"]}
WIRES = {
    "crlf": Wire(line_end="\r\n"),
    "cr": Wire(line_end="\r"),
    "comments": Wire(comments=True),
    "several lines": Wire(multi_line=True),
    "no done": Wire(done=False),
    "single bytes": Wire(cut=1),
    "split anywhere": Wire(cut=7, comments=True, line_end="\r\n"),
}


@pytest.fixture
async def gw(teacher: ScriptedUpstream, student: ScriptedUpstream) -> AsyncIterator[RunningGateway]:
    """Everything to the teacher, which declares the Responses API."""
    config = two_models(teacher.url, student.url, policy={"kind": "fixed", "model": "teacher"}, models=NATIVE)
    config["embeddings"] = {"model": "teacher"}
    async with running_gateway(config) as gateway:
        yield gateway


def data_of(stream: bytes) -> list[Any]:
    """The JSON of a stream's events."""
    lines = [line.removeprefix(b"data: ") for line in stream.splitlines() if line.startswith(b"data: ")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_body_in_which_nothing_changes_is_forwarded_byte_for_byte(
    teacher: ScriptedUpstream, student: ScriptedUpstream, endpoint: str
) -> None:
    prompt = json.dumps(PROMPTS[endpoint])[1:-1]
    body = f'{{ "model" :\t"teacher",{prompt} , "temperature":1.0e0,\n"vendor":{{"a":[1, 2.50]}}}}'.encode()
    config = two_models(teacher.url, student.url, models={"supports": ["responses"]}, embeddings={"model": "teacher"})
    async with running_gateway(config) as gw:
        assert (await gw.post(PATHS[endpoint], body)).status_code == 200
    assert teacher.requests[0].body == body


async def test_where_something_changes_the_other_values_keep_their_bytes(
    gw: RunningGateway, teacher: ScriptedUpstream
) -> None:
    values = (b'[ {"role":"user","content":"\\u00e9"}]', b"1.0e0", b'{"a":[1, 2.50]}')
    body = b'{"model":"auto", "messages":%b,"temperature": %b, "vendor":%b}' % values
    assert (await gw.post(PATHS["chat"], body)).status_code == 200
    sent = teacher.requests[0]
    assert sent.json["model"] == "scripted"
    assert all(value in sent.body for value in values)


async def test_a_body_that_names_two_models_reaches_the_upstream_with_the_one_that_was_checked(
    gw: RunningGateway, teacher: ScriptedUpstream
) -> None:
    body = b'{"model":"other","input":"x","model":"scripted"}'
    assert (await gw.post(PATHS["embeddings"], body)).status_code == 200
    assert b"other" not in teacher.requests[0].body


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_an_answer_comes_back_byte_for_byte(gw: RunningGateway, teacher: ScriptedUpstream, endpoint: str) -> None:
    body = {"chat": "choices", "completions": "choices", "responses": "output", "embeddings": "data"}[endpoint]
    answer = b'{ "vendor" : {"x":1.50},\n"%b":[ {} ] }' % body.encode()
    teacher.script(Status(200, answer))
    response = await gw.ask(endpoint, "scripted" if endpoint == "embeddings" else "teacher")
    assert response.content == answer
    assert response.headers["content-type"] == "application/json"


async def test_unknown_fields_of_a_stream_come_back(gw: RunningGateway, teacher: ScriptedUpstream) -> None:
    teacher.script(Reply("a b", extra={"vendor": {"a": 1}}, message_extra={"mood": "fine"}))
    chunks = data_of((await gw.ask("chat", stream=True)).content)
    assert all(chunk["vendor"] == {"a": 1} for chunk in chunks)
    assert chunks[0]["choices"][0]["delta"]["mood"] == "fine"


async def test_images_reach_the_model_and_reasoning_the_client(gw: RunningGateway, teacher: ScriptedUpstream) -> None:
    teacher.default = Reply("a cat", reasoning="whiskers first")
    picture: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "what?"}, picture]}]
    answer = await gw.openai.chat.completions.create(model="auto", messages=messages, reasoning_effort="low")
    assert answer.choices[0].message.to_dict()["reasoning_content"] == "whiskers first"
    assert teacher.requests[0].json["messages"] == messages
    assert teacher.requests[0].json["reasoning_effort"] == "low"
    stream = await gw.openai.chat.completions.create(model="auto", messages=messages, stream=True)
    deltas = [chunk.choices[0].delta.to_dict().get("reasoning_content", "") async for chunk in stream]
    assert "".join(map(str, deltas)) == "whiskers first"


class Person(BaseModel):
    name: str
    age: int


async def test_parse_gives_an_object_of_the_clients_own_class(gw: RunningGateway, teacher: ScriptedUpstream) -> None:
    teacher.default = Reply('{"name": "bob", "age": 42}')
    chat = await gw.openai.chat.completions.parse(model="auto", messages=HI, response_format=Person)
    assert chat.choices[0].message.parsed == Person(name="bob", age=42)
    assert teacher.requests[0].json["response_format"]["type"] == "json_schema"
    response = await gw.openai.responses.parse(model="auto", input="who?", text_format=Person)
    assert response.output_parsed == Person(name="bob", age=42)


@pytest.mark.parametrize("native", [True, False])
async def test_tool_calls_stream_in_pieces_through_both_apis(
    teacher: ScriptedUpstream, student: ScriptedUpstream, native: bool
) -> None:
    teacher.default = Reply("", tool_calls=[ToolCall("look", '{"at": "this and that"}')])
    tool: Any = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}
    models = NATIVE if native else {"supports": ["tools"]}
    config = two_models(teacher.url, student.url, policy={"kind": "fixed", "model": "teacher"}, models=models)
    async with running_gateway(config) as gw:
        async with gw.openai.chat.completions.stream(
            model="auto", messages=HI, tools=[{"type": "function", "function": {"name": "look", "parameters": {}}}]
        ) as stream:
            calls = (await stream.get_final_completion()).choices[0].message.tool_calls
        assert calls is not None
        assert (calls[0].function.name, calls[0].function.arguments) == ("look", '{"at": "this and that"}')
        async with gw.openai.responses.stream(model="auto", input="x", tools=[tool]) as events:
            final = await events.get_final_response()
        Response.model_validate(final.model_dump(), strict=True)
        (call,) = [item for item in final.output if item.type == "function_call"]
        assert call.arguments == '{"at": "this and that"}'
    assert {request.path for request in teacher.requests} == (
        {"/v1/chat/completions", "/v1/responses"} if native else {"/v1/chat/completions"}
    )


@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
@pytest.mark.parametrize("endpoint", ["chat", "completions"])
@pytest.mark.parametrize("policy", ["fixed", "cascade"])
async def test_any_lawful_stream_is_understood(
    teacher: ScriptedUpstream, student: ScriptedUpstream, wire: Wire, endpoint: str, policy: str
) -> None:
    student.default = Reply("one two three", usage=Usage(5, 3), wire=wire)
    kind: Any = {"kind": "cascade", "escalate_at": 0.9}
    config = two_models(
        teacher.url, student.url, policy=kind if policy == "cascade" else {"kind": "fixed", "model": "student"}
    )
    async with running_gateway(config) as gw:
        if endpoint == "chat":
            chat = [c async for c in await gw.openai.chat.completions.create(model="auto", messages=HI, stream=True)]
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chat) == "one two three"
            for chunk in chat:
                ChatCompletionChunk.model_validate(chunk.model_dump(), strict=True)
        else:
            text = [c async for c in await gw.openai.completions.create(model="auto", prompt="x", stream=True)]
            assert "".join(chunk.choices[0].text for chunk in text) == "one two three"
        row = await gw.row()
        assert (row.o, row.tok, row.e, row.m) == ("ok", (5, 0, 3, 0), 0, "student")
    assert teacher.requests == []


async def test_a_stream_without_done_ends_with_done_all_the_same(gw: RunningGateway, teacher: ScriptedUpstream) -> None:
    teacher.script(Reply("x", wire=Wire(done=False)))
    assert (await gw.ask("chat", stream=True)).content.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("usage_chunk", [True, None])
async def test_usage_that_the_client_did_not_ask_for_is_taken_out(
    gw: RunningGateway, teacher: ScriptedUpstream, usage_chunk: bool | None
) -> None:
    teacher.default = Reply("a b c", usage_chunk=usage_chunk)
    content = (await gw.ask("chat", stream=True)).content
    assert b"usage" not in content
    assert teacher.requests[0].json["stream_options"] == {"include_usage": True}
    asked = (await gw.ask("chat", stream=True, stream_options={"include_usage": True, "x": 1})).content
    assert data_of(asked)[-1]["usage"]["completion_tokens"] == 3
    assert teacher.requests[1].json["stream_options"] == {"include_usage": True, "x": 1}


async def test_a_null_usage_in_every_chunk_goes_with_the_rest(gw: RunningGateway, teacher: ScriptedUpstream) -> None:
    """OpenAI sends `usage: null` in each chunk of a stream with usage."""
    teacher.script(Reply("a b", extra={"usage": None, "vendor": 1}))
    chunks = data_of((await gw.ask("chat", stream=True)).content)
    assert len(chunks) == 4
    assert all("usage" not in chunk and chunk["vendor"] == 1 for chunk in chunks)


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("endpoint", ["chat", "completions"])
async def test_log_probabilities_are_shown_only_to_who_asked(
    teacher: ScriptedUpstream, student: ScriptedUpstream, asked: bool, stream: bool, endpoint: str
) -> None:
    more: dict[str, Any] = {"logprobs": True if endpoint == "chat" else 1} if asked else {}
    async with running_gateway(two_models(teacher.url, student.url, policy={"kind": "cascade"})) as gw:
        response = await gw.ask(endpoint, "auto", stream=stream, **more)
        assert student.requests[0].json["logprobs"]
        chunks = data_of(response.content) if stream else [response.json()]
        shown = [choice.get("logprobs") for chunk in chunks for choice in chunk["choices"]]
        assert any(shown) == asked


@pytest.mark.parametrize("stream", [False, True])
async def test_answers_are_what_openais_types_say(gw: RunningGateway, teacher: ScriptedUpstream, stream: bool) -> None:
    teacher.default = Reply("some words", refusal="", usage=Usage(3, 2, 1, 1))
    more: dict[str, Any] = {"stream_options": {"include_usage": True}} if stream else {}
    types: dict[str, Any] = {"chat": ChatCompletionChunk if stream else ChatCompletion, "completions": Completion}
    for endpoint, kind in types.items():
        response = await gw.ask(endpoint, stream=stream, **more)
        for answer in data_of(response.content) if stream else [response.json()]:
            for choice in answer["choices"] if endpoint == "completions" else ():
                choice["finish_reason"] = choice["finish_reason"] or "stop"  # the type wants one in every chunk
            kind.model_validate_json(json.dumps(answer), strict=True)
    row = (await gw.rows(2))[0]
    assert row.tok == (3, 1, 2, 1)
    assert row.c == {"serve": 2 * 2_000 + 200 + 2 * 8_000}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_native_responses_api_is_passed_through(
    gw: RunningGateway, teacher: ScriptedUpstream, stream: bool
) -> None:
    if stream:
        async with gw.openai.responses.stream(model="auto", input="hi") as events:
            kinds = [event.type async for event in events]
            final = await events.get_final_response()
        assert kinds[-1] == "response.completed"
    else:
        final = await gw.openai.responses.parse(model="auto", input="hi")
    Response.model_validate(final.model_dump(), strict=True)
    assert final.output_text == "from the teacher"
    assert teacher.requests[0].path == "/v1/responses"
    row = await gw.row()
    assert (row.o, row.tok, row.e) == ("ok", (10, 0, 3, 0), 0)


async def test_a_native_response_may_talk_about_its_own_events(gw: RunningGateway, teacher: ScriptedUpstream) -> None:
    teacher.default = Reply('say "response.completed" now')
    async with gw.openai.responses.stream(
        model="auto", input='explain "type":"response.completed"', instructions="response.failed"
    ) as events:
        final = await events.get_final_response()
    assert final.output_text == 'say "response.completed" now'
    assert (await gw.row()).o == "ok"


async def test_headers_say_what_was_decided_and_what_it_cost(gw: RunningGateway) -> None:
    response = await gw.post(PATHS["chat"], ask("chat"), x_request_id="mine-1", traceparent="00-ab-cd-01")
    headers = response.headers
    assert headers["x-request-id"] == "mine-1"
    assert (headers["x-router-model"], headers["x-router-reason"], headers["x-router-retries"]) == (
        "teacher",
        "fixed",
        "0",
    )
    assert headers["x-router-cost-usd"] == "0.000044000"
    row = await gw.row()
    assert headers["x-router-decision-id"] == row.id
    assert row.c == {"serve": 44_000}


async def test_request_ids_and_traces_are_passed_on_and_nothing_else(
    gw: RunningGateway, teacher: ScriptedUpstream
) -> None:
    await gw.post(
        PATHS["chat"], ask("chat"), x_request_id="mine-1", traceparent="00-ab-cd-01", authorization="Bearer secret"
    )
    sent = teacher.requests[0].headers
    assert (sent["x-request-id"], sent["traceparent"]) == ("mine-1", "00-ab-cd-01")
    assert "authorization" not in sent
    fresh = await gw.post(PATHS["chat"], ask("chat"), x_request_id="not fit\tfor a header")
    assert fresh.headers["x-request-id"].startswith("req_")
    assert teacher.requests[1].headers["x-request-id"] == fresh.headers["x-request-id"]


async def test_a_stream_tells_its_cost_in_a_comment_to_who_asks(gw: RunningGateway) -> None:
    plain = (await gw.ask("chat", stream=True)).content
    assert b"x-router-cost-usd" not in plain
    told = await gw.post(PATHS["chat"], ask("chat", stream=True), x_router_stream_cost="1")
    assert told.content.endswith(b": x-router-cost-usd 0.000044000\n\ndata: [DONE]\n\n")


async def test_the_models_key_goes_upstream(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    config = two_models(teacher.url, student.url, models={"api_key_env": "UPSTREAM_KEY"})
    async with running_gateway(config, environ={"UPSTREAM_KEY": "sk-upstream"}) as gw:
        await gw.post(PATHS["chat"], ask("chat"), authorization="Bearer mine")
    assert student.requests[0].headers["authorization"] == "Bearer sk-upstream"
