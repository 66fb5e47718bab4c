"""The scripted upstream does what its steps say, seen by OpenAI's client or by a bare socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.support.scripted import (
    CLOSE,
    CLOSE_AFTER_HEAD,
    GARBAGE,
    HANG,
    HANG_AFTER_HEAD,
    Exchange,
    Fault,
    Reply,
    ScriptedUpstream,
    Status,
    ToolCall,
    Usage,
    Wire,
    failing,
    oversized_header,
    truncated_body,
    truncated_chunk,
)

HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def up() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture
async def client(up: ScriptedUpstream) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=up.url, api_key="k", max_retries=0) as openai_client:
        yield openai_client


async def connect(up: ScriptedUpstream) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", up.port, limit=1 << 22)


def post(body: dict[str, Any] | None = None, path: str = "/v1/chat/completions") -> bytes:
    payload = json.dumps(body or {"messages": []}).encode()
    return f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(payload)}\r\n\r\n".encode() + payload


async def answer_to(up: ScriptedUpstream, request: bytes) -> bytes:
    """Everything that comes back on a fresh connection until it closes; a reset is marked."""
    reader, writer = await connect(up)
    writer.write(request)
    received = b""
    try:
        while data := await reader.read(1 << 16):
            received += data
    except ConnectionResetError:
        received += b"<reset>"
    writer.close()
    return received


async def test_a_completion_with_everything(up: ScriptedUpstream, client: AsyncOpenAI) -> None:
    usage = Usage(prompt_tokens=9, completion_tokens=7, cached_tokens=4, reasoning_tokens=2)
    calls = [ToolCall("f", '{"a": 1}'), ToolCall("g")]
    up.script(Reply("hi there", reasoning="hm", tool_calls=calls, usage=usage, extra={"vendor": {"a": 1}}, model="big"))
    answer = await client.chat.completions.create(model="m", messages=HI, logprobs=True, top_logprobs=2, n=2)
    first = answer.choices[1]
    assert first.message.content == "hi there"
    assert first.message.to_dict()["reasoning_content"] == "hm"
    assert [call.id for call in first.message.tool_calls or []] == ["call_0", "call_1"]
    assert first.logprobs is not None
    assert [len(token.top_logprobs) for token in first.logprobs.content or []] == [2, 2]
    assert (answer.model, answer.to_dict()["vendor"], first.finish_reason) == ("big", {"a": 1}, "tool_calls")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (9, 7, 16)
    assert up.requests[0].json["messages"] == HI
    assert up.requests[0].headers["authorization"] == "Bearer k"


@pytest.mark.parametrize(
    "wire",
    [
        Wire(),
        Wire(line_end="\r\n", comments=True),
        Wire(multi_line=True, cut=3),
        Wire(cut=1, done=False),
    ],
)
async def test_a_stream_adds_up_however_its_bytes_are_laid_out(
    up: ScriptedUpstream, client: AsyncOpenAI, wire: Wire
) -> None:
    up.script(Reply("ünïcode text", tool_calls=[ToolCall("f", '{"a": "b c"}')], wire=wire, by_character=True))
    async with client.chat.completions.stream(
        model="m", messages=HI, stream_options={"include_usage": True}, logprobs=True
    ) as stream:
        whole = await stream.get_final_completion()
    message = whole.choices[0].message
    assert message.content == "ünïcode text"
    assert (message.tool_calls or [])[0].function.arguments == '{"a": "b c"}'
    assert whole.usage is not None
    assert [(served.tokens_sent, served.finished) for served in up.served] == [(whole.usage.completion_tokens, True)]


@pytest.mark.parametrize(("forced", "asked", "sent"), [(None, False, 0), (None, True, 1), (True, False, 1)])
async def test_usage_comes_in_a_stream_as_asked_or_as_scripted(
    up: ScriptedUpstream, client: AsyncOpenAI, forced: bool | None, asked: bool, sent: int
) -> None:
    up.script(Reply(usage_chunk=forced))
    options: Any = {"include_usage": True} if asked else openai.omit
    stream = await client.chat.completions.create(model="m", messages=HI, stream=True, stream_options=options)
    assert sum([chunk.usage is not None async for chunk in stream]) == sent


async def test_other_endpoints(up: ScriptedUpstream, client: AsyncOpenAI) -> None:
    text = await client.completions.create(model="m", prompt="a", logprobs=1)
    pieces = [
        chunk.choices[0].text async for chunk in await client.completions.create(model="m", prompt="a", stream=True)
    ]
    vectors = await client.embeddings.create(model="m", input=["a", "bb"], encoding_format="float")
    assert (text.choices[0].text, "".join(pieces), len(vectors.data)) == ("ok", "ok", 2)
    assert [model.id async for model in client.models.list()] == ["scripted"]
    assert [request.path for request in up.probes] == ["/v1/models"]


async def test_responses_helper_accumulates_a_translated_stream(up: ScriptedUpstream, client: AsyncOpenAI) -> None:
    reply = Reply("a b c", reasoning="hm hm", refusal="not that", tool_calls=[ToolCall("f", '{"a": 1}'), ToolCall("g")])
    up.default = reply
    async with client.responses.stream(model="m", input="hi") as stream:
        kinds = [event.type async for event in stream]
        streamed = await stream.get_final_response()
    whole = await client.responses.create(model="m", input="hi")
    assert [item.type for item in streamed.output] == ["reasoning", "message", "function_call", "function_call"]
    assert streamed.output_text == whole.output_text == "a b c"
    assert streamed.usage == whole.usage
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"


async def test_error_statuses_and_health(up: ScriptedUpstream, client: AsyncOpenAI) -> None:
    up.script(failing(429, "slow down", code="rate", headers={"retry-after": "2"}), Status(500, b"<html>"))
    with pytest.raises(openai.RateLimitError, match="slow down") as limited:
        await client.chat.completions.create(model="m", messages=HI)
    assert limited.value.response.headers["retry-after"] == "2"
    with pytest.raises(openai.InternalServerError):
        await client.chat.completions.create(model="m", messages=HI)
    up.health = Status(503)
    with pytest.raises(openai.InternalServerError):
        await client.models.list()


@pytest.mark.parametrize("step", [CLOSE, CLOSE_AFTER_HEAD, GARBAGE, truncated_body(), truncated_chunk()])
async def test_broken_answers_break_the_client(up: ScriptedUpstream, client: AsyncOpenAI, step: Any) -> None:
    up.script(step)
    with pytest.raises((openai.APIConnectionError, openai.APIError)):
        async for _ in await client.chat.completions.create(model="m", messages=HI, stream=True):
            pass


async def test_what_raw_steps_send(up: ScriptedUpstream) -> None:
    up.script(CLOSE, GARBAGE, truncated_body(), oversized_header(1 << 17), Status(200, b"{not json"))
    assert await answer_to(up, post()) == b""
    assert not (await answer_to(up, post())).startswith(b"HTTP")
    assert (await answer_to(up, post())).endswith(b"\r\n\r\n" + b'{"choices": [')
    assert b"a" * (1 << 17) in await answer_to(up, post())
    request = post().replace(b"host: x", b"connection: close")
    assert (await answer_to(up, request)).endswith(b"{not json")


@pytest.mark.parametrize(
    ("kind", "ending"),
    [("close", b"}\n\n\r\n"), ("reset", b"<reset>"), ("error", b"0\r\n\r\n"), ("garbage", b"0\r\n\r\n")],
)
async def test_a_fault_happens_after_its_events(up: ScriptedUpstream, kind: Any, ending: bytes) -> None:
    up.script(Reply("a b c", fault=Fault(2, kind)))
    request = post({"messages": [], "stream": True}).replace(b"host: x", b"connection: close")
    received = await answer_to(up, request)
    assert received.endswith(ending)
    assert (b"engine died" in received) == (kind == "error")
    assert (b"nonsense" in received) == (kind == "garbage")
    assert up.served[0].finished == (kind == "garbage")


@pytest.mark.parametrize("step", [HANG, HANG_AFTER_HEAD, Reply(delay_s=600), Reply("a b c", gap_s=600)])
async def test_a_client_that_hangs_up_is_noticed(up: ScriptedUpstream, step: Any) -> None:
    up.script(step)
    _, writer = await connect(up)
    writer.write(post({"messages": [], "stream": True}))
    request = await up.arrived(1)
    assert up.open_connections == 1
    writer.close()
    await up.client_gone.wait()
    await request.done.wait()
    assert request.aborted
    assert [served.finished for served in up.served] in ([], [False])


async def test_a_slow_stream_says_how_much_had_been_sent(up: ScriptedUpstream) -> None:
    up.script(Reply("a b c", fault=Fault(2, "hang")))
    reader, writer = await connect(up)
    writer.write(post({"messages": [], "stream": True}))
    await reader.readuntil(b'"content": "a"')
    writer.close()
    await up.requests[0].done.wait()
    assert (up.served[0].tokens_sent, up.served[0].completion_tokens) == (1, 3)


async def test_a_connection_is_kept_unless_the_step_closes_it(up: ScriptedUpstream) -> None:
    up.script(Reply(), Reply(closes_after=True))
    reader, writer = await connect(up)
    writer.write(post() + post())
    assert (await reader.read()).count(b"HTTP/1.1 200") == 2
    writer.close()


async def test_a_chunked_request_is_read(up: ScriptedUpstream) -> None:
    reader, writer = await connect(up)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
    writer.write(b'5\r\n{"a":\r\n4;x=y\r\n [1]\r\n1\r\n}\r\n0\r\n\r\n')
    await reader.readuntil(b"\r\n\r\n")
    assert up.requests[0].json == {"a": [1]}
    writer.close()


async def test_an_upstream_goes_down_and_comes_back_on_its_port(up: ScriptedUpstream, client: AsyncOpenAI) -> None:
    await client.chat.completions.create(model="m", messages=HI)
    await up.stop()
    assert up.open_connections == 0
    with pytest.raises(openai.APIConnectionError):
        await client.chat.completions.create(model="m", messages=HI)
    await up.start()
    await client.chat.completions.create(model="m", messages=HI)


async def test_a_step_can_be_any_function_and_its_exception_fails_the_test(client: AsyncOpenAI) -> None:
    async def echo(exchange: Exchange) -> None:
        await Reply(exchange.request.json["messages"][-1]["content"])(exchange)

    with pytest.raises(KeyError):
        async with ScriptedUpstream(default=echo) as upstream:
            openai_client = client.with_options(base_url=upstream.url)
            answer = await openai_client.chat.completions.create(model="m", messages=HI)
            assert answer.choices[0].message.content == "hi"
            await answer_to(upstream, post({"no": "messages"}))
