"""Examples for each comparator, the ways in which they are known to fail included."""

from __future__ import annotations

from typing import Any

import pytest

from router.evidence.compare import Answer
from router.evidence.compare.registry import UnknownComparator
from tests.router.evidence.compare.asking import calling, compare, judge

JSON_MODE = {"response_format": {"type": "json_object"}}


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ("No.", "no"),
        ("Paris", " **Paris**!"),
        ('"yes"', "Yes"),
        ("two  words\nhere", "Two words here."),
        ("ﬁn", "FIN"),
        ("straße", "STRASSE"),
        ("Ｈｅｌｌｏ", "hello"),
        ("İstanbul", "i\u0307stanbul"),
    ],
)
def test_text_that_differs_in_form_only_is_the_same(teacher: str, student: str) -> None:
    assert judge(teacher, student, "label").same


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ("Paris", "paris, france"),
        ("-5", "5"),
        ("C#", "C"),
        ("5%", "5"),
        (".5", "5"),
        ("ISTANBUL", "ıstanbul"),
        ("yes", "no"),
        ("It is positive.", "It is not positive."),
    ],
)
def test_text_that_differs_in_substance_differs(teacher: str, student: str) -> None:
    assert not judge(teacher, student, "label").same


def test_a_short_difference_is_a_label_and_a_long_one_is_text() -> None:
    assert judge("positive", "negative").kind == "label"
    assert judge("a rather long answer in prose", "another one that is long").kind == "text"


def test_text_that_shares_words_scores_between_none_and_one() -> None:
    assert 0 < judge("the cat sat on the mat", "the cat sat on the hat").score < 1


def test_exact_sees_a_single_space() -> None:
    verdict = judge("a b", "a  b", "exact")
    assert not verdict.same and verdict.harm
    assert not compare({}, calling(("f", '{"a":1}')), calling(("f", '{"a": 1}')), "exact").same


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ("0.5", "50%"),
        ("50%", "50"),
        ("50%", "50 percent"),
        ("1,234", "1234"),
        ("1\u202f234", "1234"),
        ("1.234,50", "1234.5"),
        ("12.50", "12.5"),
        ("12,5", "12.5"),
        ("−5", "-5"),
        ("minus 5", "-5"),
        ("42", "the answer is 42"),
        ("42", "The answer is 42, because 6 * 7 is that and 43 is not."),
        ("42", "40 + 2 = 42"),
        ("42", "We add 40 and 2 and get $42$."),
        ("42", "\\boxed{42}"),
        ("42", "some steps with 3 and 4\n#### 42"),
        ("42", "There are 42 apples in the basket."),
        ("$1,234.50", "1234.5 dollars"),
        ("5 million", "5,000,000"),
        ("5k", "5000"),
        ("5 kg", "5kg"),
        ("1 day", "1"),
        ("3 days", "3 day"),
        ("1.5 km", "1500 m"),
        ("2 hours", "120 minutes"),
        ("250 ml", "0.25 liters"),
        ("1/2", "0.5"),
        ("0.333333333", "0.3333333333"),
        ("1e3", "1000"),
        ("9" * 5000, "9" * 5000 + ".0"),
        ("42", "forty-two"),
        ("21", "There are twenty one of them."),
        ("3", "Three."),
        ("XIV", "14"),
        ("$3.5 million", "$3,500,000"),
        ("€5bn", "€5,000 million"),
        ("2,4 Mio. €", "2.400.000 €"),
        ("1.250 €", "1250 €"),
        ("2 × 10^6", "2,000,000"),
        ("2 × 10⁻³", "0.002"),
        ("6.02 \\times 10^{23}", "6.02e23"),
        ("7/3", "2.333"),
        ("2 GB", "2000 MB"),
        ("2 percentage points", "2 pp"),
        ("$\\boxed{\\frac{2}{5}}$", "The answer is 2/5."),
    ],
)
def test_numbers_of_one_value_are_the_same(teacher: str, student: str) -> None:
    for verdict in (judge(teacher, student), judge(student, teacher)):
        assert verdict.same and verdict.comparator == "number"


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ("42", "43"),
        ("42", "-42"),
        ("42", "The answer is 43, not 42."),
        ("12 km", "12 m"),
        ("1 m", "1 g"),
        ("1 m", "1 s"),
        ("5 mW", "5 MW"),
        ("5 million", "5"),
        ("0.5%", "50%"),
        ("1234567", "1234568"),
        ("1234567.10", "1234567.90"),
        ("3.14", "3.14159"),
        ("1/2", "3/2"),
        ("1 1/2", "1/2"),
        ("12:30", "10:30"),
        ("2024-01-05", "2023-01-05"),
        ("1.2.3", "2.2.3"),
        ("3-5", "4-5"),
        ("007", "7"),
        ("5x", "5"),
        ("10²", "10"),
        ("[5]", "5"),
        ("1e999999", "2e999999"),
        ("1e-999999", "0"),
        ("1/0", "2/0"),
        ("42", "forty-three"),
        ("1", "No one"),
        ("$1.2 million", "$1.2 billion"),
        ("€3.5 million", "€3.5 thousand"),
        ("$5m", "$5bn"),
        ("2,4 Mio. €", "2,4 Mrd. €"),
        ("1.250 €", "1,25 €"),
        ("3 percentage points", "3%"),
        ("2 × 10^6", "2 × 10^5"),
        ("2 × 10⁶", "2 × 10⁻⁶"),
        ("10/3", "3.33"),
        ("10/3", "3.334"),
        ("2 GB", "2048 MB"),
        ("XIV", "16"),
        ("$\\boxed{\\frac{3}{4}}$", "The answer is 4/3."),
    ],
)
def test_numbers_of_different_value_differ(teacher: str, student: str) -> None:
    assert not judge(teacher, student).same
    assert not judge(teacher, student, "number").same


