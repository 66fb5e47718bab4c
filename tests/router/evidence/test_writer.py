"""The writer: batches into bounded streams, a log that outlives what Redis does, and never a wait for those who put."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from router.evidence.counts import PRODUCED, Totals, read_totals
from router.evidence.redis import connect
from router.evidence.scripts import marker_key
from router.evidence.segment import Frame
from router.evidence.spool import SUFFIX, Log, Spool, read_spool
from router.evidence.streams import AGREEMENTS, DECISIONS, DISAGREEMENTS, LABELS, STREAMS, SUMS, shard_key, shard_of
from router.evidence.writer import EvidenceWriter
from router.evidence_settings import Evidence
from router.record.metrics import DROP_REASONS, Metrics
from router.settings import Config, Secrets, Settings
from tests.router.evidence.conftest import RedisProcess
from tests.router.evidence.test_spool import file_size_limit, unreadable
from tests.support.gateway import eventually, two_models

MEGABYTE = 1024 * 1024
RETRY_S = 0.2
SURE_S = 0.2
DURABLE = ("--appendonly", "yes", "--appendfsync", "everysec")


class Writing:
    """A writer with its metrics and its spool."""

    def __init__(
        self,
        folder: Path,
        redis: RedisProcess | None,
        sure_s: float = SURE_S,
        destination: str = "",
        **config: Any,
    ) -> None:
        self.folder = folder
        self.metrics = Metrics()
        evidence = Evidence(spool_dir=folder, **config)
        settings = Settings(config=Config.model_validate(two_models("http://t", "http://s")), secrets=Secrets())
        client = connect(redis.url, settings) if redis else None
        self.writer = EvidenceWriter(evidence, client, self.metrics, RETRY_S, sure_s, destination)

    def put(self, *numbers: int, stream: str = DECISIONS) -> None:
        for number in numbers:
            self.writer.put(stream, f"{number}", b'{"n":%d}' % number)

    def counted(self, name: str, label: str) -> float:
        found = re.search(
            rf'^distill_router_{name}_total{{\w+="{label}"}} (\S+)', self.metrics.exposition().decode(), re.MULTILINE
        )
        return float(found[1]) if found else 0.0

    def gauge(self, name: str) -> float:
        found = re.search(rf"^distill_router_{name} (\S+)", self.metrics.exposition().decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def dropped(self) -> float:
        return sum(self.counted("records_dropped", reason) for reason in DROP_REASONS)

    def waited(self) -> float:
        return sum(self.counted("records_spooled", stream) for stream in STREAMS)

    def segments(self) -> list[Path]:
        return list(self.folder.glob(f"*{SUFFIX}"))

    def spooled(self, stream: str = DECISIONS) -> list[int]:
        return numbers(list(read_spool(self.folder, stream)))

    def totals(self) -> Totals:
        return read_totals(self.folder)


def numbers(records: list[bytes]) -> list[int]:
    return [int(record[5:-1]) for record in records]


@asynccontextmanager
async def writing(
    folder: Path, redis: RedisProcess | None, sure_s: float = SURE_S, destination: str = "", **config: Any
) -> AsyncIterator[Writing]:
    running = Writing(folder, redis, sure_s, destination, **config)
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


async def test_records_reach_their_streams_in_order_and_leave_the_disk(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    redis_process.start()
    async with writing(tmp_path, redis_process) as w:
        w.put(*range(1200))
        w.put(7, stream=AGREEMENTS)
        w.put(8, stream=DISAGREEMENTS)
        w.put(9, stream=LABELS)
        await w.writer.flush()
        await in_redis(redis_process, *range(1200))
        await in_redis(redis_process, 7, stream=AGREEMENTS)
        await in_redis(redis_process, 8, stream=DISAGREEMENTS)
        await in_redis(redis_process, 9, stream=LABELS)
        assert w.counted("records_produced", DECISIONS) == w.counted("records_written", DECISIONS) == 1200
        assert w.counted("records_spooled", DECISIONS) == 0
        await eventually(lambda: not w.segments(), "an empty spool")
        assert w.totals() == Totals(produced=1203, dropped=0, crashed=0, lost=0, taken=1203)


async def test_everything_about_one_request_lies_on_one_shard(redis_process: RedisProcess, tmp_path: Path) -> None:
    redis_process.start()
    async with writing(tmp_path, redis_process, shards=4) as w:
        for number in range(400):
            w.writer.put(DECISIONS, f"id{number}", b'{"n":%d}' % number)
            w.writer.put(DECISIONS, f"id{number}.shadow", b'{"n":%d}' % (1000 + number))
            w.writer.put(DISAGREEMENTS, f"id{number}", b'{"n":%d}' % number)
        await w.writer.flush()
        for shard in range(4):
            mine = [number for number in range(400) if shard_of(f"id{number}", 4) == shard]
            assert 50 < len(mine) < 150
            assert numbers(redis_process.records(DISAGREEMENTS, shard)) == mine
            rows = numbers(redis_process.records(DECISIONS, shard))
            assert rows == [n for number in mine for n in (number, 1000 + number)]


async def test_a_server_that_is_a_cluster_finds_all_keys_of_a_call_on_one_slot(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    """One node that has all slots: it refuses a script whose keys lie on two of them."""
    redis_process.start("--cluster-enabled", "yes", "--port", str(low_port()))
    redis_process.call("CLUSTER", "ADDSLOTS", *range(16384))
    await eventually(lambda: b"cluster_state:ok" in bytes(str(redis_process.call("CLUSTER", "INFO")), "utf-8"), "slots")
    async with writing(tmp_path, redis_process, shards=5) as w:
        for number in range(100):
            for stream in (DECISIONS, AGREEMENTS, DISAGREEMENTS, LABELS):
                w.put(number, stream=stream)
            w.writer.put(SUMS, "", b'{"k":"s","f":{"n":1}}')
        await w.writer.flush()
        assert w.waited() == 0
        assert sum(len(redis_process.records(LABELS, shard)) for shard in range(5)) == 100
        assert redis_process.call("HGET", shard_key(0, "s"), "n") == b"100"


def low_port() -> int:
    """A free one; that of the cluster's bus is 10,000 higher."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < 55_000:
            return port


