"""Who trains when: one process of all, apart from the requests, and again after it came to nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis.asyncio as aioredis
import yaml
from prometheus_client import CollectorRegistry

from router.settings import parse
from router.trained import retrainer as module
from router.trained.job import Outcome
from router.trained.metrics import TrainedMetrics
from router.trained.retrainer import Plan, Retrainer, TrainingFailed, plans, run_apart
from router.trained.schedule import SCHEDULE, Schedule
from router.trained.settings import Training
from router.trained.store import TrainedStore
from tests.support.gateway import eventually, two_models
from tests.support.pairs import spool_pairs
from tests.trained.lessons import lessons

PLAN = Plan("auto", "difficulty", Training(), "")
NAME = PLAN.name


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Any]:
    async with aioredis.Redis.from_url(redis_url) as client:
        yield client


class Gateway:
    """One process of several; `outcomes` are what its trainings come to, one after the other."""

    def __init__(self, client: Any, *outcomes: Outcome | Exception) -> None:
        self.registry = CollectorRegistry()
        self.ran: list[str] = []
        self.may_end = asyncio.Event()
        self.may_end.set()
        self._outcomes = list(outcomes)
        self.retrainer = Retrainer(Schedule(client.eval), TrainedMetrics(self.registry), self._run)

    async def _run(self, plan: Plan) -> Outcome:
        self.ran.append(plan.name)
        await self.may_end.wait()
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def counted(self, result: str) -> float | None:
        labels = {"policy": NAME, "result": result}
        return self.registry.get_sample_value("distill_router_policy_trainings_total", labels)


async def due_in_s(client: Any) -> float:
    return float(int(await client.hget(SCHEDULE, NAME)) / 1000 - time.time())


async def make_due(client: Any) -> None:
    await client.hset(SCHEDULE, NAME, 0)


@pytest.mark.parametrize(
    ("outcome", "result", "next_s"),
    [
        (Outcome("promoted", "it won", 2), "promoted", 24 * 3600),
        (Outcome("candidate", "it did not win", 2), "candidate", 24 * 3600),
        (Outcome("too_few", "12 pairs"), "too_few", 3600),
        (TrainingFailed("status 1"), "failed", 3600),
    ],
)
async def test_what_came_of_it_is_counted_and_says_when_to_train_again(
    client: Any, outcome: Outcome | Exception, result: str, next_s: float
) -> None:
    gateway = Gateway(client, outcome)
    assert await gateway.retrainer.train_if_due(PLAN)
    assert gateway.counted(result) == 1
    assert await due_in_s(client) == pytest.approx(next_s, abs=60)
    assert not await gateway.retrainer.train_if_due(PLAN)


async def test_of_several_gateways_one_trains(client: Any) -> None:
    gateways = [Gateway(client, Outcome("candidate", "")) for _ in range(4)]
    began = await asyncio.gather(*(gateway.retrainer.train_if_due(PLAN) for gateway in gateways))
    assert sorted(began) == [False, False, False, True]
    assert sum(len(gateway.ran) for gateway in gateways) == 1


async def test_a_training_that_takes_long_stays_with_the_one_that_began_it(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEASE_S", 1.5)
    slow, other = Gateway(client, Outcome("candidate", "")), Gateway(client)
    slow.may_end.clear()
    running = asyncio.create_task(slow.retrainer.train_if_due(PLAN))
    await eventually(lambda: slow.ran)
    first = await client.hget(SCHEDULE, NAME)
    while (renewed := await client.hget(SCHEDULE, NAME)) == first:
        assert not await other.retrainer.train_if_due(PLAN)
        await asyncio.sleep(0.02)
    assert int(renewed) > int(first)
    slow.may_end.set()
    assert await running


async def test_the_claim_of_a_process_that_died_ends_by_itself(client: Any) -> None:
    assert await Schedule(client.eval).claim(NAME, lease_s=0.05)
    gateway = Gateway(client, Outcome("candidate", ""))
    await asyncio.sleep(0.1)
    assert await gateway.retrainer.train_if_due(PLAN)


async def test_a_lost_claim_moves_nothing(client: Any) -> None:
    schedule = Schedule(client.eval)
    claim = await schedule.claim(NAME, 60)
    assert claim is not None
    await make_due(client)
    taken = await schedule.claim(NAME, 61)
    assert await schedule.move(NAME, claim, 5) is None
    assert await client.hget(SCHEDULE, NAME) == taken


async def test_a_gateway_trains_what_it_is_configured_for_and_survives_what_goes_wrong(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.01)
    gateway = Gateway(client, RuntimeError("a bug"), Outcome("promoted", ""))
    gateway.retrainer.start()
    try:
        await asyncio.sleep(0.05)
        assert gateway.ran == []
        gateway.retrainer.configure({NAME: PLAN})
        await eventually(lambda: gateway.counted("failed") == 1)
        await make_due(client)
        await eventually(lambda: gateway.counted("promoted") == 1)
    finally:
        await gateway.retrainer.close()


async def test_the_end_of_a_gateway_ends_its_training(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.01)
    gateway = Gateway(client)
    gateway.may_end.clear()
    gateway.retrainer.configure({NAME: PLAN})
    gateway.retrainer.start()
    await eventually(lambda: gateway.ran)
    await asyncio.wait_for(gateway.retrainer.close(), 10)


def real_plan(tmp_path: Path, redis_url: str, **training: Any) -> Plan:
    url = "http://127.0.0.1/v1"
    own = {"redis": {"url": redis_url}, "evidence": {"spool_dir": str(tmp_path / "spool")}}
    settings = parse(yaml.safe_dump(two_models(url, url, **own)), {})
    return plans(settings, {"auto": ("difficulty", Training(**training))})[NAME]


async def test_the_process_apart_trains_tries_and_promotes(tmp_path: Path, redis_url: str, store: TrainedStore) -> None:
    pairs = lessons(300)
    shift = time.time() - pairs[-1].time - 1
    spool_pairs(tmp_path / "spool", [each.model_copy(update={"time": each.time + shift}) for each in pairs])
    outcome = await run_apart(real_plan(tmp_path, redis_url))
    assert outcome.result == "promoted" and outcome.number == 1, outcome
    assert (await store.in_force([NAME]))[NAME].number == 1


async def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"(?s)status 1: .*no answer"):
        await run_apart(real_plan(tmp_path, f"unix://{tmp_path}/none.sock"))


async def test_a_training_that_takes_too_long_is_ended(tmp_path: Path, redis_url: str) -> None:
    with pytest.raises(TrainingFailed, match=r"longer than timeout_s, 0\.01 s"):
        await run_apart(real_plan(tmp_path, redis_url, timeout_s=0.01))
    assert not [child for child in psutil.Process().children() if "router.trained.job" in child.cmdline()]