def asking(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


@pytest.mark.parametrize(
    ("asked", "teacher", "student", "same"),
    [
        ("Roughly how many visitors came?", "1,243", "1200", True),
        ("Roughly how many visitors came?", "1,243", "1300", False),
        ("Roughly how many visitors came?", "1,243", "1000", False),
        ("How many visitors came?", "1,243", "1200", False),
        ("Estimate it, rounded to one decimal.", "2.71", "2.7", False),
        ("What is 14 as a Roman numeral?", "XIV", "14", False),
        ("Write 14 in words.", "fourteen", "14", False),
        ("Digits only: how many?", "14", "fourteen", False),
        ("How many?", "14", "fourteen", True),
    ],
)
def test_the_request_says_how_exact_a_number_must_be(asked: str, teacher: str, student: str, same: bool) -> None:
    for left, right in ((teacher, student), (student, teacher)):
        assert compare(asking(asked), Answer(left), Answer(right), "number").same == same


def test_a_number_inside_prose_does_not_make_the_prose_a_number() -> None:
    verdict = judge("Room 42 is on the left", "Room 42 is on the right")
    assert not verdict.same and verdict.comparator == "prose"


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ('{"name": "bob", "age": 42}', '{"age":42,"name":"bob"}'),
        ('{"a": 1}', '```json\n{"a": 1.0}\n```'),
        ('{"a": NaN}', '{"a":NaN}'),
        ('{"a": 1, "a": 2}', '{"a": 2}'),
        ('["\\u00e9"]', '["é"]'),
    ],
)
def test_json_of_one_value_is_the_same(teacher: str, student: str) -> None:
    verdict = judge(teacher, student)
    assert verdict.same and verdict.comparator == "json"


@pytest.mark.parametrize(
    ("teacher", "student", "diff"),
    [
        ('{"a": [1, {"b c": 2}]}', '{"a": [1, {"b c": 3}]}', '$.a[1]["b c"]: 2 != 3'),
        ('{"a": 1}', '{"a": "1"}', '$.a: 1 != "1"'),
        ('{"a": true}', '{"a": 1}', "$.a: true != 1"),
        ('{"a": null}', "{}", "$.a: null != absent"),
        ("[1, 2]", "[1]", "$[1]: 2 != absent"),
        ("[1, 2]", "[2, 1]", "$[0]: 1 != 2; $[1]: 2 != 1"),
        ("[1]", '{"a": 1}', '$: [1] != {"a": 1}'),
        ('{"a": NaN}', '{"a": null}', "$.a: NaN != null"),
    ],
)
def test_a_json_difference_is_told_by_path(teacher: str, student: str, diff: str) -> None:
    verdict = judge(teacher, student)
    assert (verdict.same, verdict.kind, verdict.diff) == (False, "json", diff)


def test_json_that_was_asked_for_and_does_not_parse_differs() -> None:
    verdict = compare(JSON_MODE, Answer('{"a": 1}'), Answer("a is 1"))
    assert verdict.kind == "json" and "student: not JSON" in verdict.diff
    assert not compare(JSON_MODE, Answer("not json"), Answer("nor this")).same


def test_one_wrong_leaf_of_four_scores_three_quarters() -> None:
    assert judge("[1, 2, 3, 4]", "[1, 2, 3, 5]").score == 0.75


def test_many_differences_are_counted_and_not_listed() -> None:
    assert judge("[1, 2, 3, 4, 5]", "[6, 7, 8, 9, 10]").diff.endswith("and 2 more")


def test_parallel_calls_are_the_same_in_any_order() -> None:
    teacher = calling(("weather", '{"city": "Rome", "days": 1}'), ("time", ""))
    student = calling(("time", "{}"), ("weather", '{"days":1.0,"city":"Rome"}'))
    verdict = compare({}, teacher, student)
    assert verdict.same and verdict.comparator == "tool_calls"


def test_a_call_made_twice_is_not_the_call_made_once() -> None:
    verdict = compare({}, calling(("f", "{}")), calling(("f", "{}"), ("f", "{}")))
    assert not verdict.same and verdict.score == 0.5


def test_a_wrong_argument_is_told_by_name_and_path() -> None:
    verdict = compare({}, calling(("weather", '{"city": "Rome"}')), calling(("weather", '{"city": "Paris"}')))
    assert verdict.diff == 'weather $.city: "Rome" != "Paris"'


def test_a_call_and_an_answer_in_text_differ() -> None:
    verdict = compare({}, calling(("weather", "{}")), Answer("It is sunny"))
    assert (verdict.same, verdict.kind, verdict.harm) == (False, "tool_calls", True)
    assert "no further call" in verdict.diff


def test_malformed_arguments_are_the_same_only_when_spelled_the_same() -> None:
    assert compare({}, calling(("f", "{oops")), calling(("f", "{oops"))).same
    assert not compare({}, calling(("f", "{oops")), calling(("f", "{oops}"))).same
    assert not compare({}, calling(("f", "[[1]")), calling(("f", "{}"))).same


def test_tool_calls_compares_texts_where_nobody_called() -> None:
    assert judge("Yes.", "yes", "tool_calls").same
    assert judge("Yes.", "no", "tool_calls").kind == "text"


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownComparator, match=r"unknown comparator 'fuzzy'; known: exact, label, number"):
        judge("a", "a", "fuzzy")
