"""Whatever a client sends, it gets an OpenAI error or a valid answer; never a traceback, never a 500."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.texts import texts
from tests.support.gateway import PATHS, RunningGateway, ask, running_gateway, two_models
from tests.support.raw_client import RawClient, request_bytes
from tests.support.scripted import Reply, ScriptedUpstream, Status
from tests.support.wire import Exchange

ENDPOINTS = ("chat", "completions", "responses", "embeddings")
POLICIES: dict[str, Any] = {
    "split": {"kind": "split", "student_share": 0.5},
    "cascade": {"kind": "cascade"},
    "rules": {"kind": "rules", "rules": [{"when": {"regex": "x"}, "use": "teacher"}]},
}
VALUES: tuple[Any, ...] = (None, True, False, 0, -1, 1.5, 10**30, "", "x", [], [1], [[]], {}, {"a": 1}, [None], [{}])
FIELDS = (
    *("model", "messages", "prompt", "input", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n"),
    *("max_output_tokens", "logprobs", "top_logprobs", "tools", "tool_choice", "response_format", "text", "stop"),
    *("instructions", "temperature", "best_of", "functions", "reasoning", "include", "user", "seed", "logit_bias"),
)
BODY_FAULTS = {
    "invalid utf-8": b'{"model": "auto", "messages": [{"role": "user", "content": "\xff\xfe"}]}',
    "a cut surrogate": b'{"model": "auto", "messages": [{"role": "user", "content": "\\ud800"}]}',
    "a bom": b'\xef\xbb\xbf{"model": "auto", "messages": []}',
    "nan": b'{"model": "auto", "messages": [], "temperature": NaN}',
    "a comment": b'{"model": "auto", /* x */ "messages": []}',
    "a trailing comma": b'{"model": "auto", "messages": [],}',
    "two documents": b'{"model": "auto", "messages": []}{}',
    "null bytes": b"\x00" * 50,
    "form data": b"model=auto&messages=",
    "utf-16": '{"model": "auto"}'.encode("utf-16"),
    "a raw newline": b'{"model": "auto", "messages": [{"role": "user", "content": "a\nb"}]}',
}


async def canned(exchange: Exchange) -> None:
    """An answer on any endpoint to any body, which it does not read."""
    stream = b'"stream": true' in exchange.request.body or b'"stream":true' in exchange.request.body
    field = {"/v1/embeddings": "data", "/v1/responses": "output"}.get(exchange.request.path, "choices")
    choice = {"index": 0, "text": "ok", "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}
    choice |= {"delta": {"content": "ok"}, "logprobs": {"content": [{"token": "ok", "logprob": -0.1}]}}
    body = {"object": "list", field: [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    if stream:
        events = b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(body).encode()
        await Status(200, events, content_type="text/event-stream")(exchange)
    else:
        await Status(200, body)(exchange)


@pytest.fixture(autouse=True)
def no_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing surprised the gateway, or uvicorn under it."""
    yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.fixture
async def gw(teacher: ScriptedUpstream, student: ScriptedUpstream) -> AsyncIterator[RunningGateway]:
    """A route for each policy, every request audited, both models with an `adapt` block on one of them."""
    teacher.default = student.default = canned
    config = two_models(teacher.url, student.url, route={"audit": {"rate": 1.0}}, embeddings={"model": "teacher"})
    config["models"]["teacher"]["adapt"] = {"system_prompt": "Be kind.", "rename": {"max_tokens": "limit"}}
    for name, policy in POLICIES.items():
        config["routes"][name] = config["routes"]["auto"] | {"policy": policy}
    async with running_gateway(config) as gateway:
        yield gateway


