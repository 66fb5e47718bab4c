"""Real parts for the commands: the gateway tests', and a Redis of its own for those that read and change evidence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from policies.difficulty.train import train
from policies.learn.artifact import dumps
from policies.learn.example import Example
from policies.query import Query
from router.bundled_redis import bundled_redis
from tests.router.conftest import embedded_models, redis_url, served_teacher, student, teacher
from tests.router.evidence.conftest import RedisProcess, redis_process

__all__ = ["embedded_models", "redis_process", "redis_url", "served_teacher", "student", "teacher"]


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


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A difficulty policy for route `auto` that knows proofs to be hard."""
    asked = [(f"{n}", "prove it" if n % 3 == 0 else f"say {n}", float(n % 3 == 0)) for n in range(300)]
    path = tmp_path_factory.mktemp("trained") / "difficulty"
    path.write_bytes(
        dumps(train([Example(n, Query(last=text, whole=text, route="auto"), harm, group=n) for n, text, harm in asked]))
    )
    return path
