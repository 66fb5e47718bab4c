"""Two Redis: one for many tests, emptied before each, and one that a test may kill."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.router.evidence.conftest import RedisProcess, redis_process

__all__ = ["redis_process"]

KEEPING = ("--appendonly", "yes", "--appendfsync", "always")
Connect = Callable[[], aioredis.Redis]


@asynccontextmanager
async def clients(url: str) -> AsyncIterator[Connect]:
    """Makes clients as a gateway has them, each with connections of its own."""
    made: list[aioredis.Redis] = []

    def client() -> aioredis.Redis:
        made.append(aioredis.Redis.from_url(url, socket_timeout=2, retry=Retry(NoBackoff(), 0)))
        return made[-1]

    try:
        yield client
    finally:
        for each in made:
            await each.aclose()


@pytest.fixture(scope="module")
def lasting_redis() -> Iterator[RedisProcess]:
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        process = RedisProcess(Path(folder))
        process.start("--save", "")
        try:
            yield process
        finally:
            process.stop()


@pytest.fixture
async def connect(lasting_redis: RedisProcess) -> AsyncIterator[Connect]:
    lasting_redis.call("FLUSHALL")
    async with clients(lasting_redis.url) as client:
        yield client


@pytest.fixture
async def connect_to_killable(redis_process: RedisProcess) -> AsyncIterator[Connect]:
    """To the one that a test may kill; it keeps what is written."""
    redis_process.start(*KEEPING)
    async with clients(redis_process.url) as client:
        yield client
