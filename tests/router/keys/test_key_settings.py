"""Keys and tenants in the file: what loads, and what is refused with which words."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from router.errors import ConfigError
from router.settings import Config, load, masked, parse
from tests.support.gateway import two_models
from tests.support.keys import sha256


def config(key: dict[str, Any] | None = None, **top: Any) -> dict[str, Any]:
    data = two_models("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1", models={"max_output_tokens": 10})
    keys = [{"name": "app", "sha256": sha256("sk-app"), **(key or {})}]
    return {**data, "server": {"auth": "keys"}, "redis": "embedded", "keys": keys, **top}


def parsed(data: dict[str, Any]) -> Config:
    return parse(yaml.safe_dump(data, sort_keys=False), {}).config


def problems(data: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parsed(data)
    return str(caught.value)


DAY = {"window": "day", "limit_usd": 5}


def test_a_key_may_have_limits_an_end_and_budgets() -> None:
    terms = {"requests_per_minute": 60, "tokens_per_minute": 9, "expires": "2036-01-31", "budgets": [DAY]}
    key = parsed(config(terms)).keys[0]
    assert (key.requests_per_minute, key.tokens_per_minute) == (60, 9)
    assert key.expires == datetime(2036, 1, 31, tzinfo=UTC)
    ((name, budget),) = key.own_budgets()
    assert (name, budget.kind, budget.member, budget.limit_usd) == ("key:day", "key", "app", 5)


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2036-01-31", datetime(2036, 1, 31, tzinfo=UTC)),
        ("2036-01-31 12:00:00", datetime(2036, 1, 31, 12, tzinfo=UTC)),
        ("2036-01-31T12:00:00+02:00", datetime(2036, 1, 31, 10, tzinfo=UTC)),
        ('"2036-01-31T12:00:00Z"', datetime(2036, 1, 31, 12, tzinfo=UTC)),
        ("null", None),
    ],
)
def test_a_day_or_a_time_is_read_as_yaml_or_text(written: str, moment: datetime | None) -> None:
    text = yaml.safe_dump(config({"expires": "HERE"})).replace("HERE", written)
    assert parse(text, {}).config.keys[0].expires == moment


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ({"requests_per_minute": 0}, "keys.0.requests_per_minute: "),
        ({"tokens_per_minute": -1}, "keys.0.tokens_per_minute: "),
        ({"tokens_per_minute": 10**10}, "keys.0.tokens_per_minute: "),
        ({"expires": 1}, "keys.0.expires: expected a day or a time"),
        ({"expires": True}, "keys.0.expires: expected a day or a time"),
        ({"expires": "later"}, "keys.0.expires: expected a day or a time"),
        ({"expires": []}, "keys.0.expires: expected a day or a time"),
        ({"budgets": [{**DAY, "limit_usd": -1}]}, "keys.0.budgets.0.limit_usd: "),
        ({"budgets": [{**DAY, "window": "year"}]}, "keys.0.budgets.0.window: unknown window 'year'"),
        ({"budgets": [{**DAY, "timezone": "Mars"}]}, "keys.0.budgets.0.timezone: unknown time zone"),
        ({"budgets": [{**DAY, "route": "auto"}]}, "keys.0.budgets.0: the budget of a key has no scope of its own"),
        ({"budgets": [{**DAY, "each": "key"}]}, "leave out each"),
        ({"budgets": [DAY, DAY]}, "keys.0: the key 'app' has two budgets per day"),
    ],
)
def test_bad_keys_are_refused_with_their_path(key: dict[str, Any], words: str) -> None:
    assert words in problems(config(key))


def test_two_keys_have_two_names() -> None:
    data = config()
    data["keys"].append({"name": "app", "sha256": sha256("sk-other")})
    assert "keys.1.name: 'app' is the name of another key" in problems(data)


def test_a_key_s_budget_needs_redis_and_models_whose_dearest_call_is_known() -> None:
    assert "keys.0.budgets.0: budgets need redis" in problems(config({"budgets": [DAY]}, redis=None))
    data = config({"budgets": [DAY]})
    del data["models"]["student"]["max_output_tokens"]
    assert "models.student: keys.0.budgets.0 counts its calls" in problems(data)


@pytest.mark.parametrize("scope", [{"each": "key"}, {"key": "app"}])
def test_a_key_s_budget_does_not_limit_what_another_one_does(scope: dict[str, str]) -> None:
    data = config({"budgets": [DAY]}, budgets={"other": {**DAY, **scope}})
    assert "keys.0.budgets: the budget per day limits the same as budgets.other" in problems(data)
    data["budgets"] = {"other": {**DAY, **scope, "window": "month"}, "tenant": {**DAY, "each": "tenant"}}
    parsed(data)


@pytest.mark.parametrize("limit", ["requests_per_minute", "tokens_per_minute"])
def test_a_tenant_s_limit_needs_tenants(limit: str) -> None:
    tenants = {"acme": {limit: 5}}
    assert getattr(parsed(config(tenants=tenants)).tenants["acme"], limit) == 5
    words = f"tenants.acme.{limit}: server.auth is none: nobody has a tenant"
    assert words in problems(config(keys=[], server={"auth": "none"}, tenants=tenants))
    assert f"tenants.acme.{limit}: " in problems(config(tenants={"acme": {limit: 0}}))


def test_no_whole_hash_is_shown(tmp_path: Any) -> None:
    path = tmp_path / "router.yaml"
    path.write_text(yaml.safe_dump(config()))
    shown = json.dumps(masked(load(path)))
    assert sha256("sk-app") not in shown and sha256("sk-app")[:8] in shown
