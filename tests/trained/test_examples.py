"""Which pairs teach what: harm by verdict, triage and people; weight by probability; the same request view as live."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import yaml

from router.auth import ANYBODY
from router.evidence.records import ArmAnswer, PairRecord, Triage
from router.request import ClientRequest, parse_fields
from router.settings import parse
from router.trained import examples
from router.trained.examples import Served, collect, conversation_of, example_of, served_on
from tests.support.gateway import two_models
from tests.support.pairs import STUDENT_VERSION, pair

SERVED = Served("auto", "teacher", "student", STUDENT_VERSION)


def changed(number: int = 1, *, harm: bool = True, **fields: Any) -> PairRecord:
    return pair(number, harm=harm).model_copy(update=fields)


def verdict(kind: str) -> Any:
    return pair(1, harm=True).verdict.model_copy(update={"kind": kind})


def harm_of(record: PairRecord) -> float | None:
    """None: left out."""
    found = collect([record], SERVED, "difficulty").examples
    return found[0].harm if found else None


@pytest.mark.parametrize(
    ("record", "harm"),
    [
        (pair(1), 0.0),
        (pair(1, harm=True), 1.0),
        (changed(triage=Triage(label="teacher_wrong", basis="judge")), 0.0),
        (changed(triage=Triage(label="equivalent", basis="second_draw")), 0.0),
        (changed(triage=Triage(label="ambiguous", basis="none")), 1.0),
        (changed(triage=Triage(label="ambiguous", basis="second_draw")), None),
        (changed(triage=Triage(label="ambiguous", basis="human")), None),
        (changed(harm=False, triage=Triage(label="student_wrong", basis="human")), 1.0),
        (changed(verdict=verdict("comparator_failed"), triage=None), None),
        (changed(verdict=verdict("ambiguous"), triage=Triage(label="student_wrong", basis="human")), 1.0),
        (changed(verdict=verdict("ambiguous"), triage=Triage(label="equivalent", basis="human")), 0.0),
    ],
)
def test_the_harm_is_what_was_concluded_and_the_undecided_teach_nothing(record: PairRecord, harm: float | None) -> None:
    assert harm_of(record) == harm


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"student_version": "old"}, "other versions of the student"),
        ({"teacher": ArmAnswer(model="another")}, "other models"),
        ({"teacher": ArmAnswer(model="teacher", error="timeout")}, "teacher failed"),
        ({"audit_probability": 0.0}, "targeted while audit.rate was 0"),
        ({"probability": 0.0}, "no probability"),
        ({"probability": float("nan")}, "no probability"),
        ({"split": "test"}, "held back"),
        ({"verdict": verdict("comparator_failed")}, "undecided"),
    ],
)
def test_what_is_left_out_is_counted_by_its_reason(fields: dict[str, Any], reason: str) -> None:
    collected = collect([changed(**fields), pair(2)], SERVED, "difficulty")
    assert [example.id for example in collected.examples] == [pair(2).id]
    assert collected.left_out == {reason: 1}


def test_a_pair_that_comes_from_two_sources_counts_once() -> None:
    assert len(collect([pair(1), pair(2), pair(1)], SERVED, "difficulty").examples) == 2


def test_pairs_of_other_routes_are_not_even_counted() -> None:
    assert collect([changed(route="other")], SERVED, "difficulty").left_out == {}


def test_a_failed_student_teaches_how_hard_a_request_is_but_no_gate() -> None:
    failed = changed(student=ArmAnswer(model="student", error="timeout"))
    assert harm_of(failed) == 1.0
    assert collect([failed], SERVED, "cascade").left_out == {"the student failed": 1}


def test_an_example_weighs_what_its_probability_leaves_unseen_and_carries_the_students_answer() -> None:
    example = example_of(changed(probability=0.05))
    assert example.weight == pytest.approx(20)
    assert example.answer is not None and example.answer.text == "wrong"
    assert (example.teacher, example.student) == (None, None)
    assert example.time == pair(1).time


def test_examples_come_oldest_first_and_know_how_recent_they_are() -> None:
    collected = collect([pair(3), pair(1), pair(2)], SERVED, "difficulty")
    assert [example.id for example in collected.examples] == [pair(n).id for n in (1, 2, 3)]
    assert collected.until == pair(3).time


def test_of_many_pairs_the_newest_are_examples_and_the_others_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "MOST_EXAMPLES", 3)
    collected = collect([pair(n) for n in (5, 1, 4, 2, 3)], SERVED, "difficulty")
    assert [example.id for example in collected.examples] == [pair(n).id for n in (3, 4, 5)]
    assert collected.left_out == {"older than the newest 3": 2}


def test_examples_know_the_versions_of_the_models_that_they_are_of() -> None:
    pairs = [pair(1), changed(2, teacher_version="t0"), changed(3, student_version="old")]
    assert collect(pairs, SERVED, "difficulty").models == {"teacher": ["t0", "t1"], "student": [STUDENT_VERSION]}


def test_the_turns_of_a_conversation_are_one_group_of_one_tenant() -> None:
    opening = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    later = [*opening, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "And now?"}]
    first, second = (changed(n, request={"messages": messages}) for n, messages in ((1, opening), (2, later)))
    assert conversation_of(first) == conversation_of(second)
    assert conversation_of(first) != conversation_of(second.model_copy(update={"tenant": "other"}))
    assert conversation_of(pair(1)) != conversation_of(pair(2))


def test_two_users_behind_one_long_system_prompt_are_two_groups() -> None:
    system = {"role": "system", "content": "Answer as our handbook says. " * 1_000}
    users = ("Where is my parcel?", "How do I pay?")
    first, second = (
        changed(n, request={"messages": [system, {"role": "user", "content": said}]}) for n, said in enumerate(users)
    )
    groups = {example.group for example in collect([first, second], SERVED, "difficulty").examples}
    assert groups == {conversation_of(first), conversation_of(second)} and len(groups) == 2


def test_requests_without_text_are_groups_of_their_own() -> None:
    first, second = (
        changed(number, endpoint="completions", request={"prompt": ids}) for number, ids in ((1, [1, 2]), (2, [1]))
    )
    assert conversation_of(first) != conversation_of(second)


def test_a_pair_is_read_by_its_endpoint_whatever_else_its_request_holds() -> None:
    request = {"input": "What is 3 by 4?", "prompt": {"id": "pmpt_1"}, "messages": [{"role": "user", "content": "no"}]}
    record = changed(1, endpoint="responses", request=request)
    assert example_of(record).query.whole == "What is 3 by 4?"
    assert conversation_of(record) == conversation_of(
        changed(2, endpoint="completions", request={"prompt": "What is 3 by 4?"})
    )


def test_a_record_is_seen_as_the_request_was_live() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Multiply 3 by 4"}]},
    ]
    request = {"model": "auto", "max_tokens": 7, "tools": [{"type": "function"}], "messages": messages}
    body = json.dumps(request).encode()
    fields = parse_fields(body)
    caller = replace(ANYBODY, name="app", tenant="acme")
    live = ClientRequest("chat", body, [], caller, fields)
    record = changed(request=request, needs=sorted(live.needs), tenant="acme", key="app")
    assert example_of(record).query == live.query("auto")


def test_what_a_route_serves_is_read_from_the_configuration() -> None:
    config = two_models("http://127.0.0.1/v1", "http://127.0.0.1/v1")
    served = served_on(parse(yaml.safe_dump(config), {}), "auto")
    assert served == SERVED
