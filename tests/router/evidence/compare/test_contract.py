"""What every comparator promises, run over the registry: a new entry is tested the day it is listed."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.evidence.compare import Answer, Services, ToolCall, Verdict
from tests.router.evidence.compare.asking import compare, configured, replying

DIFFER = (
    "import json, sys; asked = json.load(sys.stdin); print(json.dumps({'same': asked['teacher'] == asked['student']}))"
)
ALL = configured(
    moods={"kind": "label", "aliases": {"yes": ["yep", "y"]}},
    roughly={"kind": "number", "tolerance_rel": 0.01, "tolerance_abs": 0.1},
    invoices={"kind": "json", "rules": {"$.a": "ignore", "$[*]": {"tolerance_abs": 0.5}, "$.n": "text"}},
    tools={"kind": "tool_calls", "rules": {"f": {"$.a": "unordered"}}},
    tested={"kind": "code", "test": [sys.executable, "-c", "compile(open('answer.py').read(), 'answer', 'exec')"]},
    referee={"kind": "judge", "model": "third"},
    careful={"kind": "prose", "judge": "referee"},
    mine={"kind": "command", "argv": [sys.executable, "-c", DIFFER]},
    chosen={"kind": "auto", "label": "moods", "json": "invoices", "prose": "careful", "tool_calls": "tools"},
)
STARTS_PROGRAMS = ("tested", "mine")  # about 50 ms a verdict

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
    "```python\ndef f(x):\n    return x\n```",
    "```python\ndef f(:\n```",
    "x = " + "(" * 5000,
    "x = " + "-" * 5000 + "1",
    "x = 1" + "+1" * 5000,
    "It is not the same sentence, but it has a few words in it.",
    "Es ist nicht derselbe Satz, aber er hat ein paar Worte.",
    "A) one B) two C) three",
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
    [
        {},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object", "required": ["a"]}}}},
        {"text": {"format": {"type": "json_schema", "schema": {"$ref": "#/nowhere"}}}, "input": "hi"},
        {"response_format": "text", "messages": [{"role": "user", "content": "hi"}, 3]},
        {
            "tools": [
                {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"default": 1}}}}}
            ]
        },
        {"tools": [], "prompt": ["a", "b"]},
    ]
)
untimed = settings(deadline=None, max_examples=40)
every_comparator = pytest.mark.parametrize("name", ALL.names)
every_fast_comparator = pytest.mark.parametrize("name", [name for name in ALL.names if name not in STARTS_PROGRAMS])


def longer_is_better(material: str) -> str:
    a, b = re.findall(r"<answer-[AB]-\w+>\n(.*?)\n</answer", material, re.DOTALL)
    return json.dumps({"verdict": "A" if len(a) > len(b) else "B" if len(b) > len(a) else "tie"})


JUDGE = replying(longer_is_better)


def ask(name: str, request: dict[str, Any], teacher: Answer, student: Answer, services: Services = JUDGE) -> Verdict:
    return compare(request, teacher, student, name, ALL, services)


def assert_consistent(verdict: Verdict) -> None:
    assert 0 <= verdict.score <= 1
    assert (verdict.score == 1) == verdict.same
    assert bool(verdict.diff) != verdict.same
    assert not (verdict.same and verdict.harm)
    assert verdict.kind != "agree" or verdict.same
    assert verdict.preferred in (None, "teacher", "student", "tie")
    assert not (verdict.harm and verdict.preferred == "student")
    assert set(verdict.checks) <= {"teacher_valid", "student_valid"}
    assert verdict.comparator and verdict.version >= 1
    verdict.diff.encode()


@every_comparator
def test_a_comparator_is_listed_under_its_own_name(name: str) -> None:
    assert ALL.get(name).name == name


@every_fast_comparator
@untimed
@given(request=requests, answer=answers)
def test_an_answer_equals_itself(name: str, request: dict[str, Any], answer: Answer) -> None:
    assert ask(name, request, answer, answer).same


@every_fast_comparator
@untimed
@given(request=requests, teacher=answers, student=answers)
def test_verdicts_are_total_consistent_and_symmetric(
    name: str, request: dict[str, Any], teacher: Answer, student: Answer
) -> None:
    one, other = ask(name, request, teacher, student), ask(name, request, student, teacher)
    assert_consistent(one)
    assert_consistent(other)
    assert one.same == other.same
    assert isinstance(ALL.get(name).applies(request, teacher, student), bool)


@every_comparator
def test_a_different_tool_call_is_never_overlooked(name: str) -> None:
    teacher, student = (Answer("{}", (ToolCall("f", arguments),)) for arguments in ('{"b": 1}', '{"b": 22}'))
    assert not ask(name, {"response_format": {"type": "json_object"}}, teacher, student).same
    assert not ask(name, {}, teacher, Answer("{}")).same


@every_comparator
@pytest.mark.parametrize("text", HARD_TEXTS, ids=lambda text: ascii(text[:20]))
def test_hard_texts_are_compared_without_raising(name: str, text: str) -> None:
    answer, called = Answer(text), Answer(text, (ToolCall("f", text),))
    pairs = [(answer, answer), (called, Answer(text, (ToolCall("f", "{}"),)))]
    if name not in STARTS_PROGRAMS:
        pairs += [(answer, Answer(other)) for other in HARD_TEXTS[::3]]

    async def compared() -> list[Verdict]:
        return [await ALL.compare(name, {}, *pair, JUDGE) for pair in pairs]

    verdicts = asyncio.run(compared())
    assert verdicts[0].same
    for verdict in verdicts:
        assert_consistent(verdict)
