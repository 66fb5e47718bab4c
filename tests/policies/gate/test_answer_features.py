"""What is made of an answer's words and form, and that a missing signal is said to be missing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.gate import features, form, wording
from policies.gate.answer import StudentAnswer, signals
from policies.learn.text import words
from policies.query import Query

JSON_WANTED = Query(needs=frozenset({"json_schema"}))


def formed(answer: StudentAnswer, query: Query | None = None) -> dict[str, float]:
    return dict(zip(form.NAMES, form.features(query or Query(last="Why?"), answer), strict=True))


def worded(request: str, answer: str) -> dict[str, float]:
    return dict(zip(wording.NAMES, wording.features(words(request), words(answer)), strict=True))


@pytest.mark.parametrize(
    ("text", "valid"),
    [('{"a": 1}', 1.0), ('```json\n{"a": 1}\n```', 1.0), ('{"a": 1', 0.0), ("It is 1.", 0.0), ("[" * 20_000, 0.0)],
)
def test_json_that_was_asked_for_is_checked(text: str, valid: float) -> None:
    assert formed(StudentAnswer(text), JSON_WANTED)["json_valid"] == valid


@pytest.mark.parametrize("blank", ["\n", " ", "\n\t"])
def test_a_student_that_writes_blanks_without_end_is_read_in_one_go(blank: str) -> None:
    """As small models do in JSON mode. Where a pattern goes back over them, this takes hours."""
    assert formed(StudentAnswer(f"```json{blank * 500_000}"))["json_valid"] == 0.0
    assert formed(StudentAnswer(f"```json\n[1]\n{blank * 50_000}```"))["json_valid"] == 1.0


def test_points_of_a_list_are_counted_whatever_stands_between_them() -> None:
    assert formed(StudentAnswer("1. one\n\n  2) two\n \n\t- three\n# four\nStep 5\n6 six"))["listed"] == 5


def test_prose_that_nobody_wanted_as_json_is_not_judged_as_json() -> None:
    assert math.isnan(formed(StudentAnswer("It is 1."))["json_valid"])


def test_tool_arguments_must_be_objects() -> None:
    calls = (("f", '{"x": 1}'), ("f", "{'x': 1}"), ("f", "3"), ("f", "{}"))
    found = formed(StudentAnswer("", tool_calls=calls), Query(tools=1))
    assert (found["tools_called"], found["tool_arguments_valid"]) == (4, 0.5)


@pytest.mark.parametrize(
    ("text", "ends_open"), [("so 82 - 13 = <<82-1", 1.0), ("they sold the", 1.0), ("They sold 5.", 0.0), ("5", 0.0)]
)
def test_an_answer_that_breaks_off_is_told_from_one_that_ends(text: str, ends_open: float) -> None:
    assert formed(StudentAnswer(text))["ends_open"] == ends_open


def test_a_refusal_is_told_by_its_words_or_its_field() -> None:
    assert formed(StudentAnswer("I'm sorry, but I can't help with that."))["refused"] == 1
    assert formed(StudentAnswer("", refusal="No."))["refused"] == 1
    assert formed(StudentAnswer("I can't see an error in it: it is right."))["refused"] == 0


def test_signals_that_did_not_come_are_missing_and_not_zero() -> None:
    bare = formed(StudentAnswer("Yes."))
    names = ("finished_length", "logprob_mean", "entropy_mean", "agreement", "checks_failed")
    assert all(math.isnan(bare[name]) for name in names)
    full = formed(
        StudentAnswer(
            "Yes.",
            signals=signals([-0.5, -1.5], [0.25, 0.75]),
            finish_reason="length",
            agreement=0.5,
            checks={"a": True, "b": False},
        )
    )
    assert [full[name] for name in names] == [1.0, -1.0, 0.5, 0.5, 1.0]


def test_hedging_and_corrections_are_counted() -> None:
    found = worded("How many?", "Wait, actually maybe 5. However, I assume 6.")
    assert (found["answer_corrections"], found["answer_hedges"]) == (2, 3)


def test_repetition_shows_in_pairs_of_words() -> None:
    once, looped = worded("", "one two three four five six"), worded("", "one two one two one two")
    assert once["distinct_pairs_share"] == 1
    assert looped["distinct_pairs_share"] == pytest.approx(2 / 5)


def test_an_answer_to_the_question_names_what_was_asked_for() -> None:
    request = "Anna picks apples. How many baskets of pears does Ben need?"
    assert (
        worded(request, "Ben needs 5 baskets of pears")["question_in_tail"]
        > worded(request, "5 shoes")["question_in_tail"]
    )


TEXTS = st.text(max_size=300)


@given(TEXTS, TEXTS)
def test_every_answer_has_the_same_columns_and_none_is_infinite(request: str, answer: str) -> None:
    found = features.extract(Query(last=request, whole=request), StudentAnswer(answer))
    assert found.dense.shape == (len(features.NAMES),)
    assert not any(math.isinf(value) for value in found.dense)
    assert len(found.columns) == len(found.values)
    assert all(0 <= column < features.WIDTH for column in found.columns)


def test_names_of_columns_are_unique() -> None:
    assert len(set(features.NAMES)) == len(features.NAMES)


def test_of_a_long_answer_the_end_still_counts() -> None:
    filler = "and so on and so forth. " * 1_000
    wrong, right = (features.extract(Query(), StudentAnswer(f"{filler} 2 + 2 = {sum_}")) for sum_ in (5, 4))
    place = features.NAMES.index("answer.wrong")
    assert (wrong.dense[place], right.dense[place]) == (1, 0)
