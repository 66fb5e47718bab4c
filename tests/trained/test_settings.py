"""The block `training:` of a route: what it must not be, and what would train nothing."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from router.errors import ConfigError
from router.settings import parse
from router.trained.settings import Training, trained_kind
from tests.support.gateway import two_models

REDIS = {"redis": {"url": "redis://127.0.0.1:1"}}
LEARNING = {"kind": "difficulty", "threshold": 0.2}


def problems(policy: dict[str, Any], training: dict[str, Any] | None = None, **top: Any) -> str:
    url = "http://127.0.0.1/v1"
    route = {"training": training or {}}
    try:
        parse(yaml.safe_dump(two_models(url, url, policy=policy, route=route, **top)), {})
    except ConfigError as error:
        return str(error)
    return ""


def test_a_policy_that_learns_may_be_trained_again_on_schedule() -> None:
    assert problems(LEARNING, **REDIS) == ""
    assert problems({"kind": "cascade", "gate": "learned"}, **REDIS) == ""


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ({"kind": "fixed", "model": "teacher"}, "policy 'fixed' learns nothing that can be trained"),
        ({**LEARNING, "file": "a.policy"}, "follows a `file`"),
        ({**LEARNING, "trained": "other:difficulty"}, "follows 'other:difficulty'; put `training` on that route"),
    ],
)
def test_what_would_train_nothing_that_is_followed_is_refused(policy: dict[str, Any], why: str) -> None:
    assert why in problems(policy, **REDIS)


def test_trained_policies_need_redis() -> None:
    assert "routes.auto.training: trained policies are kept in redis" in problems(LEARNING)


@pytest.mark.parametrize(
    "training", [{"every": "day"}, {"every": "soon"}, {"delta": 0}, {"min_pairs": 3}, {"timeout_s": 0}, {"often": True}]
)
def test_a_value_that_makes_no_sense_is_named(training: dict[str, Any]) -> None:
    assert f"routes.auto.training.{next(iter(training))}" in problems(LEARNING, training, **REDIS)


def test_periods_are_seconds() -> None:
    assert (Training(every="90m").every_s, Training(since="7d").since_s) == (5400, 604_800)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("auto:difficulty", "difficulty"), ("a:b:cascade", "cascade"), ("auto:magic", None), ("file:difficulty", None)],
)
def test_the_kind_is_told_from_the_name(name: str, kind: str | None) -> None:
    assert trained_kind(name) == kind
    assert trained_kind(None) is None
