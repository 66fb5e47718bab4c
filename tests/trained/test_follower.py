"""Slots that follow the store and files: swapped on a promotion, and left alone by whatever cannot be loaded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis
import redis.asyncio as aioredis
from prometheus_client import CollectorRegistry

from policies.learn.trained import Slots
from router.trained import follower as follower_module
from router.trained.follower import TrainedFollower
from router.trained.metrics import TrainedMetrics
from router.trained.store import PREFIX, TrainedStore
from tests.support.gateway import eventually
from tests.support.policy_parts import Estimator
from tests.support.redis_process import RedisProcess
from tests.trained.policies import loads, record

NAME = "auto:difficulty"


class Worker:
    """One worker's slots and what keeps them."""

    def __init__(self, store: TrainedStore | None, *names: str) -> None:
        self.registry = CollectorRegistry()
        self.slots = Slots()
        for name in names or (NAME,):
            self.slots.named(name)
        self.follower = TrainedFollower(store, self.slots, TrainedMetrics(self.registry), loads)

    def version(self, name: str = NAME) -> str | None:
        current = self.slots.named(name).current
        return current.version if current else None

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"distill_router_{name}", {"policy": NAME, **labels})


async def promote(store: TrainedStore, version: str, data: bytes | None = None) -> None:
    number = await store.put(NAME, data or f"difficulty {version}".encode(), record(version))
    await store.promote(NAME, number)


async def reaches(workers: list[Worker], version: str) -> None:
    await eventually(lambda: all(worker.version() == version for worker in workers), f"version {version}")


@asynccontextmanager
async def following(worker: Worker) -> AsyncIterator[None]:
    await worker.follower.start()
    try:
        yield
    finally:
        await worker.follower.close()


async def test_what_is_in_force_is_there_when_the_worker_has_started(store: TrainedStore) -> None:
    await promote(store, "00000001")
    worker = Worker(store)
    async with following(worker):
        assert worker.version() == "00000001"


async def test_a_promotion_and_a_rollback_reach_every_worker(
    store: TrainedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "FOLLOW_EVERY_S", 0.01)
    workers = [Worker(store), Worker(store)]
    async with following(workers[0]), following(workers[1]):
        assert [worker.version() for worker in workers] == [None, None]
        for version in ("00000001", "00000002"):
            await promote(store, version)
            await reaches(workers, version)
        await store.rollback(NAME)
        await reaches(workers, "00000001")


async def test_a_slot_that_is_made_later_is_filled_at_the_next_turn(store: TrainedStore) -> None:
    await promote(store, "00000001")
    worker = Worker(store, "other:difficulty")
    async with following(worker):
        worker.slots.named(NAME)
        await worker.follower.turn()
        assert worker.version() == "00000001"
        assert worker.version("other:difficulty") is None


async def test_a_slot_that_no_policy_names_any_more_is_left_alone_until_one_does_again(store: TrainedStore) -> None:
    await promote(store, "00000001")
    worker = Worker(store)
    await worker.follower.turn()
    assert worker.metric("trained_policy_workers", version="00000001") == 1
    worker.follower.configure([])
    assert worker.metric("trained_policy_workers", version="00000001") == 0
    await promote(store, "00000002")
    await worker.follower.turn()
    assert worker.version() == "00000001"
    await worker.follower.turn(coming=[NAME])
    worker.follower.configure([NAME])
    assert worker.version() == "00000002"
    assert worker.metric("trained_policy_workers", version="00000002") == 1


@pytest.mark.parametrize(
    ("data", "why"), [(b"nonsense", "it is no trained policy"), (b"cascade 00000002", "kind cascade, not difficulty")]
)
async def test_what_cannot_be_loaded_changes_nothing_and_is_told_and_counted_once(
    store: TrainedStore, caplog: pytest.LogCaptureFixture, data: bytes, why: str
) -> None:
    await promote(store, "00000001")
    worker = Worker(store)
    await worker.follower.turn()
    await promote(store, "00000002", data)
    with caplog.at_level(logging.ERROR, "distill_router.trained"):
        for _ in range(3):
            await worker.follower.turn()
    assert worker.version() == "00000001"
    assert worker.metric("trained_policy_loads_total", result="bad") == 1
    assert [why in message for message in caplog.messages] == [True]
    assert "version 00000001 stays" in caplog.text


