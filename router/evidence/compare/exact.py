"""Byte equality of the text and of every tool call, in order: for callers to whom every character matters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from router.evidence.compare.base import Answer, Verdict, agree, differ, side_by_side


@dataclass(frozen=True, slots=True)
class Exact:
    name: str = "exact"
    version: ClassVar[int] = 1

    def applies(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> bool:
        return True

    def compare(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> Verdict:
        if teacher.tool_calls != student.tool_calls:
            return differ(self, "tool_calls", side_by_side(repr(teacher.tool_calls), repr(student.tool_calls)))
        if teacher.text != student.text:
            return differ(self, "text", side_by_side(teacher.text, student.text))
        return agree(self)
