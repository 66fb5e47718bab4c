"""The gateway in front of two real models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.support.gateway import RunningGateway, running_gateway, two_models

CONTEXT_TOKENS = 256


@dataclass(frozen=True)
class Served:
    """A model server: its base URL and the name of its model."""

    url: str
    model: str


@pytest.fixture
async def surface(served_teacher: Served, served_student: Served, redis_url: str) -> AsyncIterator[RunningGateway]:
    """Routes `auto` (cascade) and, always the one or the other model, `to-teacher` and `to-student`."""
    config = two_models(served_teacher.url, served_student.url, policy={"kind": "cascade", "escalate_at": 0.5})
    for name, served in (("teacher", served_teacher), ("student", served_student)):
        supports = ["logprobs", "n", "tools"] if name == "teacher" else ["logprobs", "n"]
        config["models"][name] |= {"model": served.model, "supports": supports}
        route = {"teacher": "teacher", "student": "student", "policy": {"kind": "fixed", "model": name}}
        config["routes"][f"to-{name}"] = route
    config["embeddings"] = {"model": "teacher"}
    async with running_gateway(config, redis_url=redis_url) as gateway:
        yield gateway
