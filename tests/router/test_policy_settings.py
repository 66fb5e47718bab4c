"""What a configuration needs around a policy that learns or is controlled."""

from __future__ import annotations

import json
from typing import Any

import pytest

from policies.base import Policy, PolicyConfig
from policies.learn.trained import Slots
from router.errors import ConfigError
from router.policy_settings import policy_problems
from router.settings import Config, parse
from tests.support.gateway import Json, two_models

URL = "http://127.0.0.1:9101/v1"
REDIS = {"redis": {"url": "redis://127.0.0.1:6379/0"}}
MODELS = {"max_output_tokens": 100}


def config(policy: Json, *, route: Json | None = None, **top: Any) -> Json:
    block = {"kind": "difficulty", "threshold": 0.5, **policy}
    return two_models(URL, URL, policy=block, route=route, models=MODELS, **top)


def budgets(**budget: Any) -> Json:
    return {"budgets": {"day": {"window": "day", "limit_usd": 10, "counts": "teacher", **budget}}}


def parsed(data: Json) -> Config:
    return parse(json.dumps(data), {}).config


@pytest.mark.parametrize(
    "data",
    [
        config({}, **REDIS),
        config({"file": "p.safetensors"}),
        config({"pace": "day"}, **REDIS, **budgets(target_usd=9)),
        config({"pace": "day"}, **REDIS, **budgets(target_usd=9, route="auto")),
        config({"floor": {"alpha": 0.05}}, **REDIS),
        config({}, route={"training": {"every": "12h"}}, **REDIS),
    ],
)
def test_what_has_all_it_needs_loads(data: Json) -> None:
    parsed(data)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (config({}), "routes.auto.policy: trained policies are kept in redis; add it, or name a `file`"),
        (config({"file": "p", "floor": {}}), "routes.auto.policy.floor: needs redis"),
        (config({"pace": "month"}, **REDIS, **budgets(target_usd=9)), "unknown budget 'month'; known: day"),
        (config({"pace": "month"}, **REDIS), "unknown budget 'month'; known: none"),
        (config({"pace": "day"}, **REDIS, **budgets()), "budget 'day' has no target_usd to keep pace with"),
        (
            config({"pace": "day"}, **REDIS, **budgets(target_usd=9, tenant="acme")),
            "budget 'day' is not one of all requests or of route 'auto'",
        ),
        (config({"pace": "day"}, **REDIS, **budgets(target_usd=9, each="route")), "is not one of all requests"),
        (config({"threshold": None}, **REDIS), "routes.auto.policy: nothing decides: give a threshold, a pace or"),
        (
            config({}, policies={"x": {"kind": "difficulty", "threshold": 1, "floor": {}}}, **REDIS),
            "policies.x.floor: belongs to the policy of a route; here there is only a threshold",
        ),
        (
            config({"file": "p"}, route={"training": {}}, **REDIS),
            "routes.auto.training: the policy follows a `file`",
        ),
        (config({"floor": {"silent_s": 120}}, **REDIS), "silent_s: 120 s is no longer than audit.timeout_s (120 s)"),
        (config({"floor": {"alpha": 2}}, **REDIS), "routes.auto.policy.floor.alpha: Input should be less than 1"),
        (
            config({"floor": {"stale_s": 2}}, **REDIS),
            "routes.auto.policy.floor.stale_s: 2 s is shorter than the controllers may take to change hands (10 s), so "
            "that the teacher would serve everything meanwhile; raise it",
        ),
        (
            config({"trained": "auto"}, **REDIS),
            "routes.auto.policy.trained: 'auto' is no trained policy of kind difficulty; expected ROUTE:difficulty",
        ),
        (
            config({"trained": "auto:cascade"}, **REDIS),
            "routes.auto.policy.trained: 'auto:cascade' is no trained policy of kind difficulty",
        ),
        (
            config({}, policies={"x": {"kind": "cascade", "gate": "learned", "trained": "my own:cascade"}}, **REDIS),
            "policies.x.trained: 'my own:cascade' is no trained policy of kind cascade; expected ROUTE:cascade",
        ),
        (
            config({"file": "p"}, policies={"x": {"kind": "difficulty", "threshold": 1}}),
            "policies.x: trained policies are kept in redis; add it, or name a `file`",
        ),
        (
            config({}, route={"encoder": {"kind": "embeddings", "model": "e"}}, **REDIS),
            "routes.auto.encoder.model: unknown model 'e'; known: teacher, student",
        ),
        (
            config({}, route={"encoder": {"kind": "embeddings", "model": "teacher", "wait_s": 1}}, **REDIS),
            "routes.auto.encoder.wait_s: unknown key; known: kind, model, timeout_s",
        ),
        (
            config({}, route={"encoder": {"kind": "onnx", "model": "m", "tokenizer": "t", "max_tokens": 1}}, **REDIS),
            "routes.auto.encoder.max_tokens: Input should be greater than or equal to 8",
        ),
        (
            config({}, route={"sticky": {"ttl": 3}}, **REDIS),
            "routes.auto.sticky.ttl: unknown key; known: margin, ttl_s",
        ),
    ],
)
def test_what_is_missing_is_named_with_its_place_and_the_fix(data: Json, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parsed(data)
    assert problem in str(refused.value)


def test_two_routes_that_follow_one_trained_policy_have_one_encoder() -> None:
    data = config({}, route={"encoder": {"kind": "embeddings", "model": "teacher"}}, **REDIS)
    auto = data["routes"]["auto"]
    follower = auto | {"policy": {"kind": "difficulty", "threshold": 0.1, "trained": "auto:difficulty"}}
    data["routes"] |= {"too": follower}
    parsed(data)
    data["routes"]["too"] = follower | {"encoder": {"kind": "embeddings", "model": "student"}}
    with pytest.raises(
        ConfigError, match=r"routes\.too\.encoder: routes\.auto follows 'auto:difficulty', too: give both"
    ):
        parsed(data)


class UnfinishedConfig(PolicyConfig):
    """A plug-in's, whose policy is not one yet."""

    def build(self, route: str, slots: Slots) -> Policy:
        return self  # type: ignore[return-value]


def test_a_policy_that_lacks_what_the_gateway_reads_of_it_is_named() -> None:
    problems = list(policy_problems({}, {"mine": UnfinishedConfig(kind="mine")}, {}, (), has_redis=True))
    assert problems == ["policies.mine: the policy of kind 'mine' has no scorer, decide, at; see policies.base.Policy"]
