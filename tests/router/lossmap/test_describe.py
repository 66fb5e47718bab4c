"""Which slices a pair is in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.evidence.records import ArmAnswer
from router.lossmap.describe import kind, openings, slice_names
from router.lossmap.fields import fields, lost_fields
from router.lossmap.language import language
from router.prompt import read_prompt
from tests.router.lossmap.made import answer, made

CALL = {"name": "get_weather", "arguments": '{"city": "Oslo", "days": 2}'}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sort banana", ["sort", "sort banana"]),
        ("json anna 7", ["json", "json anna", "json anna #"]),
        ("12+34", ["##+##"]),
        ("1+2", ["#+#"]),
        (
            "  Summarise: the following text in",
            ["summarise", "summarise the", "summarise the following", "summarise the following text"],
        ),
        ("把下面的句子翻译成英文", ["把下", "把下 面的"]),
        ("", []),
        ("?!", []),
        ("x" * 500, ["x" * 24]),
    ],
)
def test_an_opening_is_the_first_words_with_digits_masked(text: str, expected: list[str]) -> None:
    assert openings(text) == expected


@pytest.mark.parametrize(
    ("teacher", "expected"),
    [
        (answer("1,234.50 USD"), "number"),
        (answer("46"), "number"),
        (answer("50 %"), "number"),
        (answer("-3.2e5"), "number"),
        (answer("spam"), "label"),
        (answer("very positive"), "label"),
        (answer('{"a": 1}'), "json"),
        (answer("```json\n[1]\n```"), "json"),
        (answer("Here:\n```python\nprint(1)\n```"), "code"),
        (answer("It depends on what you would like to do with it."), "prose"),
        (answer("7 reasons to go there"), "prose"),
        (answer("", tool_calls=[CALL]), "tool call"),
        (answer(""), "empty"),
        (answer("", refusal="No."), "refusal"),
    ],
)  # fmt: skip
def test_the_kind_is_what_the_teacher_answered(teacher: ArmAnswer, expected: str) -> None:
    assert kind(made(1, teacher=teacher)) == expected


@pytest.mark.parametrize(
    "asked",
    [
        {"messages": [], "response_format": {"type": "json_object"}},
        {"input": "x", "text": {"format": {"type": "json_schema", "schema": {}}}},
    ],
)
def test_where_json_was_asked_for_the_kind_is_json(asked: dict[str, Any]) -> None:
    assert kind(made(1, request=asked, teacher=answer("17"))) == "json"


def test_a_pair_s_slices() -> None:
    messages = [
        {"role": "system", "content": "You are  a weather bot."},
        {"role": "user", "content": "hello"},
        {"role": "user", "content": [{"type": "text", "text": "What is the weather in Oslo for the next two days?"}]},
    ]
    record = made(1, request={"messages": messages}, teacher=answer(tool_calls=[CALL]))
    names = slice_names(record)
    assert {"kind:tool call", "tool:get_weather", "language:English", "length:under 100", "opening:what is"} <= names
    assert {"field:get_weather $.city", "field:get_weather $.days"} <= names
    (system,) = (name for name in names if name.startswith("system:"))
    assert system.endswith(" You are a weather bot.")


def test_the_student_s_answer_is_in_no_slice() -> None:
    """Else a slice of losses would lose everything by its making."""
    records = [made(1, harm=harm, student=answer(text)) for harm, text in ((True, '{"x": 1}'), (False, "y"))]
    assert slice_names(records[0]) == slice_names(records[1])


@pytest.mark.parametrize(
    ("endpoint", "asked", "system", "last"),
    [
        ("completions", {"prompt": "once"}, "", "once"),
        ("completions", {"prompt": ["once", "twice"]}, "", "once\ntwice"),
        ("responses", {"input": "say", "instructions": "be kind"}, "be kind", "say"),
        ("responses", {"input": [{"role": "developer", "content": "d"}, {"role": "user", "content": "u"}]}, "d", "u"),
        ("responses", {"input": [{"role": "user", "content": [{"text": "u"}]}]}, "", "u"),
        ("chat", {"messages": [{"role": "assistant", "content": "a"}]}, "", ""),
        ("chat", {"messages": "broken", "instructions": 3}, "", "broken"),
        ("chat", {"messages": [None, 7, {"role": "user", "content": None}]}, "", ""),
        ("chat", {}, "", ""),
        ("unknown", {"messages": "m", "prompt": "p", "input": "i"}, "", ""),
    ],
)  # fmt: skip
def test_prompts_of_every_endpoint_are_read(endpoint: str, asked: dict[str, Any], system: str, last: str) -> None:
    prompt = read_prompt(asked, endpoint)
    assert (prompt.system, prompt.last) == (system, last)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is the capital of France, and how many people live in it?", "English"),
        ("Wie heißt die Hauptstadt von Frankreich, und was ist das?", "German"),
        ("Quelle est la capitale de la France et combien de gens y vivent avec les autres ?", "French"),
        ("Что это и как я могу на это ответить?", "Russian"),
        ("これは日本語の文章です", "Japanese"),
        ("把下面的句子翻译成英文", "Chinese"),
        ("안녕하세요", "Korean"),
        ("sort banana", "Latin letters"),
        ("12+34", ""),
    ],
)
def test_languages_are_told_by_script_and_common_words(text: str, expected: str) -> None:
    assert language(text) == expected


def test_a_field_is_lost_where_the_student_has_it_otherwise() -> None:
    teacher = answer('{"name": "anna", "tags": [{"id": 1}, {"id": 2}], "ok": true, "n": 1.0}')
    student = answer('{"name": "anna", "tags": [{"id": 1}, {"id": 3}], "ok": 1, "n": 1, "more": 0}')
    assert set(fields(teacher)) == {"$.name", "$.tags[*].id", "$.ok", "$.n"}
    assert lost_fields(teacher, student) == {"$.tags[*].id", "$.ok"}
    assert lost_fields(teacher, answer("no json")) == set(fields(teacher))


def test_arguments_are_fields_of_their_tool() -> None:
    other = CALL | {"arguments": '{"city": "Rome", "days": 2}'}
    assert lost_fields(answer(tool_calls=[CALL]), answer(tool_calls=[other])) == {"get_weather $.city"}
    assert lost_fields(answer(tool_calls=[CALL]), answer("Oslo")) == {"get_weather $.city", "get_weather $.days"}


@given(JSON_VALUES)
def test_a_structured_answer_loses_nothing_against_itself(value: Any) -> None:
    import json

    same = answer(json.dumps(value)), answer(json.dumps(value, indent=1))
    assert not lost_fields(*same)


@given(st.text(max_size=200), st.text(max_size=200))
def test_whatever_was_said_has_slices(prompt: str, reply: str) -> None:
    names = slice_names(made(1, prompt, teacher=answer(reply)))
    assert {name.partition(":")[0] for name in names} >= {"kind", "length", "system"}


def test_deep_and_endless_json_is_cut_short() -> None:
    deep = answer("[" * 60 + "]" * 60)
    assert len(fields(deep)) <= 1
    assert not fields(answer("[" * 100_000))
    assert sum(map(len, fields(answer("[" + "1," * 5000 + "1]")).values())) == 200