async def test_a_file_that_breaks_the_loader_stops_no_other_slot(
    store: TrainedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(data: bytes) -> Estimator:
        if data.startswith(b"hostile"):
            raise AttributeError("'int' object has no attribute 'isdigit'")
        return loads(data)

    worker = Worker(store, NAME, "other:difficulty")
    monkeypatch.setattr(worker.follower, "_loads", broken)
    await promote(store, "00000001", b"hostile")
    number = await store.put("other:difficulty", b"difficulty 00000002", record("00000002"))
    await store.promote("other:difficulty", number)
    await worker.follower.turn()
    assert (worker.version(), worker.version("other:difficulty")) == (None, "00000002")
    assert worker.metric("trained_policy_loads_total", result="bad") == 1


async def test_after_a_bad_version_the_next_good_one_is_taken(store: TrainedStore) -> None:
    worker = Worker(store)
    await promote(store, "00000001", b"nonsense")
    await worker.follower.turn()
    await promote(store, "00000002")
    await worker.follower.turn()
    assert worker.version() == "00000002"


async def test_metrics_say_how_many_workers_have_which_version(store: TrainedStore) -> None:
    worker = Worker(store)
    await worker.follower.turn()
    assert worker.metric("trained_policy_loads_total", result="loaded") == 0
    for version in ("00000001", "00000002"):
        await promote(store, version)
        for _ in range(3):
            await worker.follower.turn()
    assert worker.metric("trained_policy_workers", version="00000001") == 0
    assert worker.metric("trained_policy_workers", version="00000002") == 1
    assert worker.metric("trained_policy_loads_total", result="loaded") == 2


async def test_while_redis_is_away_the_last_version_stays_and_afterwards_promotions_come_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisProcess(tmp_path) as server:
        client = aioredis.Redis.from_url(server.url, socket_timeout=5)
        store = TrainedStore(client.eval)
        await promote(store, "00000001")
        worker = Worker(store)
        await worker.follower.turn()
        await asyncio.to_thread(server.kill)
        for _ in range(2):
            await worker.follower.turn()
        assert worker.version() == "00000001"
        assert len([message for message in caplog.messages if "cannot be read" in message]) == 1
        await asyncio.to_thread(server.start)
        await promote(store, "00000002")
        await worker.follower.turn()
        assert worker.version() == "00000002"
        await client.aclose()


async def test_what_redis_has_lost_stays_in_the_worker_and_a_new_promotion_is_taken(
    store: TrainedStore, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await promote(store, "00000001")
    worker = Worker(store)
    await worker.follower.turn()
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    for _ in range(2):
        await worker.follower.turn()
    assert worker.version() == "00000001"
    assert [message for message in caplog.messages if "Redis has lost" in message] == [
        "Redis has lost the trained policy auto:difficulty; its last known version stays in this worker"
    ]
    await promote(store, "00000002")  # under number 1 again
    await worker.follower.turn()
    assert worker.version() == "00000002"


async def test_a_version_in_force_whose_file_is_gone_is_told_and_changes_nothing(
    store: TrainedStore, redis_url: str
) -> None:
    await promote(store, "00000001")
    worker = Worker(store)
    await worker.follower.turn()
    await promote(store, "00000002")
    with redis.Redis.from_url(redis_url) as client:
        client.delete(f"{PREFIX}{NAME}:files")
    await worker.follower.turn()
    assert worker.version() == "00000001"
    assert worker.metric("trained_policy_loads_total", result="bad") == 1


async def test_a_file_is_followed_without_redis(tmp_path: Path) -> None:
    path = tmp_path / "trained.policy"
    name = f"file:cascade:{path}"
    worker = Worker(None, name, NAME)
    await worker.follower.turn()
    assert worker.version(name) is None
    path.write_text("cascade 00000001")
    await worker.follower.turn()
    assert worker.version(name) == "00000001"
    fresh = tmp_path / "fresh"
    fresh.write_text("cascade 00000002")
    fresh.replace(path)
    await worker.follower.turn()
    assert worker.version(name) == "00000002"
    path.unlink()
    await worker.follower.turn()
    assert worker.version(name) == "00000002"


async def test_a_file_of_another_kind_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "trained.policy"
    path.write_text("cascade 00000001")
    name = f"file:difficulty:{path}"
    worker = Worker(None, name)
    await worker.follower.turn()
    assert worker.version(name) is None and "it is of kind cascade, not difficulty" in caplog.text


async def test_a_file_that_is_missing_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker(None, f"file:cascade:{tmp_path}/none")
    for _ in range(3):
        await worker.follower.turn()
    assert len(caplog.messages) == 1 and "No such file or directory" in caplog.text
