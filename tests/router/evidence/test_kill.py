"""Whatever is killed, and in what state Redis is then: every record is in Redis once, or is counted as lost.

Real processes are killed at moments that differ from run to run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from router.evidence.counts import read_totals
from router.evidence.streams import DECISIONS, DISAGREEMENTS, shard_key
from router.lifeline import background_child
from tests.router.evidence.conftest import RedisProcess
from tests.router.evidence.putting import SHARDS
from tests.router.evidence.test_writer import DURABLE, writing
from tests.support.gateway import eventually
from tests.support.router_process import until


class Killed:
    """The books of the processes that were killed on one folder."""

    def __init__(self, folder: Path, redis: RedisProcess) -> None:
        self.folder = folder
        self.redis = redis
        self.names: list[str] = []

    @contextmanager
    def putting(self) -> Iterator[None]:
        """A process that has put some hundred records when the context begins, and is killed when it ends."""
        name = f"p{len(self.names)}"
        self.names.append(name)
        arguments = [sys.executable, "-m", "tests.router.evidence.putting", str(self.folder), self.redis.url, name]
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(arguments, stderr=log, preexec_fn=background_child)
        try:
            until(lambda: self.said(name)[1] > 300, "some records")
            yield
        finally:
            process.kill()
            process.wait()

    def said(self, name: str) -> tuple[int, int]:
        """How many it was about to put, and had put."""
        path = self.folder / f"{name}.said"
        data = path.read_bytes() if path.exists() else b""
        cells = memoryview(data).cast("Q") if len(data) == 16 else (0, 0)
        return cells[0], cells[1]

    def found(self) -> Counter[tuple[str, int]]:
        """How often each record is in Redis."""
        records = [
            json.loads(data)
            for stream in (DECISIONS, DISAGREEMENTS)
            for shard in range(SHARDS)
            for data in self.redis.records(stream, shard)
        ]
        return Counter((record["w"], record["n"]) for record in records)

    def added(self) -> int:
        """How many records of SUMS are in Redis."""
        reply = self.redis.call("HGETALL", shard_key(0, "sums"))
        assert isinstance(reply, dict)
        return sum(int(value) for value in reply.values())

    async def recover(self) -> float:
        """A living process takes everything over; the losses that it shows."""
        async with writing(self.folder / "spool", self.redis, shards=SHARDS) as w:
            await eventually(lambda: not w.segments(), "an empty spool")
            await eventually(lambda: w.gauge("evidence_spool_oldest_seconds") == 0, "nothing that waits")
            return w.counted("records_dropped", "crash")

    def check(self) -> None:
        """Nothing twice, and the books agree."""
        found = self.found()
        assert set(found.values()) <= {1}
        totals = read_totals(self.folder / "spool")
        before, after = (sum(self.said(name)[place] for name in self.names) for place in (0, 1))
        assert after <= totals.produced <= before
        assert totals.produced == len(found) + self.added() + totals.dropped + totals.crashed + totals.lost
        assert len(found) + self.added() == totals.taken


@pytest.fixture
def killed(redis_process: RedisProcess, tmp_path: Path) -> Killed:
    redis_process.start(*DURABLE)
    return Killed(tmp_path, redis_process)


async def test_a_killed_process_loses_nothing_uncounted_and_repeats_nothing(killed: Killed) -> None:
    for _ in range(3):
        with killed.putting():
            pass
    await killed.recover()
    killed.check()
    assert read_totals(killed.folder / "spool").taken > 300


def _kill(redis: RedisProcess) -> None:
    redis.kill()
    time.sleep(0.5)
    redis.start(*DURABLE)


def _kill_twice(redis: RedisProcess) -> None:
    _kill(redis)
    time.sleep(0.3)
    _kill(redis)


def _freeze(redis: RedisProcess) -> None:
    redis.freeze()
    time.sleep(0.5)


def _nothing(redis: RedisProcess) -> None:
    pass


@pytest.mark.parametrize(
    "trouble, mend",
    [
        pytest.param(_kill, _nothing, id="killed"),
        pytest.param(_kill_twice, _nothing, id="killed-twice"),
        pytest.param(_freeze, RedisProcess.thaw, id="frozen"),
    ],
)
async def test_redis_in_trouble_and_then_a_killed_process_lose_nothing_uncounted_and_repeat_nothing(
    killed: Killed, trouble: Callable[[RedisProcess], None], mend: Callable[[RedisProcess], None]
) -> None:
    with killed.putting(), killed.putting():
        trouble(killed.redis)
    mend(killed.redis)
    with killed.putting():
        pass
    await killed.recover()
    killed.check()


async def test_a_full_redis_and_a_killed_process_repeat_nothing_and_sums_are_whole(killed: Killed) -> None:
    """The streams gave way: what is gone from them was trimmed, so the sums are held against the books."""
    with killed.putting():
        killed.redis.call("CONFIG", "SET", "maxmemory", "1")
        put = killed.said("p0")[1]
        until(lambda: killed.said("p0")[1] > put + 300, "more records")
    killed.redis.call("CONFIG", "SET", "maxmemory", "0")
    await killed.recover()
    totals = read_totals(killed.folder / "spool")
    assert totals.produced == totals.taken + totals.crashed
    assert killed.added() == totals.taken // 10  # the queue is lost from its end
    assert set(killed.found().values()) == {1}


async def test_what_a_killed_process_took_with_it_is_counted_by_the_next(killed: Killed) -> None:
    with killed.putting():
        pass
    shown = await killed.recover()
    assert shown == read_totals(killed.folder / "spool").crashed
    killed.check()


async def test_both_killed_at_once_lose_nothing_uncounted_and_repeat_nothing(killed: Killed) -> None:
    with killed.putting():
        killed.redis.kill()
    killed.redis.start(*DURABLE)
    await killed.recover()
    killed.check()


async def test_after_a_flush_nothing_is_there_twice_and_what_comes_later_is_there(killed: Killed) -> None:
    with killed.putting():
        killed.redis.call("FLUSHALL")
        put = killed.said("p0")[1]
        until(lambda: killed.said("p0")[1] > put + 300, "more records")
    await killed.recover()
    found = killed.found()
    assert set(found.values()) <= {1}
    assert max(number for _, number in found) > put
    crashed = read_totals(killed.folder / "spool").crashed
    last = killed.said("p0")[1] - crashed
    assert {number for _, number in found} >= {number for number in range(put, last) if number % 10}
