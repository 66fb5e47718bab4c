"""The schema of a request is a stranger's: it is checked exactly, and in bounded time."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.evidence.compare import json_tree
from router.evidence.compare.schema import MOST_NODES, problem


def check(text: str, schema: dict[str, Any]) -> str | None:
    parsed = json_tree.parse(text)
    assert parsed is not None
    return problem(parsed.value, schema)


@pytest.mark.parametrize(
    ("schema", "valid", "invalid"),
    [
        ({"type": "integer"}, "1.0", "1.5"),
        ({"type": "number"}, "1e400", '"1"'),
        ({"type": ["string", "null"]}, "null", "true"),
        ({"multipleOf": 0.01}, "19.99", "19.999"),
        ({"minimum": 0.1}, "0.1", "0.09999999999999999999999"),
        ({"enum": [1, "a", [1.5]]}, "[1.50]", "true"),
        ({"const": {"a": 1}}, '{"a": 1.0}', '{"a": true}'),
        ({"uniqueItems": True}, "[1, true, [1]]", "[1, 1.0]"),
        ({"pattern": "^a+$"}, '"aa"', '"ab"'),
        ({"patternProperties": {"^n": {"type": "number"}}, "additionalProperties": False}, '{"n": 1}', '{"m": 1}'),
        ({"$defs": {"n": {"type": "number"}}, "items": {"$ref": "#/$defs/n"}}, "[1]", '["1"]'),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"const": 1}]}, '[1, "x"]', "[2]"),
        ({"anyOf": [{"type": "string"}, {"required": ["a"]}], "type": "object"}, '{"a": 1}', '{"b": 1}'),
    ],
)
def test_a_value_is_checked_with_exact_numbers(schema: dict[str, Any], valid: str, invalid: str) -> None:
    assert check(valid, schema) == ""
    assert check(invalid, schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"minimum": "a"},
        {"properties": 3},
        {"$ref": "#/nowhere"},
        {"$ref": "#"},
        {"$ref": "http://example.com/schema.json"},
        {"items": {"$ref": "file:///etc/passwd"}},
        {"$schema": "http://example.com/meta", "$ref": "http://example.com/meta"},
        {"$id": 7, "$ref": "x"},
        {"multipleOf": "x"},
        {"enum": 5},
        {"pattern": 5, "patternProperties": []},
    ],
)
def test_a_schema_that_cannot_be_used_says_nothing_and_raises_nothing(schema: dict[str, Any]) -> None:
    found = [check(value, schema) for value in ("[1]", '{"a": 1}', '"text"', "1")]
    assert None in found and set(found) <= {None, ""}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the library's own, where it follows a reference
@pytest.mark.parametrize("url", ["http://example.com/schema.json", "file:///etc/passwd"])
def test_a_reference_to_another_document_is_not_followed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda request, *_: opened.append(request))
    assert check("1", {"$ref": url}) is None
    assert opened == []


@pytest.mark.parametrize("pattern", ["^(?!a)", "(?<=a)b", r"(a)\1", "("])
def test_a_pattern_beyond_re2_restricts_nothing(pattern: str) -> None:
    assert check('"a"', {"pattern": pattern}) == ""
    assert check('{"a": 1}', {"patternProperties": {pattern: False}, "additionalProperties": False}) == ""


def test_a_pattern_that_is_catastrophic_elsewhere_ends() -> None:
    assert "breaks pattern" in (check(json.dumps("a" * 100_000 + "b"), {"pattern": "^(a|aa|a+)+$"}) or "")


def doubling(depth: int) -> dict[str, Any]:
    """Each definition refers to the next one twice: 2^depth steps."""
    twice = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(depth)}
    return {"$ref": "#/$defs/d0", "$defs": {**twice, f"d{depth}": {"type": "integer"}}}


def test_a_schema_of_exponential_work_says_nothing() -> None:
    assert check("1", doubling(3)) == ""
    assert check("1", doubling(50)) is None


def test_a_schema_that_is_too_large_or_too_deep_says_nothing() -> None:
    assert check("1", {"anyOf": [{"const": n} for n in range(MOST_NODES)]}) is None
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"items": deep}
    assert check("1", deep) is None


def test_many_values_beside_many_alternatives_end() -> None:
    values = json.dumps(list(range(20_000)))
    assert check(values, {"items": {"enum": list(range(10_000))}}) is None


def test_an_error_quotes_little_of_a_large_answer() -> None:
    assert len(check(json.dumps({"a": "x" * 100_000}), {"properties": {"a": {"maxLength": 3}}}) or "") < 300


schemas = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array", "string", "integer", "number", "null", "boolean"]),
            "minimum": st.integers(-3, 3),
            "maxLength": st.integers(0, 3),
            "required": st.lists(st.sampled_from("ab"), max_size=2, unique=True),
            "enum": st.lists(st.integers(0, 3) | st.sampled_from("ab"), min_size=1, max_size=3, unique_by=repr),
            "additionalProperties": st.booleans(),
        },
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
            "items": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
        },
    ),
    max_leaves=5,
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-4, 4) | st.sampled_from(["a", "b", "abcd"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=5,
)


@given(schemas, values)
def test_verdicts_are_those_of_the_library(schema: dict[str, Any], value: Any) -> None:
    library = jsonschema.Draft202012Validator(schema)
    assert (problem(json_tree.of(value), schema) == "") == library.is_valid(value)
