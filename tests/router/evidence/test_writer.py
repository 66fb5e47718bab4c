"""The writer: batches into bounded streams, a spool while Redis is away, and never a wait for those who put."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from router.evidence.redis import connect
from router.evidence.spool import Spool, read_spool
from router.evidence.writer import AGREEMENTS, DECISIONS, DISAGREEMENTS, EvidenceWriter
from router.record.metrics import DROP_REASONS, Metrics
from router.settings import Config, Evidence, Secrets, Settings
from tests.router.evidence.conftest import RedisProcess
from tests.support.gateway import eventually, two_models

MEGABYTE = 1024 * 1024
REPLAY_EVERY_S = 0.2


class Writing:
    """A writer with its metrics and its spool."""

    def __init__(self, folder: Path, redis: RedisProcess | None, **config: Any) -> None:
        self.folder = folder
        self.metrics = Metrics()
        evidence = Evidence(spool_dir=folder, **config)
        settings = Settings(config=Config.model_validate(two_models("http://t", "http://s")), secrets=Secrets())
        client = connect(redis.url, settings) if redis else None
        self.writer = EvidenceWriter(evidence, client, self.metrics, REPLAY_EVERY_S)

    def put(self, *numbers: int, stream: str = DECISIONS) -> None:
        for number in numbers:
            self.writer.put(stream, b'{"n":%d}' % number)

    def counted(self, name: str, label: str) -> float:
        found = re.search(
            rf'^distill_router_{name}_total{{\w+="{label}"}} (\S+)', self.metrics.exposition().decode(), re.MULTILINE
        )
        return float(found[1]) if found else 0.0

    def dropped(self) -> float:
        return sum(self.counted("records_dropped", reason) for reason in DROP_REASONS)

    def files(self) -> list[Path]:
        return list(self.folder.iterdir())

    def spooled(self, stream: str = DECISIONS) -> list[int]:
        return numbers(list(read_spool(self.folder, stream)))


def numbers(records: list[bytes]) -> list[int]:
    return [int(record[5:-1]) for record in records]


@asynccontextmanager
async def writing(folder: Path, redis: RedisProcess | None, **config: Any) -> AsyncIterator[Writing]:
    running = Writing(folder, redis, **config)
    running.writer.start()
    try:
        yield running
    finally:
        await running.writer.close()


async def in_redis(redis: RedisProcess, *wanted: int, stream: str = DECISIONS) -> None:
    """Wait until a stream holds exactly these, in this order."""
    last: list[int] = []

    def there() -> bool:
        last[:] = numbers(redis.records(stream))
        return len(last) >= len(wanted)

    await eventually(there, f"{len(wanted)} records")
    assert last == list(wanted)


async def test_records_reach_their_streams_in_order(redis_process: RedisProcess, tmp_path: Path) -> None:
    redis_process.start()
    async with writing(tmp_path, redis_process) as w:
        w.put(*range(1200))
        w.put(7, stream=AGREEMENTS)
        w.put(8, stream=DISAGREEMENTS)
        await w.writer.flush()
        await in_redis(redis_process, *range(1200))
        await in_redis(redis_process, 7, stream=AGREEMENTS)
        await in_redis(redis_process, 8, stream=DISAGREEMENTS)
        assert w.counted("records_written", DECISIONS) == 1200
        assert not w.files()


async def test_a_stream_is_bounded_about_where_the_configuration_says(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    redis_process.start()
    async with writing(tmp_path, redis_process, decisions_max=500) as w:
        w.put(*range(3000))
        await w.writer.flush()
        kept = numbers(redis_process.records(DECISIONS))
        assert 500 <= len(kept) < 1000
        assert kept == list(range(3000 - len(kept), 3000))


async def test_closing_writes_what_is_queued(redis_process: RedisProcess, tmp_path: Path) -> None:
    redis_process.start()
    async with writing(tmp_path, redis_process) as w:
        w.put(*range(700))
    await in_redis(redis_process, *range(700))


async def test_redis_that_is_away_at_the_start_gets_everything_when_it_comes(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    async with writing(tmp_path, redis_process) as w:
        w.put(*range(600))
        await w.writer.flush()
        assert w.spooled() == list(range(600))
        assert w.counted("records_spooled", DECISIONS) == 600
        redis_process.start()
        w.put(600)
        await in_redis(redis_process, *range(601))
        await eventually(lambda: not w.spooled(), "an empty spool")
        await eventually(lambda: w.counted("records_written", DECISIONS) == 601, "the count")


async def test_redis_that_dies_and_comes_back_loses_nothing_and_keeps_the_order(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    keep = ("--appendonly", "yes", "--appendfsync", "always")
    redis_process.start(*keep)
    async with writing(tmp_path, redis_process) as w:
        w.put(*range(10))
        await w.writer.flush()
        await asyncio.to_thread(redis_process.stop)
        for number in range(10, 40):
            w.put(number)
            await w.writer.flush()
        assert w.spooled() == list(range(10, 40))
        await asyncio.to_thread(redis_process.start, *keep)
        for number in range(40, 60):
            w.put(number)
            await asyncio.sleep(0.005)
        await in_redis(redis_process, *range(60))


async def test_redis_that_is_full_takes_nothing_and_gets_everything_when_there_is_room(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    redis_process.start("--maxmemory", "1", "--maxmemory-policy", "noeviction")
    async with writing(tmp_path, redis_process) as w:
        w.put(*range(20))
        await w.writer.flush()
        assert w.spooled() == list(range(20))
        redis_process.call("CONFIG", "SET", "maxmemory", "0")
        await in_redis(redis_process, *range(20))


async def test_redis_that_freezes_stops_nobody(redis_process: RedisProcess, tmp_path: Path) -> None:
    redis_process.start()
    async with writing(tmp_path, redis_process, queue_max_records=50) as w:
        redis_process.freeze()
        w.put(*range(80))
        assert w.writer.waiting == 50
        assert w.counted("records_dropped", "queue_full") == 30
        await w.writer.flush()
        assert w.spooled() == list(range(50))
        redis_process.thaw()


async def test_a_queue_is_bounded_in_bytes_too(tmp_path: Path) -> None:
    async with writing(tmp_path, None, queue_max_bytes=64 * 1024) as w:
        for _ in range(3):
            w.writer.put(DECISIONS, b"x" * 30_000)
        assert w.counted("records_dropped", "queue_full") == 1
        await w.writer.flush()
        w.put(1)
        assert w.counted("records_dropped", "queue_full") == 1


async def test_without_redis_a_full_spool_drops_the_oldest_records_and_counts_them(tmp_path: Path) -> None:
    async with writing(tmp_path, None, spool_max_bytes=MEGABYTE) as w:
        for number in range(40):
            w.writer.put(DECISIONS, b"%05d" % number * 20_000)
            await w.writer.flush()
        kept = [int(record[:5]) for record in read_spool(tmp_path, DECISIONS)]
        assert kept == list(range(40 - len(kept), 40)) and len(kept) >= 8
        assert w.counted("records_dropped", "spool_oldest") == 40 - len(kept)
        assert sum(path.stat().st_size for path in w.files()) <= MEGABYTE


async def test_without_redis_everything_stays_in_the_spool(tmp_path: Path) -> None:
    async with writing(tmp_path, None) as w:
        w.put(1, 2)
        w.put(3, stream=AGREEMENTS)
    assert w.spooled() == [1, 2]
    assert w.spooled(AGREEMENTS) == [3]


async def test_what_a_crash_left_is_replayed_half_a_line_and_strange_streams_are_not(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    (tmp_path / "00001-1.spool").write_bytes(
        DECISIONS.encode() + b'\t{"n":1}\nsomebody-elses-key\t{"n":9}\n' + DECISIONS.encode() + b'\t{"n":2'
    )
    redis_process.start()
    async with writing(tmp_path, redis_process):
        await in_redis(redis_process, 1)
        await eventually(lambda: not list(tmp_path.iterdir()), "an empty spool")
    assert redis_process.call("EXISTS", "somebody-elses-key") == 0


async def test_a_segment_of_a_live_process_is_left_to_it(redis_process: RedisProcess, tmp_path: Path) -> None:
    other = Spool(tmp_path, MEGABYTE)
    other.append([(DECISIONS, b'{"n":1}')])
    redis_process.start()
    async with writing(tmp_path, redis_process) as w:
        w.put(2)
        await in_redis(redis_process, 2)
        assert w.spooled() == [1]
        other.close()  # its process ends
        await in_redis(redis_process, 2, 1)


async def test_two_writers_on_one_spool_lose_and_repeat_nothing(redis_process: RedisProcess, tmp_path: Path) -> None:
    async with writing(tmp_path, redis_process) as one, writing(tmp_path, redis_process) as two:
        one.put(*range(0, 300))
        two.put(*range(300, 600))
        await one.writer.flush()
        await two.writer.flush()
        redis_process.start()
        await eventually(lambda: len(redis_process.records(DECISIONS)) >= 600, "all records")
        await eventually(lambda: not one.spooled(), "an empty spool")
        assert sorted(numbers(redis_process.records(DECISIONS))) == list(range(600))


async def test_a_replay_that_breaks_off_goes_on_where_it_was(redis_process: RedisProcess, tmp_path: Path) -> None:
    """The second batch of the segment goes to a key that is no stream."""
    spool = Spool(tmp_path, MEGABYTE)
    spool.append([(DECISIONS, b'{"n":%d}' % n) for n in range(500)] + [(AGREEMENTS, b'{"n":500}')])
    spool.close()
    redis_process.start()
    redis_process.call("SET", AGREEMENTS, "in the way")
    async with writing(tmp_path, redis_process) as w:
        await in_redis(redis_process, *range(500))
        await eventually(lambda: w.spooled(AGREEMENTS) == [500] and not w.spooled(), "a shortened segment")
        redis_process.call("DEL", AGREEMENTS)
        await in_redis(redis_process, 500, stream=AGREEMENTS)
        assert numbers(redis_process.records(DECISIONS)) == list(range(500))


@pytest.mark.parametrize("redis_runs", [True, False])
async def test_putting_needs_no_turn_of_the_event_loop(
    redis_runs: bool, redis_process: RedisProcess, tmp_path: Path
) -> None:
    if redis_runs:
        redis_process.start()
    async with writing(tmp_path, redis_process) as w:
        w.put(*range(100))
        assert w.writer.waiting == 100
