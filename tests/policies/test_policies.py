"""Every policy of the registry keeps the contract; a new one needs an example here and is tested from then on."""

from __future__ import annotations

import random
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from policies.base import Decision, Gate, Policy, PolicyConfig
from policies.gate.answer import StudentAnswer, signals
from policies.guards import Fit
from policies.learn.trained import Slots
from policies.query import Query
from policies.registry import CONFIGS
from tests.support.policy_parts import Asked, StillRoute

EXAMPLES: dict[str, dict[str, Any]] = {
    "fixed": {"kind": "fixed", "model": "teacher"},
    "split": {"kind": "split", "student_share": 0.3},
    "rules": {"kind": "rules", "rules": [{"when": {"tools": True}, "use": "teacher"}], "default": "student"},
    "cascade": {"kind": "cascade", "escalate_at": 0.4, "calibration": [[-2.0, 0.9], [-0.1, 0.1]]},
    "difficulty": {"kind": "difficulty", "threshold": 0.3},
}
BY_KIND: dict[str, type[PolicyConfig]] = {
    config.model_fields["kind"].annotation.__args__[0]: config  # type: ignore[union-attr]  # a Literal of one
    for config in CONFIGS
}


REQUESTS = [
    Asked(),
    Asked(needs=frozenset({"tools"})),
    Asked(prompt_bytes=10**6, words="x" * 100),
    Asked(tenant="acme", headers={"x-tier": "gold"}),
    *(Asked(words=f"question {number}") for number in range(40)),
]


LIVE = StillRoute(extra_usd=0.01, teacher_usd=0.011)


def config_of(kind: str, **changes: Any) -> PolicyConfig:
    return TypeAdapter(BY_KIND[kind]).validate_python(EXAMPLES[kind] | changes)


def built(kind: str, **changes: Any) -> Policy:
    return config_of(kind, **changes).build("auto", Slots())


def test_every_policy_has_an_example() -> None:
    assert set(EXAMPLES) == set(BY_KIND)


@pytest.mark.parametrize("kind", BY_KIND)
class TestContract:
    async def test_a_decision_is_an_arm_with_its_propensity_and_reason(self, kind: str) -> None:
        policy = built(kind)
        for request in REQUESTS:
            decision = await policy.decide(request, LIVE)
            assert decision.arm in ("teacher", "student")
            assert 0 <= decision.teacher_probability <= 1
            assert decision.reason
            assert decision.teacher_probability > 0 or decision.arm == "student"
            assert decision.teacher_probability < 1 or decision.arm == "teacher"

    async def test_the_same_request_is_decided_the_same_way_by_every_worker(self, kind: str) -> None:
        first, second = built(kind), built(kind)
        for request in REQUESTS:
            one, other = await first.decide(request, LIVE), await second.decide(request, LIVE)
            assert (one.arm, one.reason, one.teacher_probability) == (
                other.arm,
                other.reason,
                other.teacher_probability,
            )

    async def test_the_arms_come_as_often_as_the_propensity_says(self, kind: str) -> None:
        policy = built(kind)
        decisions = [await policy.decide(Asked(words=f"conversation {number}"), LIVE) for number in range(2_000)]
        expected = sum(decision.teacher_probability for decision in decisions)
        teachers = sum(decision.arm == "teacher" for decision in decisions)
        assert abs(teachers - expected) < 5 * (0.25 * len(decisions)) ** 0.5

    def test_the_version_follows_the_configuration(self, kind: str) -> None:
        assert built(kind).version == built(kind).version
        others: dict[str, dict[str, Any]] = {
            "fixed": {"model": "student"},
            "split": {"student_share": 0.31},
            "rules": {"default": "teacher"},
            "cascade": {"escalate_at": 0.41},
            "difficulty": {"threshold": 0.31},
        }
        assert built(kind).version != built(kind, **others[kind]).version

    def test_it_knows_its_own_name(self, kind: str) -> None:
        assert built(kind).kind == kind

    def test_an_operating_point_gives_another_version_or_a_clear_refusal(self, kind: str) -> None:
        policy = built(kind)
        try:
            moved = policy.at(0.7)
        except ValueError as error:
            assert kind in str(error)
            return
        assert moved.kind == kind
        assert moved.version != policy.version
        assert moved.version == policy.at(0.7).version
        for outside in (-0.1, 1.1, float("nan")):
            with pytest.raises(ValueError, match="outside"):
                policy.at(outside)

    def test_unknown_keys_are_refused(self, kind: str) -> None:
        with pytest.raises(ValidationError, match="extra"):
            config_of(kind, surprise=1)


@pytest.mark.parametrize("share", [0.0, 1.0])
async def test_a_share_of_nothing_or_everything_is_exactly_that(share: float) -> None:
    for sticky in (True, False):
        policy = built("split", student_share=share, sticky=sticky)
        arms = {(await policy.decide(request, LIVE)).arm for request in REQUESTS}
        assert arms == ({"student"} if share else {"teacher"})


