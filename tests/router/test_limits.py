"""What nobody may do to the gateway, and who may do what: heads, trailers, patterns, metrics, embeddings."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.gateway import ask, running_gateway, two_models
from tests.support.raw_client import RawClient
from tests.support.router_process import Router
from tests.support.scripted import Reply, ScriptedUpstream, Status
from tests.support.upstream_thread import UpstreamThread

KEY = "sk-test"
SHA256 = hashlib.sha256(KEY.encode()).hexdigest()
TRAILERS = 20_000


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Router]:
    """`distill-router serve`, whose HTTP protocol is its own."""
    with UpstreamThread() as upstream:
        config = two_models(upstream.url, upstream.url, evidence={"spool_dir": str(tmp_path / "spool")})
        with Router(tmp_path, config) as router:
            yield router


async def test_a_head_without_end_is_refused(served: Router) -> None:
    async with RawClient(served.port) as client:
        await client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n")
        for _ in range(40):
            await client.send(b"x-more: " + b"x" * 8000 + b"\r\n")
            if client.received or await _answered(client):
                break
        assert b" 431 " in client.received and b"headers_too_large" in client.received


async def test_trailers_are_not_kept(served: Router) -> None:
    process = psutil.Process(served.pid)
    async with RawClient(served.port) as client:
        body = json.dumps(ask("chat")).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        await client.send(head + b"%x\r\n%b\r\n0\r\n" % (len(body), body))
        before = process.memory_info().rss
        for _ in range(TRAILERS // 100):
            await client.send((b"x-trailer: " + b"x" * 1000 + b"\r\n") * 100)
        await client.send(b"\r\n")
        assert b" 200 OK" in await client.read_until(b"}]")
        assert process.memory_info().rss - before < TRAILERS * 1000 / 2


async def test_a_pattern_takes_linear_time_whatever_a_client_sends(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    rules = {"kind": "rules", "rules": [{"when": {"regex": r"(\w+\s?)+$"}, "use": "teacher"}], "default": "student"}
    async with running_gateway(two_models(teacher.url, student.url, policy=rules)) as gw:
        messages = [{"role": "user", "content": "a" * 5_000 + "!"}]
        assert (await gw.ask("chat", messages=messages)).headers["x-router-model"] == "student"


async def test_metrics_can_be_kept_for_admins(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    admin = {"name": "a", "sha256": SHA256, "permissions": ["admin"]}
    plain = {"name": "p", "sha256": hashlib.sha256(b"sk-plain").hexdigest()}
    config = two_models(teacher.url, student.url, keys=[admin, plain])
    config["server"] = {"auth": "keys", "metrics": "admin"}
    async with running_gateway(config) as gw:
        assert (await gw.http.get("/metrics")).status_code == 401
        assert (await gw.http.get("/metrics", headers={"authorization": "Bearer sk-plain"})).status_code == 403
        answer = await gw.http.get("/metrics", headers={"authorization": f"Bearer {KEY}"})
        assert answer.status_code == 200 and "distill_router_requests_total" in answer.text


@pytest.mark.parametrize(("routes", "status"), [(None, 200), (["auto", "teacher"], 200), (["auto"], 404)])
async def test_a_key_may_use_the_embedder_that_it_may_name(
    routes: list[str] | None, status: int, teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    key: dict[str, Any] = {"name": "k", "sha256": SHA256, "routes": routes}
    config = two_models(teacher.url, student.url, keys=[key], embeddings={"model": "teacher"})
    config["server"] = {"auth": "keys"}
    async with running_gateway(config) as gw:
        headers = {"authorization": f"Bearer {KEY}"}
        assert (await gw.post("/v1/embeddings", ask("embeddings", "teacher"), **headers)).status_code == status
        listed = [model["id"] for model in (await gw.http.get("/v1/models", headers=headers)).json()["data"]]
        assert ("teacher" in listed) == (status == 200)


@pytest.mark.parametrize("rate", [0.0, 1.0])
async def test_an_audit_does_not_change_what_a_native_responses_request_gets(
    rate: float, teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    config = two_models(teacher.url, student.url, route={"audit": {"rate": rate}})
    for name in ("teacher", "student"):
        config["models"][name]["supports"] = ["responses", "logprobs"]
    async with running_gateway(config) as gw:
        answer = await gw.ask("responses")
        assert (answer.status_code, answer.headers["x-router-model"]) == (200, "student")
        assert student.requests[0].path == "/v1/responses"


async def test_a_responses_request_that_chat_cannot_say_goes_to_the_teacher_that_speaks_it(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    config = two_models(teacher.url, student.url)
    config["models"]["teacher"]["supports"] = ["responses", "tools"]
    config["models"]["student"]["supports"] = ["tools"]
    teacher.default = Status(200, b'{"id": "resp_1", "object": "response", "status": "completed", "output": []}')
    async with running_gateway(config) as gw:
        answer = await gw.ask("responses", tools=[{"type": "web_search"}])
        assert (answer.status_code, answer.headers["x-router-reason"]) == (200, "guard:responses")
        assert not student.requests


async def test_a_failed_teacher_does_not_fall_back_to_a_student_that_the_request_does_not_fit(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    teacher.default = Reply(content="never", closes_after=True)
    await teacher.stop()
    config = two_models(teacher.url, student.url, route={"fallback": {"teacher": "student"}})
    async with running_gateway(config) as gw:
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        assert (await gw.ask("chat", tools=[tool])).status_code == 503
        assert not student.requests


async def test_every_answer_carries_the_request_id(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    async with running_gateway(two_models(teacher.url, student.url)) as gw:
        for path in ("/v1/models", "/healthz", "/nowhere"):
            assert (await gw.http.get(path, headers={"x-request-id": "mine"})).headers["x-request-id"] == "mine"


async def _answered(client: RawClient) -> bool:
    try:
        async with asyncio.timeout(0.01):
            return bool(await client.read_some())
    except TimeoutError:
        return False


async def test_what_is_no_http_is_an_openai_error(served: Router) -> None:
    async with RawClient(served.port) as client:
        await client.send(b"POST / HTTP/1.1\r\nhost x\r\n\r\n")
        received = await client.read_all()
        assert (
            b" 400 " in received and json.loads(received.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_http"
        )


async def test_a_body_that_never_comes_ends_the_connection(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    config = two_models(teacher.url, student.url, server={"auth": "none", "body_timeout_s": 0.1})
    async with running_gateway(config) as gw, RawClient(gw.port) as client:
        await client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n")
        assert b"did not arrive" in await client.read_all()
