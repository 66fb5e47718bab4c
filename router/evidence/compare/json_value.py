"""JSON answers as values: each is checked against the request's schema, and the difference is told by JSON path.

What the schema calls optional has its default, and null for it is absent.

Where JSON was asked for, a code fence around it is a mistake: the client's parser stumbles over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from router.evidence.compare import json_tree, schema
from router.evidence.compare.base import Answer, Verdict, agree, differ, side_by_side
from router.evidence.compare.json_diff import Rules, differences
from router.evidence.compare.requests import JsonFormat, json_format, wants_exact_values, wants_order
from router.evidence.compare.schema_hints import sets, with_defaults

SHOWN = 3


@dataclass(frozen=True, slots=True)
class JsonValue:
    rules: Rules = field(default_factory=Rules)
    name: str = "json"
    version: ClassVar[int] = 3

    def applies(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> bool:
        """JSON was asked for, or both answers are an object or an array."""
        if teacher.called or student.called:
            return False
        return json_format(request) is not None or (_is_container(teacher.text) and _is_container(student.text))

    def compare(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> Verdict:
        wanted = json_format(request)
        theirs, ours = json_tree.parse(teacher.text), json_tree.parse(student.text)
        faults = _fault(theirs, wanted), _fault(ours, wanted)
        checks = {"teacher_valid": not faults[0], "student_valid": not faults[1]}
        told = [f"{side}: {fault}" for side, fault in zip(("teacher", "student"), faults, strict=True) if fault]
        if theirs is None or ours is None:
            if teacher.text.strip() == student.text.strip():
                return agree(self, checks=checks)
            told.append(side_by_side(teacher.text, student.text))
            return differ(self, "json", "; ".join(told), checks=checks)
        wished = (wanted.schema if wanted else None) or {}
        left, right = (with_defaults(side.value, wished) for side in (theirs, ours))
        leaves = list(differences(left, right, self._rules(request, wished)))
        wrong = [leaf for leaf in leaves if leaf is not None]
        if not wrong and bool(faults[0]) == bool(faults[1]):
            return agree(self, checks=checks)
        told += [str(leaf) for leaf in wrong[:SHOWN]]
        more = [f"and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
        return differ(self, "json", "; ".join(told + more), 1 - len(wrong) / len(leaves), checks=checks)

    def _rules(self, request: Mapping[str, Any], wished: Mapping[str, Any]) -> Rules:
        """The configured rules, and what request and schema leave open."""
        ordered = wants_order(request)
        return self.rules.with_hints(
            sets=() if ordered else sets(wished), set_names=not ordered, notations=not wants_exact_values(request)
        )


def _fault(parsed: json_tree.Parsed | None, wanted: JsonFormat | None) -> str:
    """What is wrong with an answer; "" where nothing is, or nobody can say."""
    if parsed is None:
        return "not JSON"
    if wanted is None:
        return ""
    if parsed.fenced:
        return "in a code fence"
    return (schema.problem(parsed.value, wanted.schema) or "") if wanted.schema else ""


def _is_container(text: str) -> bool:
    parsed = json_tree.parse(text)
    return parsed is not None and isinstance(parsed.value, dict | list)