async def test_sums_are_added_once_each(redis_process: RedisProcess, tmp_path: Path) -> None:
    redis_process.start()
    async with writing(tmp_path, redis_process, shards=3) as w:
        for _ in range(150):
            w.writer.put(SUMS, "", b'{"k":"retention:2026-01-01","f":{"a|b":0.5,"n":1}}')
            w.writer.put(SUMS, "", b'{"k":"retention:2026-01-02","f":{"n":2}}')
        await w.writer.flush()
        first, second = (shard_key(0, f"retention:2026-01-0{day}") for day in (1, 2))
        assert redis_process.call("HGETALL", first) == {b"a|b": b"75", b"n": b"150"}
        assert redis_process.call("HGETALL", second) == {b"n": b"300"}
        assert int(str(redis_process.call("TTL", first))) > 39 * 24 * 3600
        assert w.counted("records_written", SUMS) == 300


@pytest.mark.parametrize("data", [b"", b"{}", b'{"k":"a","f":{"b":"c"}}', b'{"k":"a","f":{"b":1e999}}'])
async def test_sums_that_are_none_are_dropped_and_counted(
    redis_process: RedisProcess, tmp_path: Path, data: bytes
) -> None:
    redis_process.start()
    async with writing(tmp_path, redis_process) as w:
        w.writer.put(SUMS, "", data)
        w.put(1)
        await in_redis(redis_process, 1)
        assert w.counted("records_dropped", "unknown_stream") == 1
        assert w.totals() == Totals(produced=2, dropped=1, crashed=0, lost=0, taken=1)


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


