"""A Redis of its own for the commands that read and change evidence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from router.bundled_redis import bundled_redis
from tests.router.evidence.conftest import RedisProcess, redis_process

__all__ = ["redis_process"]


@pytest.fixture
def client(redis_process: RedisProcess) -> Iterator[redis.Redis]:
    redis_process.start("--save", "")
    with redis.Redis.from_url(redis_process.url) as client:
        yield client


@pytest.fixture(scope="module")
def redis_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """As a running gateway with `redis: {url: embedded}` has it."""
    folder = tmp_path_factory.mktemp("redis")
    with bundled_redis(folder):
        yield folder


@pytest.fixture
def embedded(redis_folder: Path) -> Iterator[redis.Redis]:
    """A client of the Redis in `redis_folder`, emptied."""
    with redis.Redis.from_url((redis_folder / "redis.url").read_text()) as client:
        client.flushall()
        yield client
