"""The OpenAI surface, the cascade and the audits through the gateway on real vLLM servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from router.bundled_redis import bundled_redis
from tests.support.server_process import ServerProcess
from tests.surface.chat import ChatSurface
from tests.surface.fixtures import Served, surface
from tests.surface.gates import GateSurface
from tests.surface.others import AuditSurface, CompletionsSurface, ResponsesSurface

__all__ = ["surface"]


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with bundled_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def served_teacher(vllm_teacher: ServerProcess) -> Served:
    return Served(vllm_teacher.base_url, vllm_teacher.model)


@pytest.fixture
def served_student(vllm_student: ServerProcess) -> Served:
    return Served(vllm_student.base_url, vllm_student.model)


class TestChat(ChatSurface):
    pass


class TestCompletions(CompletionsSurface):
    pass


class TestResponses(ResponsesSurface):
    pass


class TestAudit(AuditSurface):
    pass


class TestGates(GateSurface):
    pass