async def test_a_stream_is_bounded_in_bytes_over_all_its_shards(redis_process: RedisProcess, tmp_path: Path) -> None:
    redis_process.start()
    async with writing(tmp_path, redis_process, shards=2, pairs_max_bytes=MEGABYTE) as w:
        for number in range(3000):
            w.writer.put(DISAGREEMENTS, f"{number}", b'{"n":%06d}' % number + b" " * 10_000)
            if number % 500 == 0:
                await w.writer.flush()
        await w.writer.flush()
        kept = [len(redis_process.records(DISAGREEMENTS, shard)) for shard in range(2)]
        assert all(50 <= count < 250 for count in kept)


async def test_what_is_too_old_leaves_the_stream(redis_process: RedisProcess, tmp_path: Path) -> None:
    redis_process.start()
    for stream, day in ((DECISIONS, 1), (AGREEMENTS, 2)):
        for number in range(300):
            redis_process.call("XADD", shard_key(0, stream), f"{day * 86_400_000}-{number + 1}", "r", "old")
    redis_process.call("SET", shard_key(0, LABELS), "no stream")
    async with writing(tmp_path, redis_process):
        await eventually(lambda: len(redis_process.records(DECISIONS)) < 100, "the trimming of rows")
        await eventually(lambda: len(redis_process.records(AGREEMENTS)) < 100, "the trimming of pairs")


