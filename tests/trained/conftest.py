"""A Redis of its own, and the store of trained policies in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import redis
import redis.asyncio as aioredis

from router.bundled_redis import bundled_redis
from router.trained.store import TrainedStore


@pytest.fixture(scope="package")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with bundled_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """Emptied."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[TrainedStore]:
    async with aioredis.Redis.from_url(redis_url) as client:
        yield TrainedStore(client.eval)
