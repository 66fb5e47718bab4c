"""The cascade's gate: what its score is made of, what wins over it, and what a configuration may say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from policies.base import GateNeeds
from policies.cascade import Cascade, CascadeConfig, CascadeGate
from policies.gate.agreement import Agreement, with_agreement
from policies.gate.answer import StudentAnswer, signals
from policies.gate.asks import Asks
from policies.gate.checks import JsonSchemaCheck
from policies.learn.trained import Score, Slots
from policies.query import Query
from tests.support.policy_parts import Estimator, StillRoute

UNIT = st.floats(0, 1)
HALF = StudentAnswer("x", signals=signals([-0.6931471805599453]))
CHECK = {"json": {"kind": "json_schema"}}


def cascade(slots: Slots | None = None, **block: Any) -> Cascade:
    policy = CascadeConfig(kind="cascade", **block).build("auto", slots or Slots())
    assert isinstance(policy, Cascade)
    return policy


def loss_of(gate: CascadeGate, answer: StudentAnswer) -> float | None:
    score = gate.score(Query(), answer)
    return None if score is None else score.loss


@given(UNIT, UNIT, st.integers(1, 8))
def test_agreement_only_ever_lowers_the_loss(p_wrong: float, share: float, samples: int) -> None:
    assert with_agreement(p_wrong, 1.0, samples) <= with_agreement(p_wrong, share, samples)
    assert with_agreement(p_wrong, share, samples) <= with_agreement(p_wrong, 0.0, samples)
    assert 0 <= with_agreement(p_wrong, share, samples) <= 1


def test_agreement_weighs_more_the_more_samples_there_are() -> None:
    assert [round(with_agreement(0.5, 1.0, count), 3) for count in (1, 2, 8)] == [0.4, 0.333, 0.167]
    assert with_agreement(None, 0.0, 2) == with_agreement(0.5, 0.0, 2) == pytest.approx(2 / 3)


def test_a_gate_joins_log_probabilities_and_agreement() -> None:
    gate = cascade(agreement={"samples": 2}).gate
    assert loss_of(gate, HALF) == pytest.approx(0.5)
    agreed = StudentAnswer("x", signals=HALF.signals, agreement=1.0, samples=2)
    assert loss_of(gate, agreed) == pytest.approx(1 / 3)
    assert loss_of(gate, replace(agreed, samples=1)) == pytest.approx(2 / 5)  # the other one never came
    assert loss_of(gate, StudentAnswer("x", agreement=0.5, samples=2)) == pytest.approx(0.5)


def test_an_answer_that_fails_a_check_is_a_certain_loss() -> None:
    gate = cascade(checks=CHECK).gate
    sure = signals([-0.001])
    assert loss_of(gate, StudentAnswer("x", signals=sure, checks={"json": False})) == 1.0
    assert loss_of(gate, StudentAnswer("x", signals=sure, checks={"json": True})) == pytest.approx(0.001, abs=1e-5)


def test_a_gate_of_checks_alone_accepts_what_passes_them() -> None:
    gate = cascade(gate="checks", checks=CHECK).gate
    assert loss_of(gate, StudentAnswer("x", checks={"json": True})) == 0.0
    assert loss_of(gate, StudentAnswer("x", checks={"json": False})) == 1.0
    assert gate.needs == GateNeeds(tokens=0, whole=True)


def test_a_gate_of_agreement_alone_cannot_tell_without_it() -> None:
    gate = cascade(gate="checks", agreement={"samples": 1}).gate
    assert loss_of(gate, StudentAnswer("x", signals=signals([-0.001]))) is None
    assert loss_of(gate, StudentAnswer("x", agreement=1.0, samples=1)) == pytest.approx(0.4)


def test_an_answer_that_shows_nothing_has_no_score() -> None:
    assert loss_of(cascade().gate, StudentAnswer("x")) is None


async def test_a_learned_gate_takes_over_when_it_is_promoted() -> None:
    slots = Slots()
    policy = cascade(slots, gate="learned")
    before = policy.version
    assert loss_of(policy.gate, HALF) == pytest.approx(0.5)
    slots.named("auto:cascade").current = Estimator(0.9)
    assert policy.gate.score(Query(), HALF) == Score(0.9, 0.25)
    assert policy.version.endswith("+abcd1234") and policy.version != before
    decision = await policy.decide(Any, StillRoute())  # type: ignore[arg-type]  # it does not look at the request
    slots.named("auto:cascade").current = None
    assert decision.gate is not None and decision.gate.score(Query(), HALF) == Score(0.9, 0.25)  # one version a request


def test_the_scorer_changes_with_what_scores_and_not_with_the_threshold() -> None:
    plain = cascade()
    assert plain.scorer == cascade(escalate_at=0.9).scorer != cascade(score_tokens=8).scorer
    slots = Slots()
    slots.named("auto:cascade").current = Estimator(0.0)
    learned, checked = cascade(slots, gate="learned"), cascade(slots, gate="learned", checks=CHECK)
    assert learned.scorer == "abcd1234" != checked.scorer
    assert learned.at(0.7).scorer == learned.scorer


def test_a_learned_gate_still_heeds_the_checks() -> None:
    slots = Slots()
    slots.named("auto:cascade").current = Estimator(0.0)
    gate = cascade(slots, gate="learned", checks=CHECK).gate
    assert loss_of(gate, StudentAnswer("x", checks={"json": False})) == 1.0


@pytest.mark.parametrize(
    ("block", "name"),
    [
        ({}, None),
        ({"gate": "learned"}, "auto:cascade"),
        ({"gate": "learned", "trained": "mine"}, "mine"),
        ({"gate": "learned", "file": "gate.bin"}, "file:cascade:gate.bin"),
    ],
)
def test_only_a_learned_gate_follows_a_trained_policy(block: dict[str, Any], name: str | None) -> None:
    assert CascadeConfig(kind="cascade", **block).trained_for("auto") == name


def test_the_strictest_of_threshold_and_pace_counts_and_the_floor_wins() -> None:
    gate = CascadeGate(0.3, GateNeeds(tokens=3), paced=True)
    free, dear = StillRoute(pace_usd=0.0), StillRoute(pace_usd=1_000.0)
    assert gate.choose(0.4, free, 0.001).arm == "teacher"
    assert (gate.choose(0.4, dear, 0.001).arm, gate.choose(0.4, dear, 0.001).reason) == ("student", "pace")
    floored = gate.choose(0.4, StillRoute(floor=0.2, pace_usd=1_000.0), 0.001)
    assert (floored.arm, floored.reason, floored.threshold) == ("teacher", "floor", 0.2)


async def test_while_the_floor_certifies_nothing_the_student_is_not_asked() -> None:
    decision = await cascade().decide(Any, StillRoute(floor=0.0))  # type: ignore[arg-type]  # it does not look at it
    assert (decision.arm, decision.reason, decision.teacher_probability) == ("teacher", "floor", 1.0)
    assert decision.gate is not None  # which still scores what the student says in the background


@pytest.mark.parametrize(
    ("block", "needs"),
    [
        ({}, GateNeeds(64)),
        ({"score_tokens": 8, "decide_after": "sentence"}, GateNeeds(8, sentence=True)),
        ({"decide_after": "answer"}, GateNeeds(64, whole=True)),
        ({"agreement": {}}, GateNeeds(64, whole=True)),
        ({"checks": CHECK}, GateNeeds(64, whole=True)),
        ({"gate": "learned"}, GateNeeds(64, whole=True, entropies=True)),
        ({"gate": "learned", "decide_after": "sentence"}, GateNeeds(64, sentence=True)),
    ],
)
def test_a_gate_waits_for_no_more_than_it_needs(block: dict[str, Any], needs: GateNeeds) -> None:
    assert cascade(**block).gate.needs == needs


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"agreement": {}, "decide_after": "tokens"}, "look at the whole answer"),
        ({"checks": CHECK, "decide_after": "sentence"}, "look at the whole answer"),
        ({"gate": "checks"}, "nothing to go by"),
        ({"gate": "learned", "decide_after": "tokens"}, "reads the text"),
        ({"gate": "learned", "score_tokens": 8}, "leave score_tokens out"),
        ({"trained": "mine"}, "belong to gate: learned"),
        ({"gate": "learned", "trained": "mine", "file": "x"}, "not both"),
        ({"agreement": {"temperature": 0}}, "repeats itself"),
        ({"agreement": {"samples": 9}}, "less than or equal to 8"),
        ({"checks": {"a b": {"kind": "json_schema"}}}, "letters, digits"),
        ({"checks": {"a": {"kind": "guess"}}}, "kind"),
        ({"checks": {"a": {"kind": "command", "argv": []}}}, "at least 1"),
    ],
    ids=str,
)
def test_a_block_that_makes_no_sense_is_refused(block: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CascadeConfig(kind="cascade", **block)


def test_a_second_model_answers_at_the_requests_own_temperature() -> None:
    assert Agreement().sampling_temperature == 0.7
    assert Agreement(model="other").sampling_temperature is None
    assert Agreement(model="other", temperature=0).sampling_temperature == 0


def test_asks_are_true_where_something_is_asked() -> None:
    assert not Asks()
    assert Asks(Agreement()) and Asks(checks={"json": JsonSchemaCheck(kind="json_schema")})


def test_a_schema_keeps_its_name_in_the_file() -> None:
    written = {"kind": "cascade", "checks": {"a": {"kind": "json_schema", "schema": {"type": "array"}}}}
    block = CascadeConfig.model_validate(written)
    assert CascadeConfig.model_validate(block.model_dump(mode="json")) == block
    assert block.model_dump(mode="json")["checks"]["a"]["schema"] == {"type": "array"}
