"""The comparators by name. A new one is a file and a line here, and a place in the order of `auto` where that fits."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from router.evidence.compare.auto import Auto
from router.evidence.compare.base import Answer, Comparator, Verdict
from router.evidence.compare.exact import Exact
from router.evidence.compare.json_value import JsonValue
from router.evidence.compare.number import Number
from router.evidence.compare.outcomes import outcome_verdict
from router.evidence.compare.text import Text
from router.evidence.compare.tool_calls import ToolCalls

COMPARATORS: Mapping[str, Comparator] = MappingProxyType(
    {
        "exact": Exact(),
        "text": Text(),
        "number": Number(),
        "json_value": JsonValue(),
        "tool_calls": ToolCalls(),
        "auto": Auto((ToolCalls(), JsonValue(), Number()), default=Text()),
    }
)


class UnknownComparator(ValueError):
    """A comparator name that is not in the registry."""


def get(name: str) -> Comparator:
    """Raises `UnknownComparator`, naming the known ones."""
    try:
        return COMPARATORS[name]
    except KeyError:
        raise UnknownComparator(f"unknown comparator {name!r}; known: {', '.join(COMPARATORS)}") from None


def compare(request: Mapping[str, Any], teacher: Answer, student: Answer, comparator: str = "auto") -> Verdict:
    """The verdict on one pair: outcome classes first, then the comparator named; no tool call is overlooked.

    Raises `UnknownComparator`.
    """
    chosen = get(comparator)
    if (teacher.called or student.called) and not chosen.applies(request, teacher, student):
        chosen = get(ToolCalls.name)
    return outcome_verdict(teacher, student) or chosen.compare(request, teacher, student)
