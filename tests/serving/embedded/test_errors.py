"""What is refused, and that every refusal is an OpenAI error that names the field."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import BadRequestError, NotFoundError, OpenAI

from serving.embedded.server import create_app
from tests.serving.embedded.conftest import client_of, served
from tests.serving.embedded.tiny import CONTEXT_TOKENS, write_checkpoint

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
USER = {"role": "user", "content": "hi"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
BASE: dict[str, dict[str, Any]] = {
    CHAT: {"model": "tiny", "messages": [USER], "max_tokens": 1},
    COMPLETIONS: {"model": "tiny", "prompt": "hi", "max_tokens": 1},
    EMBEDDINGS: {"model": "tiny", "input": "hi"},
}
BROKEN_CALL = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}
LIST_CALL = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[]"}}]}
BAD_FIELDS: list[tuple[str, dict[str, Any], str]] = [
    (CHAT, {"model": None}, "model"),
    (CHAT, {"messages": "hi"}, "messages"),
    (CHAT, {"messages": []}, "messages"),
    (CHAT, {"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
    (CHAT, {"messages": [USER, {"content": "x"}]}, "messages[1].role"),
    (CHAT, {"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
    (CHAT, {"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content[0]"),
    (CHAT, {"messages": [{"role": "function", "content": "x"}]}, "messages"),
    (CHAT, {"messages": [BROKEN_CALL]}, "messages[0].tool_calls[0].function.arguments"),
    (CHAT, {"messages": [LIST_CALL]}, "messages[0].tool_calls[0].function.arguments"),
    (CHAT, {"temperature": "hot"}, "temperature"),
    (CHAT, {"temperature": "0.5"}, "temperature"),
    (CHAT, {"temperature": 3}, "temperature"),
    (CHAT, {"top_p": -0.1}, "top_p"),
    (CHAT, {"n": 0}, "n"),
    (CHAT, {"n": 1.5}, "n"),
    (CHAT, {"n": True}, "n"),
    (CHAT, {"max_tokens": 0}, "max_tokens"),
    (CHAT, {"max_completion_tokens": "many"}, "max_completion_tokens"),
    (CHAT, {"stop": 7}, "stop"),
    (CHAT, {"stop": ""}, "stop"),
    (CHAT, {"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    (CHAT, {"stream": "yes"}, "stream"),
    (CHAT, {"stream_options": {"include_usage": True}}, "stream_options"),
    (CHAT, {"logprobs": 2}, "logprobs"),
    (CHAT, {"top_logprobs": 2}, "top_logprobs"),
    (CHAT, {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    (CHAT, {"logit_bias": {"x": 1}}, "logit_bias"),
    (CHAT, {"logit_bias": {"260": 1}}, "logit_bias"),
    (CHAT, {"logit_bias": {"7": 101}}, "logit_bias.7"),
    (CHAT, {"response_format": {"type": "json_object"}}, "response_format"),
    (CHAT, {"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format"),
    (CHAT, {"tools": [{"type": "function"}]}, "tools[0].function"),
    (CHAT, {"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
    (CHAT, {"tool_choice": "required"}, "tool_choice"),
    (CHAT, {"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
    (COMPLETIONS, {"prompt": ""}, "prompt"),
    (COMPLETIONS, {"prompt": []}, "prompt"),
    (COMPLETIONS, {"prompt": ["a", ""]}, "prompt"),
    (COMPLETIONS, {"prompt": ["a", 1]}, "prompt"),
    (COMPLETIONS, {"prompt": [1, -1]}, "prompt"),
    (COMPLETIONS, {"prompt": [[10**30]]}, "prompt"),
    (COMPLETIONS, {"prompt": ["a"] * 40, "n": 64}, "prompt"),
    (COMPLETIONS, {"suffix": "x"}, "suffix"),
    (COMPLETIONS, {"best_of": 2}, "best_of"),
    (COMPLETIONS, {"max_tokens": 0}, "max_tokens"),
    (COMPLETIONS, {"logprobs": 21}, "logprobs"),
    (EMBEDDINGS, {"input": None}, "input"),
    (EMBEDDINGS, {"encoding_format": "hex"}, "encoding_format"),
    (EMBEDDINGS, {"dimensions": 7}, "dimensions"),
]
RAW_BODIES = [
    b"",
    b"{",
    b"[]",
    b"7",
    b'{"model": "tiny", "messages": NaN}',
    b'{"model": "tiny", "messages": [{"role": "user", "content": "\xff\xfe"}]}',
    b'{"model": "tiny", "messages": [{"role": "user", "content": "\\ud800"}]}',
    b'{"model": "tiny", "temperature": NaN, "messages": [{"role": "user", "content": "x"}]}',
    b'{"model": "tiny", "messages": [{"role": "user", "content": ' + b"[" * 100_000,
    b'{"model": "tiny", "messages": [{"role": "user", "content": "x"}], "tools": ' + b'{"a":' * 10_000,
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def connection(tiny: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=tiny) as connection:
        yield connection


def assert_refused(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert "Traceback" not in error["message"]
    return error


@pytest.mark.parametrize(("path", "fields", "param"), BAD_FIELDS, ids=lambda value: str(value)[:60])
def test_a_bad_field_is_named(connection: httpx.Client, path: str, fields: dict[str, Any], param: str) -> None:
    error = assert_refused(connection.post(path, json={**BASE[path], **fields}))
    assert error["param"] == param


@pytest.mark.parametrize("field", ["model", "messages"])
def test_a_missing_field_is_named(tiny: str, field: str) -> None:
    body = {name: value for name, value in BASE[CHAT].items() if name != field}
    assert assert_refused(httpx.post(tiny + CHAT, json=body))["param"] == field


@pytest.mark.parametrize("body", RAW_BODIES, ids=lambda body: repr(body[:40]))
def test_a_body_that_is_no_request_is_refused(tiny: str, body: bytes) -> None:
    assert_refused(httpx.post(tiny + CHAT, content=body))


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted({param.split("[")[0].split(".")[0] for _, _, param in BAD_FIELDS})), json_values)
def test_any_json_in_any_field_is_answered_or_refused(connection: httpx.Client, field: str, value: Any) -> None:
    for path in (CHAT, COMPLETIONS):
        response = connection.post(path, content=json.dumps({**BASE[path], field: value}))
        if response.status_code != 200:
            assert_refused(response, response.status_code)
            assert response.status_code in (400, 404)


def test_a_model_that_is_not_served_is_not_found(client: OpenAI) -> None:
    with pytest.raises(NotFoundError) as refusal:
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "x"}])
    assert (refusal.value.code, refusal.value.param) == ("model_not_found", "model")
    with pytest.raises(NotFoundError):
        client.models.retrieve("org/other")


@pytest.mark.parametrize(
    ("prompt", "max_tokens"),
    [("x" * CONTEXT_TOKENS, None), ("x" * (CONTEXT_TOKENS - 10), 11), ("x", CONTEXT_TOKENS), ("x" * 3_000_000, 1)],
    ids=["full prompt", "one too many", "long answer", "huge prompt"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_does_not_fit_the_context_is_refused(
    client: OpenAI, prompt: str, max_tokens: int | None, stream: bool
) -> None:
    with pytest.raises(BadRequestError) as refusal:
        client.completions.create(model="tiny", prompt=prompt, max_tokens=max_tokens, stream=stream)
    assert (refusal.value.code, refusal.value.param) == ("context_length_exceeded", "prompt")
    assert str(CONTEXT_TOKENS) in refusal.value.message


def test_a_long_conversation_and_a_long_input_are_refused_alike(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as refusal:
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "x" * CONTEXT_TOKENS}])
    assert (refusal.value.code, refusal.value.param) == ("context_length_exceeded", "messages")
    with pytest.raises(BadRequestError) as refusal:
        client.embeddings.create(model="tiny", input="x" * (CONTEXT_TOKENS + 1))
    assert (refusal.value.code, refusal.value.param) == ("context_length_exceeded", "input")


def test_a_body_over_the_limit_is_too_large(tiny: str) -> None:
    body = b'{"padding": "' + b"x" * (32 * 1024 * 1024) + b'"}'
    assert assert_refused(httpx.post(tiny + CHAT, content=body), 413)["code"] == "request_too_large"


def test_unknown_paths_and_methods_are_openai_errors_too(tiny: str) -> None:
    assert assert_refused(httpx.get(f"{tiny}/v2/nothing"), 404)["code"] == "not_found"
    assert assert_refused(httpx.get(tiny + CHAT), 405)["code"] == "method_not_allowed"


def test_a_base_model_without_a_template_completes_but_does_not_chat(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "base")
    (folder / "tokenizer_config.json").unlink()
    with served(create_app(folder)) as address, client_of(address) as client:
        assert client.completions.create(model="base", prompt="x").choices[0].text is not None
        with pytest.raises(BadRequestError, match="no chat template"):
            client.chat.completions.create(model="base", messages=[{"role": "user", "content": "x"}])


def test_a_client_that_leaves_within_its_body_hurts_nobody(tiny: str) -> None:
    address = urlsplit(tiny)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{{".encode())
    assert httpx.get(f"{tiny}/health").status_code == 200
