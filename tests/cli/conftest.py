"""A Redis of its own for the commands that read and change evidence."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.router.evidence.conftest import RedisProcess, redis_process

__all__ = ["redis_process"]


@pytest.fixture
def client(redis_process: RedisProcess) -> Iterator[redis.Redis]:
    redis_process.start("--save", "")
    with redis.Redis.from_url(redis_process.url) as client:
        yield client
