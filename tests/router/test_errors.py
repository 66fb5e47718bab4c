"""Errors look like OpenAI's: body, type, code, param and status; with no address of an upstream in them."""

from __future__ import annotations

import json

import openai
import pytest

from tests.support.gateway import HI, PATHS, RunningGateway, ask, running_gateway, two_models
from tests.support.scripted import CLOSE, ScriptedUpstream, Status, failing

ENDPOINTS = ("chat", "completions", "responses", "embeddings")


def error_of(response: object, status: int, kind: str, code: str | None, param: str | None = None) -> str:
    """Checks the whole error; returns its message."""
    assert response.status_code == status  # type: ignore[attr-defined]  # httpx's
    body = response.json()  # type: ignore[attr-defined]
    assert set(body) == {"error"}
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"], error["param"]) == (kind, code, param)
    assert response.headers["content-type"] == "application/json"  # type: ignore[attr-defined]
    message: str = error["message"]
    return message


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_an_unknown_model_is_not_found(gw_plain: RunningGateway, endpoint: str) -> None:
    response = await gw_plain.ask(endpoint, "nope")
    assert "nope" in error_of(response, 404, "invalid_request_error", "model_not_found", "model")
    assert response.headers["x-request-id"].startswith("req_")


async def test_the_clients_own_exceptions_are_raised(gw_plain: RunningGateway) -> None:
    with pytest.raises(openai.NotFoundError):
        await gw_plain.openai.chat.completions.create(model="nope", messages=HI)
    with pytest.raises(openai.NotFoundError):
        await gw_plain.openai.models.retrieve("nope")
    with pytest.raises(openai.BadRequestError):
        await gw_plain.openai.chat.completions.create(model="", messages=HI)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"null", b'{"model": "auto"', b"{'model': 1}"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_what_is_no_json_object_is_a_bad_request(gw_plain: RunningGateway, endpoint: str, body: bytes) -> None:
    response = await gw_plain.post(PATHS[endpoint], body)
    error_of(response, 400, "invalid_request_error", "invalid_json")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_missing_prompt_or_model_is_named(gw_plain: RunningGateway, endpoint: str) -> None:
    body = ask(endpoint, "teacher")
    for field in list(body):
        response = await gw_plain.post(PATHS[endpoint], {name: body[name] for name in body if name != field})
        error_of(response, 400, "invalid_request_error", None, field)


async def test_a_body_over_the_limit_is_too_large(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    config = two_models(teacher.url, student.url, server={"auth": "none", "max_body_bytes": 2000})
    async with running_gateway(config) as gw:
        assert (await gw.ask("chat", user="x" * 1800)).status_code == 200
        response = await gw.ask("chat", user="x" * 2000)
        assert "2000" in error_of(response, 413, "invalid_request_error", "request_too_large")


async def test_unknown_paths_and_wrong_methods(gw_plain: RunningGateway) -> None:
    error_of(await gw_plain.post("/v1/nothing", {}), 404, "invalid_request_error", "not_found")
    for path in PATHS.values():
        error_of(await gw_plain.http.get(path), 405, "invalid_request_error", "method_not_allowed")
    error_of(await gw_plain.post("/v1/models", {}), 405, "invalid_request_error", "method_not_allowed")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 529])
async def test_an_upstreams_refusal_comes_as_it_is(
    teacher: ScriptedUpstream, student: ScriptedUpstream, status: int, stream: bool
) -> None:
    body = b'{"error": {"message": "no",  "type": "odd", "extra": 1}}'
    student.script(Status(status, body))
    async with running_gateway(two_models(teacher.url, student.url)) as gw:
        response = await gw.ask("chat", stream=stream)
        assert (response.status_code, response.content) == (status, body)
        assert response.headers["x-router-model"] == "student"
        row = await gw.row()
        assert (row.o, row.st, row.c) == ("rejected", status, {})


@pytest.mark.parametrize("stream", [False, True])
async def test_a_429_keeps_its_retry_after_where_nobody_else_may_answer(
    teacher: ScriptedUpstream, student: ScriptedUpstream, stream: bool
) -> None:
    student.script(failing(429, "slow down", kind="rate_limit_error", headers={"retry-after": "7"}))
    async with running_gateway(two_models(teacher.url, student.url, route={"fallback": {"student": "error"}})) as gw:
        response = await gw.ask("chat", stream=stream)
        assert error_of(response, 429, "rate_limit_error", None) == "slow down"
        assert response.headers["retry-after"] == "7"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_dead_upstream_is_told_with_what_was_tried_and_without_its_address(
    teacher: ScriptedUpstream, student: ScriptedUpstream, endpoint: str, stream: bool
) -> None:
    stream = stream and endpoint != "embeddings"
    await student.stop()
    teacher.default = CLOSE
    config = two_models(teacher.url, student.url, models={"retries": 1}, embeddings={"model": "student"})
    async with running_gateway(config) as gw:
        name = "student" if endpoint == "embeddings" else "auto"
        response = await gw.ask(endpoint, name, stream=stream)
        down = response if endpoint == "embeddings" else await gw.ask(endpoint, "student", stream=stream)
        message = error_of(down, 503, "upstream_error", "upstream_unavailable")
        assert "student[0]: connection refused; student[0]: connection refused" in message
        if endpoint != "embeddings":
            message = error_of(response, 502, "upstream_error", "upstream_error")
            assert "student[0]: connection refused" in message
            assert "teacher[0]: the upstream closed the connection without an answer" in message
        for text in (json.dumps(dict(response.headers)), response.text, down.text):
            assert "127.0.0.1" not in text
            assert str(student.port) not in text
            assert str(teacher.port) not in text
        assert (await gw.rows(1))[0].o == "failed"


@pytest.mark.parametrize(
    ("upstream", "status"), [(500, 502), (502, 502), (503, 503), (504, 504), (204, 502), (302, 502)]
)
async def test_a_failing_upstream_has_the_gateways_status(
    teacher: ScriptedUpstream, student: ScriptedUpstream, upstream: int, status: int
) -> None:
    student.default = Status(upstream, b"" if upstream == 204 else b"<html>oh no</html>", {"location": "http://x/"})
    async with running_gateway(two_models(teacher.url, student.url)) as gw:
        response = await gw.ask("chat", "student")
        assert response.status_code == status
        assert f"status {upstream}" in response.json()["error"]["message"]
        assert "oh no" not in response.text
