"""JSON answers as values; the difference is told by JSON path. What parses on one side only is a difference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from router.evidence.compare import json_tree
from router.evidence.compare.base import Answer, Verdict, agree, differ, side_by_side

SHOWN = 3


class JsonValue:
    name: ClassVar[str] = "json_value"
    version: ClassVar[int] = 1

    def applies(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> bool:
        """JSON was asked for, or both answers are an object or an array."""
        if teacher.called or student.called:
            return False
        return _asks_for_json(request) or (_is_container(teacher.text) and _is_container(student.text))

    def compare(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> Verdict:
        theirs, ours = json_tree.parse(teacher.text), json_tree.parse(student.text)
        if theirs is None and ours is None:
            same = teacher.text.strip() == student.text.strip()
            return agree(self) if same else differ(self, "json", "neither is JSON; " + _texts(teacher, student))
        if theirs is None or ours is None:
            side = "teacher" if theirs is None else "student"
            return differ(self, "json", f"the {side}'s answer is not JSON; " + _texts(teacher, student))
        leaves = list(json_tree.walk(theirs.value, ours.value))
        differences = [leaf for leaf in leaves if leaf is not None]
        if not differences:
            return agree(self)
        more = f"; and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
        shown = "; ".join(str(difference) for difference in differences[:SHOWN])
        return differ(self, "json", shown + more, 1 - len(differences) / len(leaves))


def _texts(teacher: Answer, student: Answer) -> str:
    return side_by_side(teacher.text, student.text)


def _asks_for_json(request: Mapping[str, Any]) -> bool:
    wanted = request.get("response_format")
    return isinstance(wanted, Mapping) and wanted.get("type") in ("json_object", "json_schema")


def _is_container(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[", "```")):
        return False
    parsed = json_tree.parse(text)
    return parsed is not None and isinstance(parsed.value, dict | list)
