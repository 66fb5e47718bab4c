"""The store of trained policies for commands and jobs, which may wait for Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from router.errors import ConfigError, RouterError
from router.evidence.redis import Unreachable, connect_blocking
from router.settings import Settings
from router.trained.store import TrainedStore

T = TypeVar("T")


def with_store(settings: Settings, use: Callable[[TrainedStore], Awaitable[T]]) -> T:
    """Raises ConfigError where no Redis is configured, none answers, or the store refuses."""
    client = connect_blocking(settings, "ledger")
    if client is None:
        raise ConfigError("redis: trained policies are kept in Redis, and none is configured; --out FILE needs none")

    async def evaluate(*arguments: Any) -> Any:
        return client.eval(*arguments)

    async def run() -> T:
        return await use(TrainedStore(evaluate))

    try:
        with client:
            return asyncio.run(run())
    except RouterError as error:
        raise ConfigError(error.message) from None
    except Unreachable as error:
        raise ConfigError(f"redis: no answer: {error}") from error
