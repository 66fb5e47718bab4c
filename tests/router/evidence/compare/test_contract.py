"""What every comparator promises, run over the registry: a new entry is tested the day it is listed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.evidence.compare import COMPARATORS, Answer, ToolCall, Verdict, compare

HARD_TEXTS = [
    "1e999999",
    "-1e999999",
    "1e-999999",
    "1e" + "9" * 30,
    "9" * 5000,
    "NaN",
    "-Infinity",
    "1/0",
    "[" * 5000,
    "[" * 90 + "]" * 90,
    '{"a":' * 5000 + "1" + "}" * 5000,
    '{"n": 1e999999, "m": ' + "9" * 5000 + "}",
    '{"n": NaN, "n": Infinity}',
    '{"a": 1, "a": 2}',
    "```json\n[]\n```",
    "```",
    "\ud800 lone surrogate",
    '{"\udfff": "\ud800"}',
    "a" + "\u0300\u0315" * 5000,
    "İIıi ẞß ﬁ ² ½",
    "\x00\x1f\u2028\ufeff",
    "10%",
    "0.1",
    "#### $1,234.50",
    "\\boxed{",
    "I'm sorry, but I can't help with that.",
    " \t\n",
    "",
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
any_text = st.text(st.characters(), max_size=40)
texts = st.one_of(
    st.sampled_from(HARD_TEXTS),
    any_text,
    json_values.map(json.dumps),
    st.decimals(allow_nan=True).map(str),
    st.sampled_from(["42", "the answer is 42.", "42 km", "42%", "0.42", "4,200", "forty-two", "No.", "no"]),
    st.from_regex(r"[0-9.,%/:= km$-]{0,12}", fullmatch=True),
)
calls = st.builds(ToolCall, name=st.sampled_from(["f", "g", ""]), arguments_json=texts)
answers = st.builds(
    Answer,
    text=texts,
    tool_calls=st.lists(calls, max_size=3).map(tuple),
    finish_reason=st.sampled_from([None, "stop", "length", "content_filter"]),
    refusal=st.none() | any_text,
    error=st.none() | any_text,
)
requests: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {"response_format": {"type": "json_object"}}, {"response_format": "text"}, {"tools": []}]
)
untimed = settings(deadline=None)
every_comparator = pytest.mark.parametrize("name", COMPARATORS)


def assert_consistent(verdict: Verdict) -> None:
    assert 0 <= verdict.score <= 1
    assert (verdict.score == 1) == verdict.same
    assert bool(verdict.diff) != verdict.same
    assert not (verdict.same and verdict.harm)
    assert verdict.kind != "agree" or verdict.same
    assert verdict.comparator and verdict.version >= 1
    verdict.diff.encode()


@every_comparator
def test_a_comparator_is_listed_under_its_own_name(name: str) -> None:
    assert COMPARATORS[name].name == name


@every_comparator
@untimed
@given(request=requests, answer=answers)
def test_an_answer_equals_itself(name: str, request: dict[str, Any], answer: Answer) -> None:
    direct = COMPARATORS[name].compare(request, answer, answer)
    assert direct.same and direct.kind == "agree"
    assert compare(request, answer, answer, name).same


@every_comparator
@untimed
@given(request=requests, teacher=answers, student=answers)
def test_verdicts_are_total_consistent_and_symmetric(
    name: str, request: dict[str, Any], teacher: Answer, student: Answer
) -> None:
    comparator = COMPARATORS[name]
    for one, other in (
        (comparator.compare(request, teacher, student), comparator.compare(request, student, teacher)),
        (compare(request, teacher, student, name), compare(request, student, teacher, name)),
    ):
        assert_consistent(one)
        assert_consistent(other)
        assert one.same == other.same
    assert isinstance(comparator.applies(request, teacher, student), bool)


@every_comparator
def test_a_different_tool_call_is_never_overlooked(name: str) -> None:
    teacher, student = (Answer("{}", (ToolCall("f", arguments),)) for arguments in ('{"a": 1}', '{"a": 2}'))
    assert not compare({"response_format": {"type": "json_object"}}, teacher, student, name).same
    assert not compare({}, teacher, Answer("{}"), name).same


@every_comparator
@pytest.mark.parametrize("text", HARD_TEXTS, ids=lambda text: ascii(text[:20]))
def test_hard_texts_are_compared_without_raising(name: str, text: str) -> None:
    answer = Answer(text, (ToolCall("f", text),))
    for other in HARD_TEXTS:
        assert_consistent(COMPARATORS[name].compare({}, answer, Answer(other, (ToolCall("f", other),))))
        assert_consistent(COMPARATORS[name].compare({}, Answer(text), Answer(other)))
