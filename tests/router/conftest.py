"""Real parts for the gateway's tests: the demo's models over HTTP, a Redis, and scripted upstreams for faults."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest
import redis

from router.bundled_redis import bundled_redis
from serving.embedded.server import DEMO_MODELS
from tests.support.gateway import RunningGateway, flush, running_gateway, two_models
from tests.support.scripted import Reply, ScriptedUpstream, Status, Usage
from tests.support.server_process import HOST, ServerProcess, free_port
from tests.surface.fixtures import Served, surface

__all__ = ["surface"]

START_TIMEOUT_S = 60
# A health check leaves no connection behind, so that a test's first request opens its own.
COLD = Status(200, headers={"connection": "close"})


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of its own, which every gateway under test empties first."""
    with bundled_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def store(redis_url: str) -> Iterator[redis.Redis]:
    """A client for it, emptied."""
    flush(redis_url)
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(scope="session")
def embedded_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    """The demo's teacher and student, each a process of its own."""
    logs = tmp_path_factory.mktemp("embedded")
    with ExitStack() as stack:
        servers = {}
        for model in DEMO_MODELS:
            port = free_port()
            program = f"from serving.embedded.server import run; run({model!r}, {HOST!r}, {port}, log_level='warning')"
            server = ServerProcess([sys.executable, "-c", program], model, port, logs / f"{model}.log")
            servers[model] = stack.enter_context(server)
        for server in servers.values():
            server.wait_ready(START_TIMEOUT_S)
        yield {name: Served(server.base_url, name) for name, server in servers.items()}


@pytest.fixture(scope="session")
def served_teacher(embedded_models: dict[str, Served]) -> Served:
    return embedded_models["teacher"]


@pytest.fixture(scope="session")
def served_student(embedded_models: dict[str, Served]) -> Served:
    return embedded_models["student"]


@pytest.fixture
async def teacher() -> AsyncIterator[ScriptedUpstream]:
    """Says `from the teacher`."""
    async with ScriptedUpstream(default=Reply("from the teacher", usage=Usage(10, 3))) as upstream:
        upstream.health = COLD
        yield upstream


@pytest.fixture
async def student() -> AsyncIterator[ScriptedUpstream]:
    """Says `from the student`."""
    async with ScriptedUpstream(default=Reply("from the student", usage=Usage(20, 3))) as upstream:
        upstream.health = COLD
        yield upstream


@pytest.fixture
async def gw_plain(teacher: ScriptedUpstream, student: ScriptedUpstream) -> AsyncIterator[RunningGateway]:
    """Route `auto` to the student, embeddings from the teacher, no keys."""
    async with running_gateway(two_models(teacher.url, student.url, embeddings={"model": "teacher"})) as gateway:
        yield gateway