def good_or_openai_error(status: int, body: bytes) -> None:
    assert b"Traceback" not in body
    assert status != 500
    if status == 200:
        return
    error = json.loads(body)["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    assert status in (400, 401, 403, 404, 405, 413)


@pytest.mark.parametrize("body", BODY_FAULTS.values(), ids=BODY_FAULTS)
async def test_a_body_that_is_no_json_is_refused(gw: RunningGateway, body: bytes) -> None:
    for endpoint in ENDPOINTS:
        response = await gw.post(PATHS[endpoint], body)
        good_or_openai_error(response.status_code, response.content)
        assert response.status_code in (400, 404) or body == BODY_FAULTS["a cut surrogate"]


@pytest.mark.parametrize("field", FIELDS)
async def test_every_field_may_have_every_type(gw: RunningGateway, field: str) -> None:
    """The models' server would judge the values; here it takes all of them."""
    for number, value in enumerate(VALUES):
        endpoint = ENDPOINTS[number % 3]
        route = ("auto", *POLICIES)[number % 4]
        response = await gw.ask(endpoint, **{"model": route, "stream": number % 2 == 0, field: value})
        good_or_openai_error(response.status_code, response.content)


async def test_no_depth_of_nesting_is_too_much(gw: RunningGateway) -> None:
    for depth in (10, 490, 900, 950, 980, 1_000, 200_000):
        for nest in ("[" * depth + "]" * depth, '{"content":' * depth + "1" + "}" * depth):
            for endpoint, field in (("chat", "messages"), ("responses", "input"), ("completions", "prompt")):
                for model in ("cascade", "split", "rules", "teacher"):
                    value = f"[{nest}]" if field == "messages" else nest
                    body = f'{{"model": "{model}", "{field}": {value}}}'.encode()
                    response = await gw.post(PATHS[endpoint], body)
                    good_or_openai_error(response.status_code, response.content)


def test_texts_are_found_in_what_is_nested_deeper_than_python_can_go() -> None:
    nested: Any = ["too deep"]
    for _ in range(50_000):
        nested = [nested]
    assert list(texts(["a", {"content": [{"type": "text", "text": "b"}]}, nested])) == ["a", "b"]


async def test_the_last_of_a_repeated_key_counts(gw: RunningGateway, teacher: ScriptedUpstream) -> None:
    body = b'{"model": "student", "messages": [], "messages": [{"role": "user", "content": "hi"}], "model": "teacher"}'
    response = await gw.post(PATHS["chat"], body)
    assert response.headers["x-router-model"] == "teacher"
    assert teacher.requests[0].body.count(b'"model"') == 1


async def test_a_chunked_body_is_a_body(gw: RunningGateway) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        data = json.dumps(ask("chat")).encode()
        for start in range(0, len(data), 7):
            yield data[start : start + 7]

    response = await gw.http.post(PATHS["chat"], content=pieces())
    assert response.status_code == 200


async def test_an_endless_chunked_body_is_refused_at_the_limit(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    config = two_models(teacher.url, student.url, server={"auth": "none", "max_body_bytes": 100_000})
    async with running_gateway(config) as gw, RawClient(gw.port) as client:
        await client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(20):
            await client.send(b"2000\r\n" + b"x" * 0x2000 + b"\r\n")
        assert b"413" in await client.read_until(b"request_too_large")


async def test_a_body_that_never_comes_is_not_waited_for(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    config = two_models(teacher.url, student.url, server={"auth": "none", "body_timeout_s": 0.1})
    async with running_gateway(config) as gw, RawClient(gw.port) as client:
        await client.post(PATHS["chat"], b'{"model":', length=5_000)
        received = await client.read_until(b"did not arrive")
        assert b"400 Bad Request" in received
        assert b"did not arrive within 0.1 s" in received


@pytest.mark.parametrize("length", ["-1", "x", "99999999999999999999999", "1, 2"])
async def test_a_content_length_that_is_none_is_a_bad_request(gw: RunningGateway, length: str) -> None:
    async with RawClient(gw.port) as client:
        await client.send(f"POST {PATHS['chat']} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{{}}".encode())
        received = await client.read_until(b"\r\n\r\n")
        assert b" 400 " in received or b" 413 " in received
        assert b"Traceback" not in received


async def test_a_body_longer_than_its_content_length_is_cut(gw: RunningGateway) -> None:
    data = json.dumps(ask("chat")).encode()
    async with RawClient(gw.port) as client:
        await client.post(PATHS["chat"], data, length=len(data) - 1)
        assert b" 400 " in await client.read_until(b"\r\n\r\n")


async def test_requests_one_behind_the_other_are_answered_in_order(gw: RunningGateway) -> None:
    async with RawClient(gw.port) as client:
        bodies = [ask("chat", "teacher"), ask("chat", "nope"), ask("chat", "student", stream=True)]
        await client.send(b"".join(request_bytes(PATHS["chat"], body) for body in bodies))
        received = await client.read_until(b"[DONE]")
    first, second, third = (received.index(mark) for mark in (b'"ok"', b"model_not_found", b"[DONE]"))
    assert first < second < third


async def test_header_values_of_a_client_cannot_break_a_request_upstream(
    gw: RunningGateway, student: ScriptedUpstream
) -> None:
    for value in (b"a\x00b", b"a b", b"\xff\xfe", b"x" * 5_000):
        async with RawClient(gw.port) as client:
            body = json.dumps(ask("chat", "student")).encode()
            head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n"
            await client.send(head % len(body) + b"traceparent: %b\r\nx-request-id: %b\r\n\r\n" % (value, value) + body)
            assert client.received == b""
            assert b" 200 " in await client.read_all() or b" 400 " in client.received
    assert all("traceparent" not in request.headers for request in student.requests)


async def test_many_at_once_get_their_own_answers(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    async def echo(exchange: Exchange) -> None:
        await Reply(exchange.request.json["user"], delay_s=0.001)(exchange)

    student.default = echo
    async with running_gateway(two_models(teacher.url, student.url)) as gw:
        names = [f"caller-{number}" for number in range(100)]
        responses = await asyncio.gather(*(gw.ask("chat", user=name) for name in names))
        assert [response.json()["choices"][0]["message"]["content"] for response in responses] == names


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
MESSAGE = st.fixed_dictionaries(
    {}, optional={"role": st.sampled_from(["user", "system", "assistant", "tool", ""]) | JSON, "content": JSON}
)
BODIES = st.fixed_dictionaries(
    {"model": st.sampled_from(["auto", *POLICIES, "teacher", "cascade@0.5", "auto@x"]) | JSON},
    optional={"messages": st.lists(MESSAGE | JSON, max_size=3), "stream": st.booleans()}
    | {field: JSON for field in FIELDS if field not in ("model", "messages", "stream")},
)


def test_no_body_at_all_upsets_the_gateway(caplog: pytest.LogCaptureFixture) -> None:
    """Many random bodies, well-formed and not, on one gateway: hypothesis and an event loop do not nest."""
    bodies: list[tuple[str, bytes]] = []

    @settings(max_examples=120, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(
        st.sampled_from(ENDPOINTS),
        BODIES.map(lambda body: json.dumps(body).encode())
        | JSON.map(lambda body: json.dumps(body).encode())
        | st.binary(max_size=50),
    )
    def collect(endpoint: str, body: bytes) -> None:
        bodies.append((endpoint, body))

    collect()
    asyncio.run(_try_all(bodies))


async def _try_all(bodies: list[tuple[str, bytes]]) -> None:
    async with ScriptedUpstream() as teacher, ScriptedUpstream() as student:
        teacher.default = student.default = canned
        config = two_models(teacher.url, student.url, embeddings={"model": "teacher"})
        for name, policy in POLICIES.items():
            config["routes"][name] = config["routes"]["auto"] | {"policy": policy, "audit": {"rate": 0.5}}
        async with running_gateway(config) as gateway:
            for endpoint, body in bodies:
                response = await gateway.post(PATHS[endpoint], body)
                good_or_openai_error(response.status_code, response.content)
