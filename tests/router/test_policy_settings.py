"""What a configuration needs around a policy that learns or is controlled."""

from __future__ import annotations

import json
from typing import Any

import pytest

from router.errors import ConfigError
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
            config({}, route={"sticky": {"ttl": 3}}, **REDIS),
            "routes.auto.sticky.ttl: unknown key; known: margin, ttl_s",
        ),
    ],
)
def test_what_is_missing_is_named_with_its_place_and_the_fix(data: Json, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parsed(data)
    assert problem in str(refused.value)
