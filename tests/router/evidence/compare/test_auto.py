"""How `auto` chooses, and how the configuration changes who compares."""

from __future__ import annotations

from typing import Any

import pytest

from router.evidence.compare import Answer
from router.evidence.compare.registry import Comparators
from tests.router.evidence.compare.asking import calling, compare, configured

JSON_MODE = {"response_format": {"type": "json_object"}}
FENCED = "```python\nx = 1\n```"
SENTENCE = "It rains in the north and the sun shines in the south."


def chosen(request: dict[str, Any], teacher: Answer, student: Answer, by: Comparators | None = None) -> str:
    return compare(request, teacher, student, "auto", by or configured()).comparator


@pytest.mark.parametrize(
    ("request_body", "teacher", "student", "name"),
    [
        ({}, calling(("f", "{}")), Answer("no"), "tool_calls"),
        (JSON_MODE, calling(("f", "{}")), Answer("{}"), "tool_calls"),
        (JSON_MODE, Answer("yes"), Answer("no"), "json"),
        ({"text": {"format": {"type": "json_object"}}}, Answer("1"), Answer("2"), "json"),
        (JSON_MODE, Answer("{}"), Answer(FENCED), "json"),
        ({}, Answer('{"a": 1}'), Answer('{"a": 2}'), "json"),
        ({}, Answer('{"a": 1}'), Answer("a is 1"), "label"),
        ({}, Answer(FENCED), Answer("Set x to one."), "code"),
        ({}, Answer("42"), Answer("The answer is 43."), "number"),
        ({}, Answer(f"{SENTENCE} The answer is 4."), Answer(f"{SENTENCE} #### 5"), "number"),
        ({}, Answer("positive"), Answer("negative"), "label"),
        ({}, Answer("positive"), Answer("The mood of it is negative."), "label"),
        ({}, Answer(SENTENCE), Answer(SENTENCE + " Or not."), "prose"),
        ({}, Answer("yes"), Answer(SENTENCE * 3), "prose"),
        ({}, Answer(f"{SENTENCE} {SENTENCE}\n{FENCED}"), Answer(SENTENCE), "prose"),
    ],
)
def test_auto_chooses_by_request_and_answer(
    request_body: dict[str, Any], teacher: Answer, student: Answer, name: str
) -> None:
    assert chosen(request_body, teacher, student) == name


@pytest.mark.parametrize("kind", ["label", "number", "json", "tool_calls", "code", "prose"])
def test_another_comparator_may_stand_for_a_kind(kind: str) -> None:
    answers = {
        "label": (Answer("yes"), Answer("no")),
        "number": (Answer("1"), Answer("2")),
        "json": (Answer("[1]"), Answer("[2]")),
        "tool_calls": (calling(("f", "{}")), calling(("g", "{}"))),
        "code": (Answer(FENCED), Answer(FENCED.replace("1", "2"))),
        "prose": (Answer(SENTENCE), Answer(SENTENCE + " Or not.")),
    }
    by = configured(other={"kind": kind}, mine={"kind": "auto", kind: "other"})
    assert compare({}, *answers[kind], "mine", by).comparator == "other"
    assert compare({}, *answers[kind], "auto", by).comparator == kind


def test_a_comparator_that_reads_texts_alone_leaves_tool_calls_to_the_one_that_does() -> None:
    for name in ("label", "number", "json", "code", "prose"):
        assert compare({}, calling(("f", "{}")), calling(("g", "{}")), name).comparator == "tool_calls"


def test_aliases_and_tolerances_of_the_configuration_hold() -> None:
    by = configured(
        mood={"kind": "label", "aliases": {"positive": ["pos", "+", "Sehr gut"]}},
        roughly={"kind": "number", "tolerance_rel": 0.01},
        cents={"kind": "number", "tolerance_abs": 0.05},
    )
    assert compare({}, Answer("positive"), Answer("POS."), "mood", by).same
    assert compare({}, Answer("The mood: sehr gut"), Answer("+"), "mood", by).same
    assert not compare({}, Answer("positive"), Answer("pos"), "label", by).same
    assert compare({}, Answer("100"), Answer("101"), "roughly", by).same
    assert not compare({}, Answer("100"), Answer("102"), "roughly", by).same
    assert compare({}, Answer("1.00 EUR"), Answer("1.05 EUR"), "cents", by).same
    assert not compare({}, Answer("1.00 EUR"), Answer("1.06 EUR"), "cents", by).same
