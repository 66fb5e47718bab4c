"""Evidence never crowds out money: its streams yield to a Redis that runs full, and nothing vanishes uncounted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from router.evidence.memory import Stream, bounds
from router.evidence.redis import evidence_url
from router.evidence.streams import AGREEMENTS, DECISIONS, DISAGREEMENTS, STREAMS, shard_key
from router.settings import Config, Secrets, Settings
from tests.router.evidence.conftest import RedisProcess
from tests.router.evidence.test_writer import Writing, writing
from tests.support.gateway import eventually, running_gateway, two_models
from tests.support.scripted import ScriptedUpstream

MEGABYTE = 1024 * 1024
MAXMEMORY = 16 * MEGABYTE
LEDGER_WRITE = "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return 1"


def start(process: RedisProcess, policy: str = "noeviction") -> None:
    process.start("--maxmemory", str(MAXMEMORY), "--maxmemory-policy", policy)


def used(process: RedisProcess) -> int:
    with redis.Redis.from_url(process.url) as client:
        return int(client.info("memory")["used_memory"])


def stream_sizes(process: RedisProcess) -> dict[str, int]:
    with redis.Redis.from_url(process.url) as client:
        return {stream: client.memory_usage(shard_key(0, stream), samples=0) or 0 for stream in STREAMS}


class Spending:
    """Writes to the ledger as fast as it can, until stopped."""

    def __init__(self, process: RedisProcess) -> None:
        self._client = redis.Redis.from_url(process.url)
        self._stopped = False
        self.writes = 0

    def run(self) -> None:
        with self._client as client:
            while not self._stopped:
                client.eval(LEDGER_WRITE, 1, "distill-router:{ledger}:hour:0", f"field {self.writes % 100}", "1")
                self.writes += 1

    async def __aenter__(self) -> Spending:
        self._task = asyncio.create_task(asyncio.to_thread(self.run))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopped = True
        await self._task  # raises what a write was refused with


def record(number: int, size: int) -> bytes:
    return (b'{"n":%d}' % number).ljust(size)


async def put_many(w: Writing, count: int) -> dict[str, int]:
    """A mix of small rows and large pairs; how many of each."""
    counts = dict.fromkeys(STREAMS, 0)
    for number in range(count):
        stream = DECISIONS if number % 10 else (AGREEMENTS if number % 20 else DISAGREEMENTS)
        w.writer.put(stream, "id", record(counts[stream], 500 if stream == DECISIONS else 20_000))
        counts[stream] += 1
        if number % 500 == 499:
            await w.writer.flush()
    await w.writer.flush()
    return counts


def kept(process: RedisProcess, stream: str) -> list[int]:
    return [int(data.split(b":")[1].split(b"}")[0]) for data in process.records(stream)]


async def test_evidence_far_beyond_the_memory_never_refuses_money_and_loses_nothing_uncounted(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    start(redis_process)
    async with writing(tmp_path, redis_process) as w, Spending(redis_process) as spending:
        counts = await put_many(w, 20_000)  # 49 MB
        assert spending.writes > 0
        assert sum(stream_sizes(redis_process).values()) <= 0.6 * MAXMEMORY
        assert used(redis_process) < 0.9 * MAXMEMORY
        assert w.waited() == w.dropped() == 0
        for stream, count in counts.items():
            if not count:
                continue
            numbers = kept(redis_process, stream)
            assert w.counted("records_written", stream) == count
            assert 10 < len(numbers) < count
            assert numbers == list(range(count - len(numbers), count))  # what is gone was trimmed: the oldest


async def test_evidence_gives_way_to_what_else_fills_the_server(redis_process: RedisProcess, tmp_path: Path) -> None:
    start(redis_process)
    async with writing(tmp_path, redis_process) as w:
        counts = await put_many(w, 6000)
        before = sum(stream_sizes(redis_process).values())
        fill(redis_process)
        with pytest.raises(redis.OutOfMemoryError):
            redis_process.call("SET", "one more", "x" * 100_000)
        w.writer.put(DECISIONS, "id", record(counts[DECISIONS], 500))
        await w.writer.flush()
        assert sum(stream_sizes(redis_process).values()) < before
        assert kept(redis_process, DECISIONS)[-1] == counts[DECISIONS]
        assert w.waited() == w.dropped() == 0
        redis_process.call("EVAL", LEDGER_WRITE, 1, "distill-router:{ledger}:hour:0", "field", "1")


async def test_a_full_server_that_hides_its_memory_is_answered_with_trimming(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    """Redis says no before anybody looked: older evidence makes room for newer."""
    start(redis_process)
    redis_process.call("ACL", "SETUSER", "default", "-info")
    async with writing(tmp_path, redis_process) as w:
        counts = await put_many(w, 20_000)
        assert w.waited() == w.dropped() == 0
        for stream, count in counts.items():
            if not count:
                continue
            numbers = kept(redis_process, stream)
            assert w.counted("records_written", stream) == count
            assert numbers == list(range(count - len(numbers), count))


async def test_a_server_filled_by_others_gets_no_evidence_and_the_spool_has_it(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    start(redis_process)
    fill(redis_process)
    async with writing(tmp_path, redis_process) as w:
        w.put(*range(20))
        await w.writer.flush()
        assert w.spooled() == list(range(20))
        assert redis_process.call("EXISTS", shard_key(0, DECISIONS)) == 0  # although there was a little room
        redis_process.call("FLUSHALL")
        await eventually(lambda: kept(redis_process, DECISIONS) == list(range(20)), "the rows")


def fill(process: RedisProcess) -> None:
    """Somebody else's data, up to the brim."""
    with redis.Redis.from_url(process.url) as client, pytest.raises(redis.OutOfMemoryError):
        for number in range(MAXMEMORY):
            client.set(f"other:{number}", "x" * 50_000)


