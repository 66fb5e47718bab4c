"""Tool calls beside what the request says of its tools."""

from __future__ import annotations

from typing import Any

import pytest

from router.evidence.compare import Answer, Verdict
from tests.router.evidence.compare.asking import calling, compare, configured

PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "unit": {"enum": ["C", "F"], "default": "C"},
        "days": {"type": ["integer", "null"]},
        "place": {"type": "object", "properties": {"zoom": {"type": "integer", "default": 3}}},
    },
    "required": ["city"],
}
CHAT = {"tools": [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]}
RESPONSES = {"tools": [{"type": "function", "name": "weather", "parameters": PARAMETERS}, {"type": "web_search"}]}
LEGACY = {"functions": [{"name": "weather", "parameters": PARAMETERS}]}


def weather(teacher: str, student: str, request: dict[str, Any] = CHAT) -> Verdict:
    return compare(request, calling(("weather", teacher)), calling(("weather", student)))


@pytest.mark.parametrize("request_body", [CHAT, RESPONSES, LEGACY], ids=["chat", "responses", "legacy"])
@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ('{"city": "Rome", "unit": "C"}', '{"city": "Rome"}'),
        ('{"city": "Rome", "days": null}', '{"city": "Rome"}'),
        ('{"city": "Rome", "place": {}}', '{"city": "Rome", "place": {"zoom": 3}}'),
    ],
)
def test_an_argument_that_says_the_default_may_be_left_out(
    request_body: dict[str, Any], teacher: str, student: str
) -> None:
    assert weather(teacher, student, request_body).same
    assert weather(student, teacher, request_body).same
    assert not weather(teacher, student, {}).same


