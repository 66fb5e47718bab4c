"""A configuration that asks for keys, and what is said about them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.support.gateway import PATIENCE_S, RunningGateway, running_gateway, two_models
from tests.support.scripted import Reply, ScriptedUpstream, Usage

ADMIN = "sk-admin"
APP = "sk-app"


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def keyed(teacher: ScriptedUpstream, student: ScriptedUpstream, ledger_url: str | None, **top: Any) -> dict[str, Any]:
    """The keys `admin` (with that permission) and `app` in the file; more in Redis. Every call is bounded."""
    config = two_models(teacher.url, student.url, models={"max_output_tokens": 100}, **top)
    config["server"] = {"auth": "keys"}
    config["keys"] = [
        {"name": "admin", "sha256": sha256(ADMIN), "tenant": "ops", "permissions": ["admin"]},
        {"name": "app", "sha256": sha256(APP), "tenant": "acme", **config.pop("app", {})},
    ]
    if ledger_url:
        config["redis"] = {"url": ledger_url, "ledger_url": ledger_url}
    return config


async def comes_to(look: Callable[[], Awaitable[Any]], wanted: object) -> None:
    """Look again and again until this is what is seen."""
    deadline = time.monotonic() + PATIENCE_S
    while (seen := await look()) != wanted:
        assert time.monotonic() < deadline, f"{seen}, never {wanted}"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def two_gateways(
    config: dict[str, Any], student: ScriptedUpstream
) -> AsyncIterator[tuple[RunningGateway, RunningGateway]]:
    """Two that share what `redis.ledger_url` names. The student leaves no connection open between them."""
    student.default = Reply("from the student", usage=Usage(20, 3), headers={"connection": "close"})
    async with running_gateway(config) as first, running_gateway(config) as second:
        yield first, second