async def test_a_split_that_is_not_sticky_draws_anew() -> None:
    random.seed(1)
    policy = built("split", student_share=0.5, sticky=False)
    assert {(await policy.decide(REQUESTS[0], LIVE)).arm for _ in range(60)} == {"teacher", "student"}


RULES: list[tuple[dict[str, Any], Asked, bool]] = [
    ({"header": {"X-Tier": "^gold$"}}, Asked(headers={"x-tier": "gold"}), True),
    ({"header": {"X-Tier": "^gold$"}}, Asked(headers={"x-tier": "golden"}), False),
    ({"header": {"X-Tier": "gold"}}, Asked(), False),
    ({"tenant": ["acme", "initech"]}, Asked(tenant="acme"), True),
    ({"tenant": ["acme"]}, Asked(), False),
    ({"min_prompt_bytes": 10}, Asked(prompt_bytes=10), True),
    ({"min_prompt_bytes": 10}, Asked(prompt_bytes=9), False),
    ({"max_prompt_bytes": 10}, Asked(prompt_bytes=10), True),
    ({"max_prompt_bytes": 10}, Asked(prompt_bytes=11), False),
    ({"tools": True}, Asked(needs=frozenset({"tools"})), True),
    ({"tools": False}, Asked(needs=frozenset({"tools"})), False),
    ({"tools": False}, Asked(), True),
    ({"regex": "(?i)PROVE"}, Asked(words="please prove"), True),
    ({"regex": "prove"}, Asked(words="please"), False),
    ({"regex": "prove", "tenant": ["acme"]}, Asked(words="prove"), False),
]


@pytest.mark.parametrize(("when", "request_", "holds"), RULES)
async def test_a_rule_holds_when_all_its_conditions_do(when: dict[str, Any], request_: Asked, holds: bool) -> None:
    policy = built("rules", rules=[{"when": when, "use": "teacher"}], default="student")
    decision = await policy.decide(request_, LIVE)
    assert decision == (Decision("teacher", "rule:0", 1.0) if holds else Decision("student", "rule:default", 0.0))


@pytest.mark.parametrize(
    "rules", [[], [{"when": {}, "use": "teacher"}], [{"when": {"regex": "("}, "use": "teacher"}]], ids=str
)
def test_rules_that_mean_nothing_are_refused(rules: list[Any]) -> None:
    with pytest.raises(ValidationError):
        config_of("rules", rules=rules)


@pytest.mark.parametrize(
    "points", [[[0, 0.1], [-1, 0.9]], [[-1, 0.1], [0, 0.9]], [[-1, 1.5]], [[-1, 0.5], [-1, 0.4]], [[float("nan"), 0.5]]]
)
def test_a_calibration_that_is_none_is_refused(points: list[Any]) -> None:
    with pytest.raises(ValidationError):
        config_of("cascade", calibration=points)


async def test_a_gate_believes_its_calibration_else_the_model() -> None:
    def p_wrong(gate: Gate, mean_logprob: float) -> float:
        score = gate.score(Query(), StudentAnswer("x", signals([mean_logprob])))
        assert score is not None
        return score.loss

    plain = (await built("cascade", calibration=[]).decide(REQUESTS[0], LIVE)).gate
    assert plain is not None
    assert [round(p_wrong(plain, score), 3) for score in (0.0, -0.5, -100.0, 0.1)] == [0.0, 0.393, 1.0, 0.0]
    gate = (await built("cascade").decide(REQUESTS[0], LIVE)).gate
    assert gate is not None
    assert p_wrong(gate, -99.0) == 0.9
    assert p_wrong(gate, -1.05) == pytest.approx(0.5)
    assert p_wrong(gate, 0.0) == 0.1
    assert [gate.choose(p, LIVE, 0.01).arm for p in (0.39, 0.4, 1.0)] == ["student", "teacher", "teacher"]
    assert gate.score(Query(), StudentAnswer("x")) is None


FIT = Fit(frozenset({"tools"}), context_tokens=100, max_output_tokens=50, bytes_per_token=4.0)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (Asked(), None),
        (Asked(needs=frozenset({"tools"})), None),
        (Asked(needs=frozenset({"n", "images"})), "images"),
        (Asked(output_tokens=50), None),
        (Asked(output_tokens=51), "output"),
        (Asked(prompt_bytes=400), None),
        (Asked(prompt_bytes=401), "context"),
        (Asked(prompt_bytes=300, output_tokens=26), "context"),
    ],
)
def test_a_request_fits_or_the_first_reason_why_not(request_: Asked, reason: str | None) -> None:
    assert FIT.misfit(request_) == reason
