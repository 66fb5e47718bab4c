"""The difficulty policy through the gateway: a trained version, its promotion, and the controllers around it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as aioredis

from policies.difficulty.model import DifficultyModel
from policies.difficulty.train import train
from policies.learn import artifact
from policies.learn.trained import Trained
from router.control import control
from router.trained import follower
from router.trained.examples import example_of
from router.trained.record import record_of
from router.trained.store import TrainedStore
from tests.router.test_hostile import canned
from tests.support.gateway import Json, RunningGateway, eventually, flush, running_gateway, two_models
from tests.support.scripted import ScriptedUpstream
from tests.trained.lessons import lessons

NAME = "auto:difficulty"
EASY, HARD = "Say hello to Ada, who is 33 today.", "Multiply 33 by 40 for Ada."
EVERYTHING = {"audit": {"rate": 1.0, "second_draw": 0.0, "confirm": 0.0}}
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "FOLLOW_EVERY_S", 0.01)
    monkeypatch.setattr(control, "SHIP_EVERY_S", 0.02)
    monkeypatch.setattr(control, "TURN_EVERY_S", 0.02)


@pytest.fixture(scope="module")
def trained() -> DifficultyModel:
    return train([example_of(pair) for pair in lessons(120)])


@pytest.fixture(scope="module")
def turned() -> Trained:
    """Finds hard what the other one finds easy."""
    return train([example_of(pair) for pair in lessons(120, upside_down=True)])


def config(teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str, **more: Any) -> Json:
    policy = {"kind": "difficulty", "threshold": 0.5, **more.pop("policy", {})}
    return two_models(teacher.url, student.url, policy=policy, redis={"url": redis_url}, **more)


async def promote(redis_url: str, version: Trained) -> None:
    async with aioredis.Redis.from_url(redis_url) as client:
        store = TrainedStore(client.eval)
        number = await store.put(NAME, artifact.dumps(version), record_of(version, "train", time.time()))
        await store.promote(NAME, number)


async def roll_back(redis_url: str) -> None:
    async with aioredis.Redis.from_url(redis_url) as client:
        await TrainedStore(client.eval).rollback(NAME)


async def answered_by(gw: RunningGateway, text: str, *, stream: bool = False, model: str = "auto") -> tuple[str, str]:
    """The model and the reason."""
    answer = await gw.ask("chat", model, messages=[{"role": "user", "content": text}], stream=stream)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-router-model"], answer.headers["x-router-reason"]


async def in_force(gw: RunningGateway, version: str) -> None:
    slot = gw.gateway.runtime.routes["auto"].policy
    await eventually(lambda: slot.scorer == version, f"version {version}")


@BOTH
async def test_the_expected_loss_decides_and_the_row_says_how(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str, trained: Trained, stream: bool
) -> None:
    flush(redis_url)
    await promote(redis_url, trained)
    async with running_gateway(config(teacher, student, redis_url), redis_url=redis_url, alone=False) as gw:
        assert await answered_by(gw, EASY, stream=stream) == ("student", "difficulty:threshold")
        assert await answered_by(gw, HARD, stream=stream) == ("teacher", "difficulty:threshold")
        easy, hard = await gw.rows(2)
        assert easy.q and hard.q and easy.q[0] < 0.5 <= hard.q[0]
        assert (easy.po, easy.th, easy.p, hard.p) == ("difficulty", 0.5, 0.0, 1.0)
        assert easy.pv.endswith(f"+{trained.version}")
        assert gw.metric("trained_policy_workers", policy=NAME, version=trained.version) == 1
        assert gw.metric("policy_info", route="auto", policy="difficulty", version=easy.pv) == 1


async def test_until_something_is_promoted_the_teacher_answers_and_then_at_once_the_version(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str, trained: Trained, turned: Trained
) -> None:
    async with running_gateway(config(teacher, student, redis_url), redis_url=redis_url) as gw:
        assert await answered_by(gw, EASY) == ("teacher", "difficulty:untrained")
        await promote(redis_url, trained)
        await in_force(gw, trained.version)
        assert (await answered_by(gw, EASY))[0] == "student"
        await promote(redis_url, turned)
        await in_force(gw, turned.version)
        assert (await answered_by(gw, EASY))[0] == "teacher"
        await roll_back(redis_url)
        await in_force(gw, trained.version)
        assert (await answered_by(gw, EASY))[0] == "student"
        versions = [row.pv.partition("+")[2] for row in await gw.rows(4)]
        assert versions == ["none", trained.version, turned.version, trained.version]


async def test_a_prompt_that_is_nested_as_deep_as_may_be_leaves_its_row(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Somewhere among these depths it can be read where it is parsed, and not where its conversation is remembered."""
    teacher.default = canned
    async with running_gateway(config(teacher, student, redis_url), redis_url=redis_url) as gw:
        for depth in range(900, 980):
            prompt = f'[{{"role": "user", "content": {"[" * depth}{"]" * depth}}}]'
            answer = await gw.post("/v1/chat/completions", f'{{"model": "auto", "messages": {prompt}}}'.encode())
            assert answer.status_code in (200, 400)
        assert len(await gw.rows(80)) == 80
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_file_needs_no_redis_and_an_operating_point_moves_the_threshold(
    teacher: ScriptedUpstream, student: ScriptedUpstream, tmp_path: Path, trained: Trained
) -> None:
    path = tmp_path / "difficulty.safetensors"
    path.write_bytes(artifact.dumps(trained))
    policy = {"kind": "difficulty", "threshold": 0.5, "file": str(path)}
    async with running_gateway(two_models(teacher.url, student.url, policy=policy)) as gw:
        assert (await answered_by(gw, EASY))[0] == "student"
        assert (await answered_by(gw, EASY, model="auto@0"))[0] == "teacher"
        assert (await answered_by(gw, HARD, model="auto@1"))[0] == "student"