async def test_what_is_too_old_leaves_shards_that_are_not_in_use_any_more(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    redis_process.start()
    for number in range(300):
        redis_process.call("XADD", shard_key(7, AGREEMENTS), f"86400000-{number + 1}", "r", "old")
    async with writing(tmp_path, redis_process, shards=2):
        await eventually(lambda: len(redis_process.records(AGREEMENTS, 7)) < 100, "the trimming")


async def test_a_gateway_whose_clock_is_wrong_removes_nothing_that_is_not_old(
    redis_process: RedisProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_process.start()
    for number in range(300):
        redis_process.call("XADD", shard_key(0, DECISIONS), "*", "r", "new")
        redis_process.call("XADD", shard_key(0, LABELS), f"86400000-{number + 1}", "r", "old")
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 40 * 86_400)
    async with writing(tmp_path, redis_process):
        await eventually(lambda: len(redis_process.records(LABELS)) < 100, "the trimming")  # after that of rows
        assert len(redis_process.records(DECISIONS)) == 300


async def test_closing_writes_what_is_queued(redis_process: RedisProcess, tmp_path: Path) -> None:
    redis_process.start()
    async with writing(tmp_path, redis_process) as w:
        w.put(*range(700))
    await in_redis(redis_process, *range(700))


async def test_what_was_put_before_the_start_is_written(redis_process: RedisProcess, tmp_path: Path) -> None:
    redis_process.start()
    w = Writing(tmp_path, redis_process)
    w.put(1, 2)
    assert not w.folder.exists() or not list(w.folder.iterdir())
    w.writer.start()
    await in_redis(redis_process, 1, 2)
    await w.writer.close()
    w.put(3)  # too late, and no error
    assert w.totals() == Totals(produced=2, dropped=0, crashed=0, lost=0, taken=2)


async def test_redis_that_is_away_at_the_start_gets_everything_when_it_comes(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    async with writing(tmp_path, redis_process) as w:
        w.put(*range(600))
        await w.writer.flush()
        assert w.spooled() == list(range(600))
        await eventually(lambda: w.counted("records_spooled", DECISIONS) == 600, "the count")
        await eventually(lambda: w.gauge("evidence_spool_bytes") > 0, "the gauge")
        await eventually(lambda: w.gauge("evidence_spool_oldest_seconds") > 0, "the age")
        redis_process.start()
        w.put(600)
        await in_redis(redis_process, *range(601))
        await eventually(lambda: not w.segments(), "an empty spool")
        await eventually(lambda: w.counted("records_written", DECISIONS) == 601, "the count")
        await eventually(lambda: w.gauge("evidence_spool_oldest_seconds") == 0, "nothing that waits")


async def test_redis_that_stops_and_comes_back_loses_nothing_and_keeps_the_order(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    redis_process.start(*DURABLE)
    async with writing(tmp_path, redis_process) as w:
        w.put(*range(10))
        await w.writer.flush()
        await asyncio.to_thread(redis_process.stop)
        for number in range(10, 40):
            w.put(number)
            await w.writer.flush()
        assert set(w.spooled()) >= set(range(10, 40))
        await asyncio.to_thread(redis_process.start, *DURABLE)
        for number in range(40, 60):
            w.put(number)
            await asyncio.sleep(0.005)
        await in_redis(redis_process, *range(60))


async def test_a_redis_that_comes_back_without_its_last_writes_gets_them_again_and_nothing_twice(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    """As after a SIGKILL, or a failover: it is set back to what it had a moment ago."""
    redis_process.start()
    async with writing(tmp_path, redis_process, sure_s=30.0) as w:
        w.put(*range(250))
        w.writer.put(SUMS, "", b'{"k":"s","f":{"n":1}}')
        await w.writer.flush()
        redis_process.call("SAVE")
        w.put(*range(250, 400))
        w.writer.put(SUMS, "", b'{"k":"s","f":{"n":10}}')
        await w.writer.flush()
        redis_process.kill()
        redis_process.start()
        assert len(redis_process.records(DECISIONS)) == 250
        w.put(*range(400, 500))
        await in_redis(redis_process, *range(500))
        assert redis_process.call("HGET", shard_key(0, "s"), "n") == b"11"
        await w.writer.flush()
        assert w.counted("records_written", DECISIONS) == 500  # not 650


async def test_a_redis_that_loses_its_last_writes_unnoticed_gets_them_again(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    """Nothing is put after the loss: the log asks before it lets go."""
    redis_process.start()
    async with writing(tmp_path, redis_process, sure_s=1.0) as w:
        w.put(*range(50))
        await w.writer.flush()
        redis_process.call("FLUSHALL")
        await in_redis(redis_process, *range(50))
        await eventually(lambda: not w.segments(), "an empty spool")


async def test_after_a_flush_the_latest_is_there_again_and_nothing_twice(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    redis_process.start()
    async with writing(tmp_path, redis_process, sure_s=30.0) as w:
        w.put(*range(50))
        await w.writer.flush()
        redis_process.call("FLUSHALL")
        w.put(*range(50, 60))
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


async def test_redis_that_freezes_stops_nobody_and_what_it_had_received_is_not_written_twice(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    redis_process.start()
    async with writing(tmp_path, redis_process, queue_max_records=50) as w:
        w.put(0)
        await w.writer.flush()
        redis_process.freeze()
        w.put(*range(1, 81))
        assert w.writer.waiting == 50
        assert w.counted("records_dropped", "queue_full") == 30
        await w.writer.flush()
        assert set(w.spooled()) >= set(range(1, 51))
        redis_process.thaw()
        await in_redis(redis_process, *range(51))
        await eventually(lambda: w.counted("records_written", DECISIONS) == 51, "the count")


async def test_records_are_on_disk_at_once_while_redis_is_frozen(redis_process: RedisProcess, tmp_path: Path) -> None:
    redis_process.start()
    async with writing(tmp_path, redis_process) as w:
        w.put(0)
        await w.writer.flush()
        redis_process.freeze()
        for number in range(1, 5):
            w.put(number)
            await eventually(lambda: number in w.spooled(), "the record")  # noqa: B023  # awaited at once
        assert w.writer.waiting == 0
        redis_process.thaw()


async def test_a_queue_is_bounded_in_bytes_too(tmp_path: Path) -> None:
    async with writing(tmp_path, None, queue_max_bytes=64 * 1024) as w:
        for _ in range(3):
            w.writer.put(DECISIONS, "id", b"x" * 30_000)
        assert w.counted("records_dropped", "queue_full") == 1
        await w.writer.flush()
        w.put(1)
        assert w.counted("records_dropped", "queue_full") == 1


async def test_without_redis_a_full_spool_drops_the_oldest_records_and_counts_them(tmp_path: Path) -> None:
    async with writing(tmp_path, None, spool_max_bytes=MEGABYTE) as w:
        for number in range(40):
            w.writer.put(DECISIONS, "id", b"%05d" % number * 20_000)
            await w.writer.flush()
        kept = [int(record[:5]) for record in read_spool(tmp_path, DECISIONS)]
        assert kept == list(range(40 - len(kept), 40)) and len(kept) >= 8
        assert w.counted("records_dropped", "spool_oldest") == 40 - len(kept)
        assert sum(path.stat().st_size for path in w.segments()) <= MEGABYTE
        assert w.totals() == Totals(produced=40, dropped=0, crashed=0, lost=40 - len(kept), taken=len(kept))


async def test_without_redis_everything_stays_in_the_spool(tmp_path: Path) -> None:
    async with writing(tmp_path, None) as w:
        w.put(1, 2)
        w.put(3, stream=AGREEMENTS)
    assert w.spooled() == [1, 2]
    assert w.spooled(AGREEMENTS) == [3]


async def test_without_room_on_disk_records_go_to_redis_without_it(redis_process: RedisProcess, tmp_path: Path) -> None:
    redis_process.start()
    (tmp_path / "file").write_text("in the way")
    async with writing(tmp_path / "file", redis_process) as w:
        w.put(*range(250))
        await w.writer.flush()
        await in_redis(redis_process, *range(250))
        assert w.counted("records_written", DECISIONS) == 250 and w.dropped() == 0


async def test_without_room_on_disk_and_without_redis_the_queue_is_what_is_left(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    async with writing(tmp_path, redis_process, spool_max_bytes=MEGABYTE, queue_max_records=10) as w:
        for number in range(60):
            w.writer.put(DECISIONS, f"{number}", b'{"n":%02d}' % number + b" " * 50_000)
            await asyncio.sleep(0.06 if w.writer.waiting < 10 else 0)
        lost = w.counted("records_dropped", "spool_full")
        assert lost > 10
        redis_process.start()
        await eventually(lambda: len(redis_process.records(DECISIONS)) >= 60 - lost, "the rest")
        kept = [int(record[5:7]) for record in redis_process.records(DECISIONS)]
        assert kept == list(range(int(60 - lost)))
        await w.writer.flush()
        await eventually(lambda: w.counted("records_written", DECISIONS) == 60 - lost, "the count")
        assert w.totals() == Totals(produced=60, dropped=int(lost), crashed=0, lost=0, taken=int(60 - lost))


async def test_what_redis_lost_of_batches_that_were_never_in_the_log_stops_nothing(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    redis_process.start()
    (tmp_path / "file").write_text("in the way")
    async with writing(tmp_path / "file", redis_process) as w:
        w.put(1)
        await in_redis(redis_process, 1)
        redis_process.call("FLUSHALL")
        w.put(2)
        await in_redis(redis_process, 2)


@pytest.mark.parametrize("marker, lost", [(4, 10), (5, 0)])
async def test_whether_the_last_batch_without_the_log_arrived_is_asked_of_redis(
    redis_process: RedisProcess, tmp_path: Path, marker: int, lost: int
) -> None:
    dead = Log.create(Spool(tmp_path, MEGABYTE))
    dead.counts.cells[PRODUCED] = 10
    dead.counts.direct(shard=0, number=5, count=10)
    dead.close()
    redis_process.start()
    redis_process.call("SET", marker_key(0, dead.producer), marker)
    async with writing(tmp_path, redis_process) as w:
        await eventually(lambda: w.totals() == Totals(10, 0, lost, 0, 10 - lost), "the books")
        assert w.counted("records_dropped", "crash") == lost


async def test_what_ended_processes_left_is_replayed_and_streams_of_another_version_are_not(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    log = Log.create(Spool(tmp_path, MEGABYTE))
    log.append([Frame(0, 1, 2, 0.0, {DECISIONS: [b'{"n":1}'], "somebody-elses": [b'{"n":9}']})])
    log.close()
    redis_process.start()
    async with writing(tmp_path, redis_process) as w:
        await in_redis(redis_process, 1)
        await eventually(lambda: not w.segments(), "an empty spool")
        assert w.counted("records_dropped", "unknown_stream") == 1
        assert w.totals() == Totals(produced=0, dropped=0, crashed=0, lost=1, taken=1)
    assert redis_process.call("KEYS", "*somebody*") == []


async def test_what_is_damaged_is_counted_and_the_rest_arrives(redis_process: RedisProcess, tmp_path: Path) -> None:
    log = Log.create(Spool(tmp_path, MEGABYTE))
    for number in range(3):
        log.append([Frame(0, number + 1, log.total + 1, 0.0, {DECISIONS: [b'{"n":%d}' % number]})])
    log.close()
    (path,) = [segment.path for segment in log.segments]
    data = path.read_bytes()
    path.write_bytes(data.replace(b'{"n":1}', b'{"n":7}'))
    redis_process.start()
    async with writing(tmp_path, redis_process) as w:
        await in_redis(redis_process, 0, 2)
        await eventually(lambda: w.counted("records_dropped", "damaged") == 1, "the count")


async def test_a_log_that_cannot_be_read_for_a_moment_arrives_whole(
    redis_process: RedisProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of an ended process; this one's own goes its way meanwhile."""
    dead = Log.create(Spool(tmp_path, MEGABYTE))
    for number in range(3):
        dead.append([Frame(0, number + 1, number + 1, 0.0, {DECISIONS: [b'{"n":%d}' % number]})])
        dead.rotate()
    dead.close()
    redis_process.start()
    with unreadable(dead.segments[1].path):
        async with writing(tmp_path, redis_process) as w:
            await in_redis(redis_process, 0)
            w.put(7)
            await in_redis(redis_process, 0, 7)
            assert w.dropped() == 0 and not any("Redis does not take" in line for line in caplog.messages)
    async with writing(tmp_path, redis_process) as w:
        await in_redis(redis_process, 0, 7, 1, 2)
        assert w.dropped() == 0


async def test_its_own_log_that_cannot_be_read_for_a_moment_arrives_whole(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    async with writing(tmp_path, redis_process) as w:
        w.put(*range(10))
        await w.writer.flush()
        (path,) = w.segments()
        with unreadable(path):
            redis_process.start()
            await asyncio.sleep(3 * RETRY_S)
        await in_redis(redis_process, *range(10))
        assert w.dropped() == 0


async def test_gateways_that_share_a_folder_and_no_redis_keep_to_their_own_logs(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    redis_process.start()
    (tmp_path / "gone").mkdir()
    away = RedisProcess(tmp_path / "gone")
    async with writing(tmp_path / "spool", away, destination="a") as a:
        a.put(1, 2)
    async with (
        writing(tmp_path / "spool", redis_process, destination="b") as b,
        writing(tmp_path / "spool", None, destination="none", spool_max_bytes=MEGABYTE) as alone,
    ):
        for number in range(40):
            alone.writer.put(LABELS, "id", b"%05d" % number * 20_000)
            await alone.writer.flush()
        b.put(3)
        await in_redis(redis_process, 3)
        await eventually(lambda: b.spooled() == [1, 2], "its own log to be empty")
        assert alone.counted("records_dropped", "spool_oldest") > 0
        assert alone.counted("records_dropped", "spool_full") == 0
        assert redis_process.call("XLEN", shard_key(0, LABELS)) == 0
    away.start()
    async with writing(tmp_path / "spool", away, destination="a"):
        await in_redis(away, 1, 2)
    away.stop()


@pytest.mark.parametrize("redis_runs", [True, False])
async def test_a_disk_that_was_full_at_the_start_has_the_log_when_there_is_room(
    redis_runs: bool, redis_process: RedisProcess, tmp_path: Path
) -> None:
    if redis_runs:
        redis_process.start()
    w = Writing(tmp_path, redis_process if redis_runs else None, sure_s=30.0)
    w.put(1)
    with file_size_limit(0):
        w.writer.start()
        await w.writer.flush()
        assert w.totals().produced == 0
    w.put(2, 3)
    await w.writer.flush()
    assert w.spooled() == [2, 3]
    await w.writer.close()
    without_log = 0 if redis_runs else 1
    assert w.counted("records_dropped", "spool_full") == without_log
    assert w.totals() == Totals(produced=3, dropped=without_log, crashed=0, lost=0, taken=3 - without_log)
    if redis_runs:
        assert numbers(redis_process.records(DECISIONS)) == [1, 2, 3]


async def test_a_log_of_a_live_process_is_left_to_it(redis_process: RedisProcess, tmp_path: Path) -> None:
    other = Log.create(Spool(tmp_path, MEGABYTE))
    other.append([Frame(0, 1, 1, 0.0, {DECISIONS: [b'{"n":1}']})])
    redis_process.start()
    async with writing(tmp_path, redis_process) as w:
        w.put(2)
        await in_redis(redis_process, 2)
        await eventually(lambda: w.spooled() == [1], "its own log to be empty")
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
        await eventually(lambda: not one.segments(), "an empty spool")
        assert sorted(numbers(redis_process.records(DECISIONS))) == list(range(600))


async def test_a_key_in_the_way_holds_its_shard_up_and_half_a_batch_is_never_written(
    redis_process: RedisProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    redis_process.start()
    redis_process.call("SET", shard_key(0, AGREEMENTS), "in the way")
    async with writing(tmp_path, redis_process) as w:
        for number in range(5):
            w.put(number)
            w.put(number, stream=AGREEMENTS)
        await w.writer.flush()
        assert redis_process.call("EXISTS", shard_key(0, DECISIONS)) == 0
        assert any(f"{shard_key(0, AGREEMENTS)} in Redis is no stream" in line for line in caplog.messages)
        assert not any("memory" in line for line in caplog.messages)
        redis_process.call("DEL", shard_key(0, AGREEMENTS))
        await in_redis(redis_process, *range(5))
        await in_redis(redis_process, *range(5), stream=AGREEMENTS)


async def test_how_far_an_archive_is_behind_is_a_metric(redis_process: RedisProcess, tmp_path: Path) -> None:
    redis_process.start()
    for shard in range(2):
        redis_process.call("XGROUP", "CREATE", shard_key(shard, DECISIONS), "archive", "$", "MKSTREAM")
        for number in range(5):
            redis_process.call("XADD", shard_key(shard, DECISIONS), "*", "r", f"{number}")
    async with writing(tmp_path, redis_process, shards=2) as w:
        wanted = 'archive_lag_records{stream="decisions"} 10.0'
        await eventually(lambda: wanted in w.metrics.exposition().decode(), "the lag")
        assert 'archive_lag_records{stream="labels"}' not in w.metrics.exposition().decode()


@pytest.mark.parametrize("redis_runs", [True, False])
async def test_putting_needs_no_turn_of_the_event_loop(
    redis_runs: bool, redis_process: RedisProcess, tmp_path: Path
) -> None:
    if redis_runs:
        redis_process.start()
    async with writing(tmp_path, redis_process) as w:
        w.put(*range(100))
        assert w.writer.waiting == 100