@pytest.mark.parametrize("policy, warns", [("noeviction", False), ("allkeys-lru", True), ("volatile-ttl", True)])
async def test_a_policy_that_evicts_is_warned_of_once(
    redis_process: RedisProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture, policy: str, warns: bool
) -> None:
    start(redis_process, policy)
    with caplog.at_level(logging.WARNING, "distill_router.evidence"):
        async with writing(tmp_path, redis_process) as w:
            await put_many(w, 2000)
    assert [policy in message for message in caplog.messages if "maxmemory-policy" in message] == [True] * warns


async def test_without_maxmemory_only_the_configuration_bounds(redis_process: RedisProcess, tmp_path: Path) -> None:
    redis_process.start()
    async with writing(tmp_path, redis_process) as w:
        counts = await put_many(w, 3000)
        assert {stream: len(kept(redis_process, stream)) for stream in STREAMS} == counts


async def test_the_size_of_a_stream_is_a_metric(redis_process: RedisProcess, tmp_path: Path) -> None:
    start(redis_process)
    async with writing(tmp_path, redis_process) as w:
        await put_many(w, 2000)
        text = w.metrics.exposition().decode()
        sizes = stream_sizes(redis_process)
        for stream in (AGREEMENTS, DECISIONS, DISAGREEMENTS):
            shown = float(text.split(f'evidence_stream_bytes{{stream="{stream}"}} ')[1].split()[0])
            assert 0 < shown < 2 * sizes[stream]


async def test_a_redis_that_hides_its_memory_still_takes_evidence(
    redis_process: RedisProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    redis_process.start()
    redis_process.call("ACL", "SETUSER", "default", "-info")
    async with writing(tmp_path, redis_process) as w:
        w.put(1, 2)
        await w.writer.flush()
        assert kept(redis_process, DECISIONS) == [1, 2]
    assert "not capped" in caplog.text


SIZES = st.dictionaries(
    st.sampled_from(sorted(STREAMS)),
    st.builds(lambda entries, each: Stream(entries, entries * each), st.integers(1, 10**6), st.integers(50, 300_000)),
)


@given(SIZES, st.integers(0, 10**12))
def test_bounded_streams_stay_within_what_is_allowed(streams: dict[str, Stream], allowance: int) -> None:
    bounded = bounds(streams, allowance)
    assert bounded.keys() == streams.keys()
    total = sum(bound * streams[name].size / streams[name].entries for name, bound in bounded.items())
    one_each = sum(stream.size / stream.entries for stream in streams.values())
    assert total <= allowance * (1 + 1e-9) + one_each
    if sum(stream.size for stream in streams.values()) <= allowance:
        assert all(bound >= streams[name].entries * (1 - 1e-9) - 1 for name, bound in bounded.items())


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path_factory.mktemp("r"))
    process.start()
    yield process
    process.stop()


async def test_evidence_goes_to_a_server_of_its_own(
    redis_url: str, own_server: RedisProcess, teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    config: dict[str, Any] = two_models(
        teacher.url, student.url, redis={"url": redis_url, "evidence_url": own_server.url}
    )
    async with running_gateway(config, redis_url=redis_url) as gateway:
        await gateway.ask("chat")
        await eventually(lambda: len(own_server.records(DECISIONS)) == 1, "the row")
        with redis.Redis.from_url(redis_url) as client:
            assert client.exists(shard_key(0, DECISIONS)) == 0
        gateway.redis_url = own_server.url  # where the rows are, for the check of the books


def test_evidence_goes_nowhere_where_there_is_no_redis() -> None:
    plain = Settings(config=Config.model_validate(two_models("http://t", "http://s")), secrets=Secrets())
    assert evidence_url(plain, None) is None
    assert evidence_url(plain, "redis://a") == "redis://a"
    own = two_models("http://t", "http://s", redis={"url": "redis://a", "evidence_url": "redis://b"})
    assert evidence_url(Settings(config=Config.model_validate(own), secrets=Secrets()), "redis://a") == "redis://b"
