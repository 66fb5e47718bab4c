"""Budgets in the configuration file: what loads, and what is refused at start with its path."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from router.budget_settings import Budget
from router.errors import ConfigError
from router.settings import parse

Json = dict[str, Any]
DAY: Json = {"window": "day", "limit_usd": 10}
PROBLEM = "budgets.b"


def config(budgets: Any, **top: Any) -> str:
    """A configuration that is usable but for the budgets."""
    models = {
        name: {"base_urls": ["http://127.0.0.1:1/v1"], "price": {"input": 2, "output": 8}, "max_output_tokens": 100}
        for name in ("teacher", "student", "other")
    }
    data: Json = {
        "server": {"auth": "keys"},
        "redis": {"url": "redis://127.0.0.1:6379/0"},
        "models": models,
        "routes": {
            "auto": {"teacher": "teacher", "student": "student"},
            "second": {"teacher": "other", "student": "student"},
        },
        "keys": [{"name": "ci", "sha256": "ab" * 32, "tenant": "acme"}],
        "budgets": budgets,
        **top,
    }
    return yaml.safe_dump({name: value for name, value in data.items() if value is not None}, sort_keys=False)


def problems(budgets: Any, **top: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(config(budgets, **top), {})
    return str(caught.value).splitlines()


def the_problem(budgets: Any, **top: Any) -> str:
    (line,) = problems(budgets, **top)
    return line


def loads(budgets: Any, **top: Any) -> dict[str, Budget]:
    return parse(config(budgets, **top), {}).config.budgets


# --- what loads


@pytest.mark.parametrize(
    "budget",
    [
        DAY,
        {**DAY, "limit_usd": 0},
        {**DAY, "limit_usd": 1_000_000},
        {**DAY, "limit_usd": 0.000000001},
        {**DAY, "target_usd": 10},
        {**DAY, "key": "ci"},
        {**DAY, "key": "one-in-redis"},
        {**DAY, "tenant": "acme"},
        {**DAY, "route": "auto"},
        {**DAY, "each": "tenant", "timezone": "America/St_Johns"},
        {**DAY, "window": "1m"},
        {**DAY, "window": "366d"},
        {**DAY, "counts": "teacher", "on_spent": "student", "on_redis_loss": "allow"},
        {**DAY, "on_redis_loss": "allow"},
    ],
)
def test_a_sensible_budget_loads(budget: Json) -> None:
    assert loads({"b": budget})["b"].limit_usd == budget["limit_usd"]


def test_without_a_word_on_it_losing_redis_is_like_having_spent() -> None:
    budget = loads({"b": {**DAY, "counts": "teacher", "on_spent": "student"}})["b"]
    assert budget.redis_loss == "student"
    assert loads({"b": DAY})["b"].redis_loss == "refuse"


@settings(deadline=None)
@given(nano=st.integers(0, 10**15))
def test_a_limit_in_usd_is_exact_to_the_nano_dollar(nano: int) -> None:
    whole, rest = divmod(nano, 10**9)
    if len(f"{whole}") + 9 <= 15:  # what a double holds of a decimal number
        assert Budget(window="day", limit_usd=float(f"{whole}.{rest:09d}")).limit_nano == nano


# --- limits


@pytest.mark.parametrize("name", ["limit_usd", "target_usd"])
@pytest.mark.parametrize(
    "value", [-1, -0.000001, float("nan"), float("inf"), float("-inf"), 1e9, 1_000_001, "ten", None, [5]]
)
def test_a_limit_that_is_none_is_refused(name: str, value: Any) -> None:
    if (name, value) == ("target_usd", None):
        return
    assert the_problem({"b": {**DAY, name: value}}).startswith(f"{PROBLEM}.{name}: ")


def test_a_budget_without_a_limit_is_refused() -> None:
    assert the_problem({"b": {"window": "day"}}).startswith(f"{PROBLEM}.limit_usd: ")
    assert the_problem({"b": {"limit_usd": 1}}).startswith(f"{PROBLEM}.window: ")


def test_a_target_above_the_limit_is_refused() -> None:
    assert the_problem({"b": {**DAY, "target_usd": 10.5}}) == f"{PROBLEM}: target_usd 10.5 is above limit_usd 10"


def test_an_unknown_key_is_named_with_those_that_are_known() -> None:
    assert "limit_usd" in (line := the_problem({"b": {**DAY, "limit": 5}}))
    assert line.startswith(f"{PROBLEM}.limit: unknown key; known: ")


@pytest.mark.parametrize("budget", [None, 5, "10 USD", []])
def test_what_is_no_budget_is_refused(budget: Any) -> None:
    assert the_problem({"b": budget}).startswith(f"{PROBLEM}: ")


@pytest.mark.parametrize("name", ["a b", "a@b", "", "[x]", 'a"b', "ü", "a\nb", "x" * 129])
def test_a_name_that_no_metric_or_key_could_carry_is_refused(name: str) -> None:
    assert problems({name: DAY})[0].startswith(f"budgets.{name}"[:7])


# --- windows and time zones


@pytest.mark.parametrize(
    "window", ["week", "year", "", "Day", "0h", "59s", "367d", "9999999h", "-1h", "1.5h", "h", "24 h", "٣h"]
)
def test_an_unknown_window_is_refused_with_those_that_are_known(window: str) -> None:
    line = the_problem({"b": {**DAY, "window": window}})
    assert line.startswith(f"{PROBLEM}.window: unknown window '{window}'; known: hour, day, month")


@pytest.mark.parametrize("window", [24, None, ["day"]])
def test_a_window_that_is_no_text_is_refused(window: Any) -> None:
    assert the_problem({"b": {**DAY, "window": window}}).startswith(f"{PROBLEM}.window: ")


@pytest.mark.parametrize(
    "zone", ["Berlin", "europe/berlin", "CEST", "+02:00", "", "../../etc/passwd", "/etc/localtime"]
)
def test_an_unknown_time_zone_is_refused(zone: str) -> None:
    line = the_problem({"b": {**DAY, "timezone": zone}})
    assert line == f"{PROBLEM}.timezone: unknown time zone '{zone}'; expected a name such as UTC or Europe/Berlin"


def test_a_rolling_window_has_no_time_zone() -> None:
    assert the_problem({"b": {**DAY, "window": "24h", "timezone": "Europe/Berlin"}}).startswith(f"{PROBLEM}: ")


# --- scopes


@pytest.mark.parametrize(
    "scopes", [{"key": "ci", "tenant": "acme"}, {"route": "auto", "each": "key"}, {"key": "ci", "each": "key"}]
)
def test_a_budget_has_one_scope(scopes: Json) -> None:
    assert the_problem({"b": {**DAY, **scopes}}) == f"{PROBLEM}: one scope at most, not {' and '.join(scopes)}"


@pytest.mark.parametrize("scopes", [{"each": "model"}, {"each": "keys"}, {"each": True}])
def test_an_unknown_kind_of_scope_is_refused(scopes: Json) -> None:
    assert the_problem({"b": {**DAY, **scopes}}).startswith(f"{PROBLEM}.each: ")


def test_an_unknown_route_is_refused_with_those_that_are_known() -> None:
    assert the_problem({"b": {**DAY, "route": "auot"}}) == f"{PROBLEM}.route: unknown route 'auot'; known: auto, second"


@pytest.mark.parametrize(
    ("scope", "path"),
    [({"key": "ci"}, "key"), ({"tenant": "acme"}, "tenant"), ({"each": "key"}, "each"), ({"each": "tenant"}, "each")],
)
def test_where_nobody_has_a_key_no_budget_is_about_one(scope: Json, path: str) -> None:
    line = the_problem({"b": {**DAY, **scope}}, server={"auth": "none"}, keys=None)
    assert line.startswith(f"{PROBLEM}.{path}: server.auth is none")


def test_budgets_need_redis() -> None:
    assert the_problem({"b": DAY}, redis=None).startswith(f"{PROBLEM}: budgets need redis")


@pytest.mark.parametrize("name", ["on_spent", "on_redis_loss"])
def test_the_student_is_a_way_out_only_where_it_does_not_count(name: str) -> None:
    line = the_problem({"b": {**DAY, name: "student"}})
    assert line == f"{PROBLEM}: {name} student needs counts: teacher, for the student's calls cost money too"


def test_being_spent_is_no_reason_to_allow() -> None:
    assert the_problem({"b": {**DAY, "on_spent": "allow"}}).startswith(f"{PROBLEM}.on_spent: ")


# --- overlaps


@pytest.mark.parametrize(
    ("first", "second", "whose"),
    [
        ({}, {}, "all requests"),
        ({"key": "ci"}, {"key": "ci"}, "key 'ci'"),
        ({"tenant": "acme"}, {"tenant": "acme"}, "tenant 'acme'"),
        ({"route": "auto"}, {"route": "auto"}, "route 'auto'"),
        ({"each": "key"}, {"each": "key"}, "each key"),
        ({"each": "key"}, {"key": "ci"}, "key 'ci'"),
        ({"tenant": "acme"}, {"each": "tenant"}, "tenant 'acme'"),
        ({"each": "route"}, {"route": "auto"}, "route 'auto'"),
        ({"counts": "teacher"}, {"counts": "teacher"}, "all requests"),
        ({"window": "24h"}, {"window": "24h"}, "all requests"),
        ({"timezone": "Europe/Berlin"}, {"timezone": "Europe/Berlin"}, "all requests"),
    ],
)
def test_two_budgets_of_the_same_money_are_refused(first: Json, second: Json, whose: str) -> None:
    line = the_problem({"a": {**DAY, **first}, "b": {**DAY, "limit_usd": 5, **second}})
    window = first.get("window", "day")
    assert line == f"{PROBLEM}: overlaps budgets.a: both limit {whose} per {window}; keep one of them"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"window": "month"}),
        ({}, {"window": "24h"}),
        ({}, {"each": "key"}),
        ({}, {"route": "auto"}),
        ({}, {"counts": "teacher"}),
        ({"key": "ci"}, {"key": "cd"}),
        ({"key": "ci"}, {"tenant": "ci"}),
        ({"each": "key"}, {"each": "route"}),
        ({}, {"timezone": "Europe/Berlin"}),
    ],
)
def test_budgets_of_different_money_or_windows_live_side_by_side(first: Json, second: Json) -> None:
    assert len(loads({"a": {**DAY, **first}, "b": {**DAY, **second}})) == 2


def test_every_overlap_is_told() -> None:
    assert len(problems({"a": DAY, "b": DAY, "c": DAY})) == 3


# --- models without a bound


def unbounded(name: str) -> Json:
    """The models, of which one has neither a longest answer nor a context."""
    models: Json = yaml.safe_load(config({}))["models"]
    del models[name]["max_output_tokens"]
    return models


@pytest.mark.parametrize("counts", ["teacher", "all"])
def test_a_counted_model_whose_dearest_call_is_unknown_is_refused(counts: str) -> None:
    line = the_problem({"b": {**DAY, "counts": counts}}, models=unbounded("teacher"))
    assert line == (
        f"models.teacher: {PROBLEM} counts its calls, so that the dearest must be known: set max_output_tokens"
    )


def test_a_model_that_no_budget_counts_needs_no_bound() -> None:
    assert loads({"b": {**DAY, "counts": "teacher"}}, models=unbounded("student"))
    assert the_problem({"b": DAY}, models=unbounded("student")).startswith("models.student: ")


def test_a_context_is_a_bound() -> None:
    models = unbounded("teacher")
    models["teacher"]["context_tokens"] = 4096
    assert loads({"b": DAY}, models=models)


# --- a key's own budgets


def own(*budgets: Json) -> list[Json]:
    return [{"name": "ci", "sha256": "ab" * 32, "tenant": "acme", "budgets": list(budgets)}]


def test_a_key_has_budgets_of_its_own() -> None:
    keys = own(DAY, {**DAY, "window": "month"})
    assert loads({}, keys=keys) == {}


@pytest.mark.parametrize(
    ("budget", "path"),
    [
        ({**DAY, "limit_usd": -1}, "keys.0.budgets.0.limit_usd: "),
        ({**DAY, "window": "week"}, "keys.0.budgets.0.window: "),
        ({**DAY, "timezone": "Mars"}, "keys.0.budgets.0.timezone: "),
        ({**DAY, "route": "auto"}, "keys.0.budgets.0: "),
        ({**DAY, "each": "key"}, "keys.0.budgets.0: "),
        ({**DAY, "on_spent": "student"}, "keys.0.budgets.0: "),
    ],
)
def test_a_keys_own_budget_is_checked_alike(budget: Json, path: str) -> None:
    assert the_problem({}, keys=own(budget)).startswith(path)


def test_a_keys_own_budget_needs_redis_too() -> None:
    assert the_problem({}, keys=own(DAY), redis=None).startswith("keys.0.budgets.0: budgets need redis")


@pytest.mark.parametrize("scope", [{"key": "ci"}, {"each": "key"}])
def test_a_keys_own_budget_overlaps_one_about_the_key(scope: Json) -> None:
    line = the_problem({"b": {**DAY, **scope}}, keys=own(DAY))
    assert line.startswith("keys.0.budgets: ")
    assert "budgets.b" in line