def test_null_for_a_required_argument_is_not_a_missing_one() -> None:
    parameters = {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a", "b"]}
    request = {"tools": [{"type": "function", "function": {"name": "weather", "parameters": parameters}}]}
    verdict = weather('{"a": 1, "b": null}', '{"a": 1}', request)
    assert verdict.harm and "$.b: null != absent" in verdict.diff


def test_an_argument_that_is_not_the_default_is_a_difference() -> None:
    verdict = weather('{"city": "Rome", "unit": "F"}', '{"city": "Rome"}')
    assert verdict.diff == 'weather $.unit: "F" != "C"'


@pytest.mark.parametrize(
    ("student", "fault"),
    [
        ("{}", 'weather $: {} breaks required ["city"]'),
        ('{"city": "Rome", "unit": "K"}', "breaks enum"),
        ('{"city": 5}', '$.city: 5 breaks type "string"'),
        ('{"city": "Rome"', "arguments are not JSON"),
    ],
)
def test_arguments_that_break_the_schema_are_a_loss(student: str, fault: str) -> None:
    verdict = weather('{"city": "Rome"}', student)
    assert verdict.harm and verdict.preferred == "teacher" and fault in verdict.diff
    assert verdict.checks == {"teacher_valid": True, "student_valid": False}


def test_a_tool_that_is_not_in_the_request_is_a_loss() -> None:
    verdict = compare(CHAT, calling(("weather", '{"city": "Rome"}')), calling(("wetter", '{"city": "Rome"}')))
    assert verdict.harm and 'there is no tool "wetter"' in verdict.diff
    assert verdict.checks["student_valid"] is False


def test_a_student_that_calls_rightly_where_the_teacher_did_not_is_no_loss() -> None:
    verdict = weather('{"town": "Rome"}', '{"city": "Rome"}')
    assert (verdict.same, verdict.harm, verdict.preferred) == (False, False, "student")


@pytest.mark.parametrize("student_calls", [True, False])
def test_a_call_against_no_call_is_a_loss_and_no_schema_excuses_it(student_calls: bool) -> None:
    call, text = calling(("weather", '{"city": "Rome"}')), Answer("Sunny.")
    verdict = compare(CHAT, *((text, call) if student_calls else (call, text)))
    assert (verdict.harm, verdict.kind, verdict.checks) == (True, "tool_calls", {})


def test_rules_hold_for_the_arguments_of_their_tool_only() -> None:
    by = configured(mine={"kind": "tool_calls", "rules": {"weather": {"$.note": "ignore", "$.tags": "unordered"}}})
    teacher = ('{"note": "a", "tags": [1, 2]}', '{"tags": [2, 1], "note": "b"}')
    assert compare({}, calling(("weather", teacher[0])), calling(("weather", teacher[1])), "mine", by).same
    assert not compare({}, calling(("time", teacher[0])), calling(("time", teacher[1])), "mine", by).same


def test_calls_are_matched_one_to_one() -> None:
    by = configured(mine={"kind": "tool_calls", "rules": {"f": {"$.n": {"tolerance_abs": 1}}}})
    teacher = calling(("f", '{"n": 1}'), ("f", '{"n": 10}'))
    assert compare({}, teacher, calling(("f", '{"n": 11}'), ("f", '{"n": 2}')), "mine", by).same
    verdict = compare({}, teacher, calling(("f", '{"n": 2}'), ("f", '{"n": 1}')), "mine", by)
    assert not verdict.same and verdict.score == 0.5


def test_the_input_of_a_custom_tool_is_text() -> None:
    request = {"tools": [{"type": "custom", "custom": {"name": "shell"}}]}
    assert compare(request, calling(("shell", "ls -l")), calling(("shell", "ls -l"))).checks["student_valid"]
    assert not compare(request, calling(("shell", "ls -l")), calling(("shell", "ls -a"))).same


@pytest.mark.parametrize(
    "parameters",
    [
        {"properties": {"a": {"default": 1}}},
        {"properties": "a"},
        {"properties": {"a": 3, "b": {"properties": {"c": {"default": {}}}}}, "required": "a"},
        {"$ref": "#"},
    ],
)
def test_odd_schemas_of_tools_raise_nothing(parameters: dict[str, Any]) -> None:
    request = {"tools": [{"type": "function", "function": {"name": "weather", "parameters": parameters}}, 3, {}]}
    assert weather('{"b": {"x": null}}', '{"b": {"x": null}}', request).same
    assert not weather('{"b": 1}', '{"b": 2}', request).same


FILES = {
    "messages": [{"role": "user", "content": "Do it."}],
    "tools": [
        {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
        for name in ("delete_file", "write_file", "read_file", "find")
    ],
}


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (("delete_file", '{"path": "a"}'), ("write_file", '{"path": "a"}'), False),
        (("delete_file", '{"path": "a"}'), ("write_file", '{"path": "b"}'), True),
        (("read_file", '{"path": "a"}'), ("write_file", '{"path": "a"}'), True),
        (("delete_file", '{"path": "a", "f": 1}'), ("delete_file", '{"path": "b", "f": 1}'), True),
    ],
)
def test_the_order_of_calls_counts_where_one_takes_away_what_another_touches(
    first: tuple[str, str], second: tuple[str, str], same: bool
) -> None:
    verdict = compare(FILES, calling(first, second), calling(second, first))
    assert verdict.same == same and ("another order" in verdict.diff) == (not same)


@pytest.mark.parametrize(
    ("asked", "teacher", "student", "same"),
    [
        ("Find it.", '{"query": "Red Shoes"}', '{"query": "red shoes"}', True),
        ("Find it.", '{"id": "Red"}', '{"id": "red"}', False),
        ("Find it.", '{"query": "red shoes"}', '{"query": "blue shoes"}', False),
        ("Find it in lower case.", '{"query": "Red Shoes"}', '{"query": "red shoes"}', False),
    ],
)
def test_the_case_of_free_text_does_not_count_unless_the_request_speaks_of_it(
    asked: str, teacher: str, student: str, same: bool
) -> None:
    request = {**FILES, "messages": [{"role": "user", "content": asked}]}
    assert compare(request, calling(("find", teacher)), calling(("find", student))).same == same
