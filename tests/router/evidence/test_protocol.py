"""The protocol under faults, step by step: lost questions, lost answers, a Redis that is set back, killed processes.

A real Redis with the real script; `Faulty` loses what goes to it or comes from it. Whatever the order: what the logs
have kept is in Redis once in the end, and on each shard in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import redis
import redis.asyncio as aioredis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from router.evidence.appender import Appender, Gap, Sending
from router.evidence.bounds import Bounds
from router.evidence.delivery import Delivery
from router.evidence.memory import MemoryShare
from router.evidence.redis import Unreachable
from router.evidence.segment import Frame
from router.evidence.spool import Log, Spool
from router.evidence.streams import DECISIONS, SUMS, shard_key
from router.evidence_settings import Evidence
from router.record.metrics import Metrics
from tests.router.evidence.conftest import RedisProcess

MEGABYTE = 1024 * 1024
SHARDS = 2
SURE_S = 10.0


class Faulty:
    """A client whose next requests are lost, or their answers; a lost request may arrive later."""

    def __init__(self, url: str) -> None:
        self._client = aioredis.Redis.from_url(url)
        self.faults: list[str] = []
        self._late: list[list[tuple[Any, ...]]] = []

    @contextlib.asynccontextmanager
    async def pipeline(self, transaction: bool) -> Any:
        yield Pipeline(self)

    async def script_load(self, text: str) -> None:
        await self._client.script_load(text)

    async def run(self, commands: list[tuple[Any, ...]], raise_on_error: bool) -> list[Any]:
        fault = self.faults.pop() if self.faults else None
        if fault == "request lost":
            raise redis.ConnectionError(fault)
        if fault == "request late":
            self._late.append(commands)
            raise redis.TimeoutError(fault)
        replies = await self._execute(commands, raise_on_error)
        if fault == "answer lost":
            raise redis.TimeoutError(fault)
        return replies

    async def arrive(self) -> None:
        """What was late."""
        late, self._late = self._late, []
        for commands in late:
            await self._execute(commands, False)

    async def _execute(self, commands: list[tuple[Any, ...]], raise_on_error: bool) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return await pipeline.execute(raise_on_error=raise_on_error)

    async def aclose(self) -> None:
        await self._client.aclose()


class Pipeline:
    def __init__(self, client: Faulty) -> None:
        self._client = client
        self._commands: list[tuple[Any, ...]] = []

    def execute_command(self, *command: Any) -> None:
        self._commands.append(command)

    def get(self, key: str) -> None:
        self._commands.append(("GET", key))

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        return await self._client.run(self._commands, raise_on_error)


class Protocol(RuleBasedStateMachine):
    url: ClassVar[str]

    @initialize()
    def begin(self) -> None:
        self.redis: Any = redis.Redis.from_url(self.url)
        self.redis.flushall()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.now = 0.0
        self.sent = self.added = 0  # records put into a log, and of SUMS
        self.set_back: dict[bytes, bytes] = {}
        self.set_back_at = 0.0
        self.client = Faulty(self.url)
        share = MemoryShare(self.client, Metrics(), SHARDS)  # type: ignore[arg-type]  # never asked
        self.appender = Appender(self.client, share, Bounds(Evidence(shards=SHARDS)))  # type: ignore[arg-type]
        self.others: list[Delivery] = []
        self._start()

    def _start(self) -> None:
        log = Log.create(Spool(Path(self.folder.name), MEGABYTE))
        self.own = self._delivery(log, behind=False)
        self.numbers = dict.fromkeys(range(SHARDS), 0)

    def _delivery(self, log: Log, *, behind: bool) -> Delivery:
        return Delivery(log, self.appender, lambda *_: None, behind=behind, sure_s=SURE_S)

    @rule(shard=st.integers(0, SHARDS - 1), count=st.integers(1, 3))
    def keep(self, shard: int, count: int) -> None:
        self.numbers[shard] += 1
        records: dict[str, list[bytes]] = {DECISIONS: [b"%d" % (self.sent + n) for n in range(count)]}
        if shard == 0:
            records[SUMS] = [b'{"k":"sums","f":{"n":1}}']
            self.added += 1
        self.sent += count
        total = self.own.log.total + sum(map(len, records.values()))
        frame = Frame(shard, self.numbers[shard], total, 0.0, records)
        self.runner.run(self.own.keep([Sending(frame, frame.number - 1)]))

    @rule(faults=st.lists(st.sampled_from(["request lost", "request late", "answer lost"]), max_size=1))
    def send(self, faults: list[str]) -> None:
        self.client.faults = faults
        self.runner.run(self._send())
        self.client.faults = []

    async def _send(self) -> None:
        """As `Sender` does."""
        for delivery in (self.own, *self.others):
            try:
                if delivery.behind:
                    await delivery.replay()
                await delivery.send_tail()
                await delivery.disk(delivery.log.rotate)
                await delivery.release(self.now)
            except Gap:
                delivery.lose_ground()
            except Unreachable:
                delivery.fall_behind()

    @rule()
    def arrive(self) -> None:
        """A request that was given up reaches Redis after all."""
        self.runner.run(self.client.arrive())

    @rule()
    def snapshot(self) -> None:
        self.set_back = {key: self.redis.dump(key) or b"" for key in self.redis.keys()}  # noqa: SIM118  # no mapping
        self.set_back_at = self.now

    @precondition(lambda self: self.now <= self.set_back_at + SURE_S - 1)
    @rule()
    def lose(self) -> None:
        """Redis is killed and comes back as it was a moment ago."""
        self.redis.flushall()
        for key, data in self.set_back.items():
            self.redis.restore(key, 0, data)

    @rule(seconds=st.sampled_from([1.0, SURE_S / 2, SURE_S]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        if self.now > self.set_back_at + SURE_S - 1:
            self.runner.run(self.client.arrive())  # it is not that late

    @rule()
    def kill(self) -> None:
        """The process dies with what it had in memory; the next takes its logs over."""
        dead = [delivery.log for delivery in (self.own, *self.others)]
        spool = Spool(Path(self.folder.name), MEGABYTE)
        for log in dead:
            log.close()
        self.others = []
        for log in dead:
            taken = Log.take(spool, log.producer)
            assert taken is not None
            taken.recount()
            self.others.append(self._delivery(taken, behind=True))
        self._start()

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        try:
            for _ in range(200):
                self.runner.run(self._send())
                self.now += SURE_S
                if not any(delivery.log.segments for delivery in (self.own, *self.others)):
                    break
            self.runner.run(self.client.arrive())
            found = [
                [int(fields[b"r"]) for _, fields in self.redis.xrange(shard_key(shard, DECISIONS))]
                for shard in range(SHARDS)
            ]
            assert sorted(number for shard in found for number in shard) == list(range(self.sent))
            assert float(self.redis.hget(shard_key(0, "sums"), "n") or 0) == self.added
        finally:
            for delivery in (self.own, *self.others):
                delivery.log.close()
            self.runner.run(self.client.aclose())
            self.runner.close()
            self.redis.close()
            self.folder.cleanup()


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path_factory.mktemp("r"))
    process.start()
    yield process
    process.stop()


def test_whatever_fails_and_in_whatever_order_each_record_is_there_once(fresh: RedisProcess) -> None:
    class Machine(Protocol):
        url = fresh.url

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
