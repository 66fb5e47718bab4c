"""JSON answers: the request's schema, and rules by path."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.comparator_settings import JsonRule
from router.evidence.compare import Answer, Verdict, json_tree
from router.evidence.compare.json_diff import Rules, differences
from router.evidence.compare.json_path import parse_path, render_path
from tests.router.evidence.compare.asking import compare, configured

SCHEMA = {
    "type": "object",
    "properties": {"total": {"type": "number", "minimum": 0}, "currency": {"enum": ["EUR", "USD"]}},
    "required": ["total"],
    "additionalProperties": False,
}
CHAT = {"response_format": {"type": "json_schema", "json_schema": {"name": "invoice", "schema": SCHEMA}}}
RESPONSES = {"text": {"format": {"type": "json_schema", "name": "invoice", "schema": SCHEMA}}}


def invoice(teacher: str, student: str, request: dict[str, Any] = CHAT) -> Verdict:
    return compare(request, Answer(teacher), Answer(student))


def by_rules(rules: dict[str, Any], teacher: str, student: str) -> Verdict:
    by = configured(mine={"kind": "json", "rules": rules})
    return compare({}, Answer(teacher), Answer(student), "mine", by)


@pytest.mark.parametrize("request_body", [CHAT, RESPONSES], ids=["chat", "responses"])
@pytest.mark.parametrize(
    ("student", "fault"),
    [
        ('{"total": -1}', "$.total: -1 breaks minimum 0"),
        ('{"total": "1"}', '$.total: "1" breaks type "number"'),
        ('{"total": 1, "currency": "GBP"}', '$.currency: "GBP" breaks enum ["EUR", "USD"]'),
        ("{}", '$: {} breaks required ["total"]'),
        ('{"total": 1, "vat": 0}', "breaks additionalProperties false"),
        ("[1]", 'breaks type "object"'),
        ("total: 1", "not JSON"),
        ('```json\n{"total": 1}\n```', "in a code fence"),
    ],
)
def test_a_student_that_breaks_the_schema_is_a_loss_and_the_diff_says_where(
    request_body: dict[str, Any], student: str, fault: str
) -> None:
    verdict = invoice('{"total": 1}', student, request_body)
    assert (verdict.same, verdict.harm, verdict.kind, verdict.preferred) == (False, True, "json", "teacher")
    assert verdict.checks == {"teacher_valid": True, "student_valid": False}
    assert f"student: {fault}" in verdict.diff or fault in verdict.diff


def test_a_valid_student_beside_a_teacher_that_broke_the_schema_is_no_loss() -> None:
    verdict = invoice('{"total": -1}', '{"total": 1}')
    assert (verdict.same, verdict.harm, verdict.preferred) == (False, False, "student")
    assert verdict.checks == {"teacher_valid": False, "student_valid": True}


def test_values_that_differ_within_the_schema_are_a_loss() -> None:
    verdict = invoice('{"total": 1}', '{"total": 2}')
    assert (verdict.harm, verdict.diff, verdict.preferred) == (True, "$.total: 1 != 2", None)
    assert verdict.checks == {"teacher_valid": True, "student_valid": True}


def test_two_answers_that_break_the_schema_alike_are_the_same() -> None:
    verdict = invoice('{"total": -1}', '{"total": -1.0}')
    assert verdict.same and verdict.checks == {"teacher_valid": False, "student_valid": False}


@pytest.mark.parametrize(
    ("rules", "teacher", "student"),
    [
        ({"$.at": "ignore"}, '{"at": 1, "b": 2}', '{"at": 9, "b": 2}'),
        ({"$.at": "ignore"}, '{"at": 1, "b": 2}', '{"b": 2}'),
        ({"$.at": "ignore"}, '{"at": {"x": [1]}, "b": 2}', '{"at": [3], "b": 2}'),
        ({"$.n": {"tolerance_abs": 0.01}}, '{"n": 1.00}', '{"n": 1.01}'),
        ({"$.n": {"tolerance_rel": 0.1}}, '{"n": 100}', '{"n": 91}'),
        ({"$.tags": "unordered"}, '{"tags": ["a", "b", "a"]}', '{"tags": ["a", "a", "b"]}'),
        (
            {"$.lines": "unordered", "$.lines[*].price": {"tolerance_abs": 0.1}},
            '{"lines": [{"id": 1, "price": 2.0}, {"id": 2, "price": 3.0}]}',
            '{"lines": [{"id": 2, "price": 3.05}, {"id": 1, "price": 2}]}',
        ),
        ({"$.name": "text"}, '{"name": "Ada  Lovelace"}', '{"name": "ada lovelace."}'),
        ({"$[*]": {"compare": "text", "similarity": 0.7}}, '["one two three four"]', '["one two four"]'),
        ({'$["odd key"][0]': "ignore"}, '{"odd key": [1, 2]}', '{"odd key": [5, 2]}'),
        ({"$.*.at": "ignore"}, '{"a": {"at": 1}, "b": {"at": 2}}', '{"a": {"at": 3}, "b": {}}'),
    ],
)
def test_a_rule_allows_what_it_says(rules: dict[str, Any], teacher: str, student: str) -> None:
    assert not by_rules({}, teacher, student).same
    assert by_rules(rules, teacher, student).same
    assert by_rules(rules, student, teacher).same


@pytest.mark.parametrize(
    ("rules", "teacher", "student", "diff"),
    [
        ({"$.at": "ignore"}, '{"x": {"at": 1}}', '{"x": {"at": 2}}', "$.x.at: 1 != 2"),
        ({"$.n": {"tolerance_abs": 0.01}}, '{"n": 1}', '{"n": 1.02}', "$.n: 1 != 1.02"),
        ({"$.n": {"tolerance_abs": 1}}, '{"n": 1}', '{"n": "1"}', '$.n: 1 != "1"'),
        ({"$.tags": "unordered"}, '{"tags": ["a", "a"]}', '{"tags": ["a", "b"]}', '$.tags[*]: "a" != absent'),
        ({"$.name": "text"}, '{"name": "Ada"}', '{"name": "Eve"}', '$.name: "Ada" != "Eve"'),
    ],
)
def test_a_rule_allows_no_more_than_that(rules: dict[str, Any], teacher: str, student: str, diff: str) -> None:
    assert diff in by_rules(rules, teacher, student).diff


def test_the_rule_with_fewer_wildcards_counts() -> None:
    rules = {"$[*]": "ignore", "$[0]": "exact"}
    assert by_rules(rules, "[1, 2]", "[1, 3]").same
    assert not by_rules(rules, "[1, 2]", "[2, 2]").same


def test_a_long_text_inside_json_may_differ_in_punctuation_but_not_in_a_number() -> None:
    teacher = '{"note": "The parcel was handed over to the neighbour at 10 on Monday."}'
    assert invoice(teacher, teacher.replace(" on Monday.", ", on Monday"), {}).same
    assert not invoice(teacher, teacher.replace("10", "11"), {}).same


def test_a_command_inside_json_is_compared_by_character() -> None:
    teacher = '{"command": "find . -name cache -type d && rm -rf build dist target out"}'
    assert not invoice(teacher, teacher.replace("&&", "||"), {}).same


@pytest.mark.parametrize("path", ["", "a", "$a", "$.", "$[", "$[x]", "$..a", '$["a]', "$.a b"])
def test_what_is_no_path_is_refused_with_what_is_expected(path: str) -> None:
    with pytest.raises(ValueError, match="expected \\$ and then"):
        parse_path(path)


@given(st.lists(st.integers(0, 999) | st.text(), max_size=5).map(tuple))
def test_a_path_that_is_printed_reads_as_itself(path: tuple[str | int, ...]) -> None:
    assert parse_path(render_path(path)) == path


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, json_values)
def test_values_without_a_difference_are_equal_and_the_other_way_round(left: Any, right: Any) -> None:
    ours, theirs = json_tree.of(left), json_tree.of(right)
    found = [leaf for leaf in differences(ours, theirs, Rules()) if leaf]
    assert (not found) == (json_tree.freeze(ours) == json_tree.freeze(theirs))


@given(st.lists(json_values, max_size=5).flatmap(lambda items: st.tuples(st.just(items), st.permutations(items))))
def test_an_unordered_array_equals_its_permutations(arrays: tuple[list[Any], list[Any]]) -> None:
    rules = Rules.of({"$": JsonRule(compare="unordered")})
    ours, theirs = map(json_tree.of, arrays)
    assert all(leaf is None for leaf in differences(ours, theirs, rules))


def extracted(asked: str, teacher: str, student: str, schema: dict[str, Any] | None = None) -> list[bool]:
    wanted = {"type": "json_schema", "json_schema": {"schema": schema}} if schema else {"type": "json_object"}
    request = {"messages": [{"role": "user", "content": asked}], "response_format": wanted}
    pairs = ((teacher, student), (student, teacher))
    return [compare(request, Answer(left), Answer(right)).same for left, right in pairs]


OPTIONAL = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "nick": {"type": ["string", "null"]},
        "level": {"type": "integer", "default": 1},
        "codes": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "steps": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name"],
}


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ('{"name": "Ida", "nick": null}', '{"name": "Ida"}'),
        ('{"name": "Ida", "level": 1}', '{"name": "Ida"}'),
        ('{"name": "Ida", "codes": ["x", "y"]}', '{"name": "Ida", "codes": ["y", "x"]}'),
    ],
)
def test_what_the_schema_leaves_open_is_no_difference(teacher: str, student: str) -> None:
    assert extracted("Who is it?", teacher, student, OPTIONAL) == [True, True]
    assert extracted("Who is it?", teacher, student) == [False, False]


@pytest.mark.parametrize(
    ("asked", "teacher", "student"),
    [
        ("Who is it?", '{"name": "Ida", "level": 2}', '{"name": "Ida"}'),
        ("Who is it?", '{"name": "Ida", "steps": ["x", "y"]}', '{"name": "Ida", "steps": ["y", "x"]}'),
        ("Who is it? Sort the codes.", '{"name": "I", "codes": ["x", "y"]}', '{"name": "I", "codes": ["y", "x"]}'),
    ],
)
def test_what_the_schema_does_not_leave_open_is_a_difference(asked: str, teacher: str, student: str) -> None:
    assert extracted(asked, teacher, student, OPTIONAL) == [False, False]


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ('"2031-02-03T10:00"', '"2031-02-03T10:00:00"'),
        ('"2031-02-03T10:00:00Z"', '"2031-02-03T10:00:00+00:00"'),
        ('"2031-02-03T10:00:00Z"', '"2031-02-03T12:00+02:00"'),
        ('"+43 660 123-4567"', '"+436601234567"'),
        ('"AT61 1904 3002 3457 3201"', '"AT611904300234573201"'),
        ("\"select a from t where b = 'X'\"", "\"SELECT a\\nFROM t WHERE b='X';\""),
        ('"Conan O\'Brien"', '"Conan O’Brien"'),
        ("0.1428571428", "0.142857"),
    ],
)
def test_two_notations_of_a_value_are_one_unless_the_request_names_the_notation(teacher: str, student: str) -> None:
    left, right = f'{{"v": {teacher}}}', f'{{"v": {student}}}'
    assert extracted("Extract it.", left, right) == [True, True]
    assert extracted("Extract it in the usual format.", left, right) == [False, False]
    by = configured(mine={"kind": "json", "rules": {"$.v": "exact"}})
    assert not compare({}, Answer(left), Answer(right), "mine", by).same


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ('"2031-02-03T10:00"', '"2031-02-03T10:01"'),
        ('"2031-02-03T10:00"', '"2031-02-03T10:00Z"'),
        ('"2031-02-03T10:00Z"', '"2031-02-03T10:00+02:00"'),
        ('"2031-02-33T10:00"', '"2031-02-33T10:00:00"'),
        ('"+43 660 1234567"', '"+43 660 1234568"'),
        ('"AT61 1904 3002 3457 3201"', '"AT61 1904 3002 3457 3202"'),
        ("\"select 'X' from t\"", "\"select 'x' from t\""),
        ('"Ida Lund"', '"ida lund"'),
        ("12.99", "12.994"),
        ("0.142857", "0.142858"),
        ("100000", "100000.4"),
    ],
)
def test_values_that_only_look_alike_differ(teacher: str, student: str) -> None:
    assert extracted("Extract it.", f'{{"v": {teacher}}}', f'{{"v": {student}}}') == [False, False]


@pytest.mark.parametrize(
    ("asked", "name", "same"),
    [
        ("Tag it.", "tags", True),
        ("Tag it.", "words", False),
        ("Tag it, the most important first.", "tags", False),
    ],
)
def test_lists_that_are_sets_by_their_name_have_no_order(asked: str, name: str, same: bool) -> None:
    left, right = f'{{"{name}": ["red", "old"]}}', f'{{"{name}": ["old", "red"]}}'
    assert extracted(asked, left, right) == [same, same]
