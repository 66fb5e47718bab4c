"""A gateway that decides by what is trained: from the promotion to the decision row, over reloads, and on schedule."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio as aioredis
import yaml

from policies.learn import artifact
from policies.learn.trained import Trained
from router.trained import follower, retrainer
from router.trained.examples import example_of
from router.trained.job import Outcome
from router.trained.record import record_of
from router.trained.retrainer import Plan
from router.trained.store import TrainedStore
from router.trained.train import train
from tests.support.gateway import RunningGateway, eventually, running_gateway, two_models
from tests.support.scripted import Reply, ScriptedUpstream
from tests.trained.lessons import lessons

NAME = "auto:difficulty"
HARD, EASY = "Multiply 12 by 19 for Ada. (1)", "Say hello to Ada, who is 12 today. (1)"

pytestmark = pytest.mark.usefixtures("soon")


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "FOLLOW_EVERY_S", 0.01)
    monkeypatch.setattr(retrainer, "LOOK_EVERY_S", 0.01)


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train("difficulty", [example_of(each) for each in lessons(120)])


@pytest.fixture(scope="module")
def other() -> Trained:
    """It thinks the reverse."""
    return train("difficulty", [example_of(each) for each in lessons(120, upside_down=True)])


def config(url: str, redis_url: str, **route: Any) -> dict[str, Any]:
    policy = {"kind": "difficulty", "threshold": 0.5}
    return two_models(url, url, policy=policy, route=route, redis={"url": redis_url})


async def promote(redis_url: str, trained: Trained, name: str = NAME) -> None:
    async with aioredis.Redis.from_url(redis_url) as client:
        store = TrainedStore(client.eval)
        number = await store.put(name, artifact.dumps(trained), record_of(trained, "train", 0.0))
        await store.promote(name, number)


async def follows(gw: RunningGateway, trained: Trained) -> None:
    labels = {"policy": NAME, "version": trained.version}
    await eventually(lambda: gw.metric("trained_policy_workers", **labels) == 1, f"version {trained.version}")


async def ask(gw: RunningGateway, text: str, model: str = "auto") -> str:
    """Which model answered."""
    answer = await gw.ask("chat", model, messages=[{"role": "user", "content": text}])
    assert answer.status_code == 200, answer.text
    return answer.headers["x-router-model"]


@pytest.fixture
async def upstream() -> Any:
    async with ScriptedUpstream(default=Reply("hello")) as upstream:
        yield upstream


async def test_what_is_promoted_decides_and_its_version_stands_in_the_row(
    upstream: ScriptedUpstream, redis_url: str, trained: Trained
) -> None:
    async with running_gateway(config(upstream.url, redis_url), redis_url=redis_url) as gw:
        assert [await ask(gw, text) for text in (HARD, EASY)] == ["teacher", "teacher"]
        await promote(redis_url, trained)
        await follows(gw, trained)
        assert [await ask(gw, text) for text in (HARD, EASY)] == ["teacher", "student"]
        versions = [row.pv.partition("+")[2] for row in await gw.rows(4)]
        assert versions == ["none", "none", trained.version, trained.version]


async def test_it_decides_the_first_request_of_a_worker(
    upstream: ScriptedUpstream, redis_url: str, trained: Trained
) -> None:
    await promote(redis_url, trained)
    async with running_gateway(config(upstream.url, redis_url), redis_url=redis_url, alone=False) as gw:
        assert await ask(gw, EASY) == "student"


async def test_a_promotion_and_a_rollback_reach_a_running_gateway(
    upstream: ScriptedUpstream, redis_url: str, trained: Trained, other: Trained
) -> None:
    async with running_gateway(config(upstream.url, redis_url), redis_url=redis_url) as gw:
        for each in (trained, other):
            await promote(redis_url, each)
            await follows(gw, each)
        assert [await ask(gw, text) for text in (HARD, EASY)] == ["student", "teacher"]
        async with aioredis.Redis.from_url(redis_url) as client:
            await TrainedStore(client.eval).rollback(NAME)
        await follows(gw, trained)
        assert await ask(gw, EASY) == "student"


async def test_a_promotion_in_the_middle_of_many_requests_fails_none(
    upstream: ScriptedUpstream, redis_url: str, trained: Trained, other: Trained
) -> None:
    async with running_gateway(config(upstream.url, redis_url), redis_url=redis_url) as gw:
        await promote(redis_url, trained)
        await follows(gw, trained)
        asked = [asyncio.create_task(ask(gw, EASY)) for _ in range(30)]
        await promote(redis_url, other)
        asked += [asyncio.create_task(ask(gw, EASY)) for _ in range(30)]
        await asyncio.gather(*asked)
        await follows(gw, other)
        for row in await gw.rows(60):
            assert (row.pv.partition("+")[2], row.a) in {(trained.version, "s"), (other.version, "t")}


async def test_a_route_that_a_reload_brings_is_ready_when_it_is_asked(
    upstream: ScriptedUpstream, redis_url: str, trained: Trained, tmp_path: Path
) -> None:
    path = tmp_path / "router.yaml"
    settings = config(upstream.url, redis_url)
    path.write_text(yaml.safe_dump(settings))
    async with running_gateway(settings, redis_url=redis_url, config_path=path) as gw:
        await promote(redis_url, trained, "new:difficulty")
        settings["routes"]["new"] = settings["routes"]["auto"]
        path.write_text(yaml.safe_dump(settings))
        assert await gw.gateway.reload()
        assert await ask(gw, EASY, "new") == "student"


async def test_no_worker_is_said_to_decide_by_a_version_that_a_reload_took_from_its_route(
    upstream: ScriptedUpstream, redis_url: str, trained: Trained, tmp_path: Path
) -> None:
    path = tmp_path / "router.yaml"
    settings = config(upstream.url, redis_url)
    path.write_text(yaml.safe_dump(settings))
    await promote(redis_url, trained)
    async with running_gateway(settings, redis_url=redis_url, config_path=path, alone=False) as gw:
        await follows(gw, trained)
        settings["routes"]["auto"]["policy"] = {"kind": "fixed", "model": "teacher"}
        path.write_text(yaml.safe_dump(settings))
        assert await gw.gateway.reload()
        assert gw.metric("trained_policy_workers", policy=NAME, version=trained.version) == 0


async def test_the_gateway_trains_what_its_routes_ask_for(
    upstream: ScriptedUpstream, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Plan] = []

    async def run(plan: Plan) -> Outcome:
        trained.append(plan)
        return Outcome("candidate", "it did not win", 1)

    monkeypatch.setattr(retrainer, "run_apart", run)
    settings = config(upstream.url, redis_url, training={"every": "12h"})
    async with running_gateway(settings, redis_url=redis_url) as gw:
        await eventually(lambda: trained)
        await eventually(lambda: gw.metric("policy_trainings_total", policy=NAME, result="candidate") == 1)
    (plan,) = trained
    assert (plan.name, plan.training.every_s) == (NAME, 12 * 3600)
    assert yaml.safe_load(plan.config)["routes"]["auto"]["training"] == {"every": "12h"}


async def test_a_bad_version_is_counted_and_the_good_one_goes_on_deciding(
    upstream: ScriptedUpstream, redis_url: str, trained: Trained
) -> None:
    async with running_gateway(config(upstream.url, redis_url), redis_url=redis_url) as gw:
        await promote(redis_url, trained)
        await follows(gw, trained)
        async with aioredis.Redis.from_url(redis_url) as client:
            store = TrainedStore(client.eval)
            await store.promote(NAME, await store.put(NAME, b"nonsense", record_of(trained, "train", 0.0)))
        bad = {"policy": NAME, "result": "bad"}
        await eventually(lambda: gw.metric("trained_policy_loads_total", **bad) == 1)
        assert await ask(gw, EASY) == "student"


async def test_what_redis_lost_goes_on_deciding(
    upstream: ScriptedUpstream, redis_url: str, trained: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_gateway(config(upstream.url, redis_url), redis_url=redis_url) as gw:
        await promote(redis_url, trained)
        await follows(gw, trained)
        with redis.Redis.from_url(redis_url) as client:
            client.delete("distill-router:{trained}:current")
        await eventually(lambda: "has lost the trained policy" in caplog.text)
        assert await ask(gw, EASY) == "student"