async def test_a_conversation_keeps_its_model_where_leaving_it_costs_more_than_it_gains(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str, trained: Trained
) -> None:
    """The first turn is hard; the second alone would have gone to the student."""
    flush(redis_url)
    await promote(redis_url, trained)
    said = [{"role": "user", "content": HARD}, {"role": "assistant", "content": "1320"}]
    later = [*said, {"role": "user", "content": EASY}]
    for sticky, expected in ((None, "student"), ({"margin": 1.0}, "teacher")):
        changed = config(teacher, student, redis_url, route={"sticky": sticky})
        async with running_gateway(changed, redis_url=redis_url, alone=False) as gw:
            first = await gw.ask("chat", messages=said[:1])
            assert first.headers["x-router-model"] == "teacher"
            second = await gw.ask("chat", messages=later)
            assert gw.gateway.runtime.routes["auto"].policy.scorer == trained.version
            assert second.headers["x-router-model"] == expected
            if sticky:
                assert second.headers["x-router-reason"] == "difficulty:sticky"


async def test_a_floor_gives_everything_to_the_teacher_until_it_certifies_and_survives_a_restart(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str, trained: DifficultyModel
) -> None:
    """The student says what the teacher says, so that nothing is lost."""
    student.default = teacher.default
    floor = {"alpha": 0.2, "min_audits": 20, "shadow_rate": 1.0}
    changed = config(teacher, student, redis_url, policy={"threshold": 1.0, "floor": floor}, route=EVERYTHING)
    flush(redis_url)
    await promote(redis_url, replace(trained, calibration_set=None))
    async with running_gateway(changed, redis_url=redis_url, alone=False) as gw:
        live = gw.gateway.runtime.routes["auto"].live
        assert await answered_by(gw, EASY) == ("teacher", "difficulty:floor")
        for number in range(60):
            await answered_by(gw, f"Say hello to number {number}, who is {number} today.")
        await eventually(lambda: live.floor, "a floor that certifies")
        await eventually(lambda: gw.metric("floor_phase", route="auto", phase="certified") == 1, "the metric")
        assert (await answered_by(gw, EASY))[0] == "student"
    async with running_gateway(changed, redis_url=redis_url, alone=False) as gw:
        assert (await answered_by(gw, EASY))[0] == "student"
        assert gw.metric("floor_phase", route="auto", phase="certified") == 1
        assert gw.metric("threshold", route="auto", controller="floor") > 0


async def test_a_pace_that_is_behind_its_target_gives_the_teacher_what_it_can_pay(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str, trained: Trained
) -> None:
    budgets = {"day": {"window": "day", "limit_usd": 10.0, "target_usd": 9.0, "counts": "teacher"}}
    models = {"max_output_tokens": 100}
    changed = config(
        teacher, student, redis_url, policy={"threshold": None, "pace": "day"}, budgets=budgets, models=models
    )
    flush(redis_url)
    await promote(redis_url, trained)
    async with running_gateway(changed, redis_url=redis_url, alone=False) as gw:
        assert await answered_by(gw, EASY) == ("teacher", "difficulty:pace")
