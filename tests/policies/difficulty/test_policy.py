"""The difficulty policy: an expected loss from its slot, held against controllers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from policies.base import Decision
from policies.control.stickiness import Kept
from policies.difficulty.policy import DifficultyConfig
from policies.learn.trained import Score, Slots
from policies.query import Query
from tests.support.policy_parts import Asked, Estimator, StillRoute

LIVE = StillRoute(extra_usd=0.01, teacher_usd=0.011)


def live(**controllers: Any) -> StillRoute:
    return replace(LIVE, **controllers)


def config_of(**block: Any) -> DifficultyConfig:
    return TypeAdapter(DifficultyConfig).validate_python({"kind": "difficulty"} | block)


async def decided(loss: float | None, now: StillRoute, **block: Any) -> Decision:
    slots = Slots()
    slots.named("auto:difficulty").current = None if loss is None else Estimator(loss)
    return await config_of(**block).build("auto", slots).decide(Asked(), now)


@pytest.mark.parametrize(("loss", "arm"), [(0.29, "student"), (0.3, "teacher"), (1.0, "teacher")])
async def test_the_teacher_answers_from_the_threshold_on(loss: float, arm: str) -> None:
    decision = await decided(loss, LIVE, threshold=0.3)
    assert (decision.arm, decision.reason, decision.threshold) == (arm, "difficulty:threshold", 0.3)
    assert decision.score == Score(loss, 0.25)
    assert decision.teacher_probability == (1.0 if arm == "teacher" else 0.0)


@pytest.mark.parametrize(
    ("now", "block", "arm", "reason"),
    [
        (live(pace_usd=60.0), {"threshold": 0.3, "pace": "day"}, "student", "pace"),
        (live(pace_usd=60.0), {"threshold": 0.3}, "teacher", "threshold"),
        (live(pace_usd=60.0, floor=0.4), {"threshold": 0.3, "pace": "day"}, "teacher", "floor"),
        (LIVE, {"pace": "day"}, "teacher", "pace"),
        (live(floor=0.0), {"floor": {"alpha": 0.02}}, "teacher", "floor"),
        (live(floor=0.9), {"floor": {"alpha": 0.02}}, "student", "floor"),
        (live(conversation=Kept("student", 0.01)), {"threshold": 0.3}, "student", "sticky"),
        (live(conversation=Kept("teacher", 0.01)), {"threshold": 0.3}, "teacher", "threshold"),
    ],
)
async def test_the_strictest_controller_wins_and_is_named(
    now: StillRoute, block: dict[str, Any], arm: str, reason: str
) -> None:
    decision = await decided(0.5, now, **block)
    assert (decision.arm, decision.reason) == (arm, f"difficulty:{reason}")
    assert decision.switch_cost_usd == (None if now.conversation is None else 0.01)


@pytest.mark.parametrize("arm", ["teacher", "student"])
async def test_while_nothing_is_trained_the_configured_arm_answers(arm: str) -> None:
    decision = await decided(None, LIVE, threshold=0.3, untrained=arm)
    assert (decision.arm, decision.reason, decision.score) == (arm, "difficulty:untrained", None)


async def test_a_promotion_takes_effect_at_the_next_decision() -> None:
    slots = Slots()
    policy = config_of(threshold=0.3).build("auto", slots)
    before = policy.version
    slots.named("auto:difficulty").current = Estimator(0.1)
    assert (await policy.decide(Asked(), LIVE)).arm == "student"
    first = policy.version
    slots.named("auto:difficulty").current = replace(Estimator(0.9), version="33334444")
    assert (await policy.decide(Asked(), LIVE)).arm == "teacher"
    assert len({before, first, policy.version}) == 3 and policy.version.endswith("33334444")


async def test_the_floor_and_the_price_are_those_of_the_estimator_that_scores() -> None:
    """Another one is promoted, with a floor of its own, while the vector of a request is awaited."""
    slots, now = Slots(), live(floor=0.4, pace_usd=1.0)
    slot = slots.named("auto:difficulty")
    slot.current = Estimator(0.5, encoder="mini")

    async def encode(text: str) -> None:
        slot.current = replace(Estimator(0.1), version="33334444")
        object.__setattr__(now, "floor", 0.9)
        object.__setattr__(now, "pace_usd", 90.0)

    slot.encode = encode
    decision = (
        await config_of(threshold=0.45, pace="day", floor={"alpha": 0.02}).build("auto", slots).decide(Asked(), now)
    )
    assert (decision.arm, decision.reason, decision.threshold) == ("teacher", "difficulty:floor", 0.4)
    assert slot.current.version == "33334444"


@pytest.mark.parametrize(("encoder", "asked"), [("mini", ["hello"]), ("", [])])
async def test_an_encoder_is_asked_only_for_an_estimator_that_was_trained_with_one(
    encoder: str, asked: list[str]
) -> None:
    slots, seen = Slots(), list[str]()
    slot = slots.named("auto:difficulty")
    slot.current = Estimator(0.5, encoder=encoder)

    async def encode(text: str) -> None:
        seen.append(text)

    slot.encode = encode
    await config_of(threshold=0.45).build("auto", slots).decide(Asked(), LIVE)
    assert seen == asked


@pytest.mark.parametrize("query", [Query(), Query(last="x" * 2_000_000), Query(whole="é" * 5_000)])
def test_an_encoder_is_given_neither_nothing_nor_everything(query: Query) -> None:
    assert 0 < len(query.encoded) <= 3_100
    assert Query(last="last", whole="whole").encoded == "last" and Query(whole="whole").encoded == "whole"


async def test_an_operating_point_moves_the_threshold_and_not_the_floor() -> None:
    slots = Slots()
    slots.named("auto:difficulty").current = Estimator(0.5)
    policy = config_of(threshold=0.3).build("auto", slots).at(0.6)
    assert (await policy.decide(Asked(), LIVE)).arm == "student"
    assert (await policy.decide(Asked(), live(floor=0.4))).arm == "teacher"


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ({}, "nothing decides"),
        ({"threshold": 0.3, "trained": "x", "file": "y"}, "not both"),
        ({"threshold": 1.3}, "less than or equal to 1"),
        ({"floor": {"alpha": 0}}, "greater than 0"),
        ({"floor": {}, "untrained": "student"}, "certifies nothing before something is trained"),
    ],
)
def test_a_block_that_cannot_decide_is_refused(block: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        config_of(**block)


@pytest.mark.parametrize(
    ("block", "name"),
    [
        ({}, "auto:difficulty"),
        ({"trained": "other:difficulty"}, "other:difficulty"),
        ({"file": "p.st"}, "file:difficulty:p.st"),
    ],
)
def test_the_trained_policy_is_that_of_the_route_unless_said(block: dict[str, Any], name: str) -> None:
    assert config_of(threshold=0.3, **block).trained_for("auto") == name
