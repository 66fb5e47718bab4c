"""Tool calls as a multiset of (name, parsed arguments): the order of parallel calls and of keys does not count.

The text beside a call is not compared. Where neither side called a tool, the texts are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, ClassVar

from router.evidence.compare import json_tree
from router.evidence.compare.base import Answer, ToolCall, Verdict, agree, differ, shorten, side_by_side
from router.evidence.compare.text import normalise

SHOWN = 3


class ToolCalls:
    name: ClassVar[str] = "tool_calls"
    version: ClassVar[int] = 1

    def applies(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> bool:
        return teacher.called or student.called

    def compare(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> Verdict:
        if not (teacher.called or student.called):
            same = normalise(teacher.text) == normalise(student.text)
            return agree(self) if same else differ(self, "text", side_by_side(teacher.text, student.text))
        theirs = Counter(_key(call) for call in teacher.tool_calls)
        ours = Counter(_key(call) for call in student.tool_calls)
        if theirs == ours:
            return agree(self)
        score = (theirs & ours).total() / max(theirs.total(), ours.total())
        return differ(self, "tool_calls", _difference(teacher, student, theirs, ours), score)


def _arguments(call: ToolCall) -> json_tree.Parsed | None:
    return json_tree.parse(call.arguments_json or "{}")  # a call without arguments is written both ways


def _key(call: ToolCall) -> Hashable:
    parsed = _arguments(call)
    return (call.name, json_tree.freeze(parsed.value) if parsed else ("unparsed", call.arguments_json))


def _difference(teacher: Answer, student: Answer, theirs: Counter[Hashable], ours: Counter[Hashable]) -> str:
    missing = _pick(teacher.tool_calls, theirs - ours)
    extra = _pick(student.tool_calls, ours - theirs)
    if len(missing) == len(extra) == 1 and missing[0].name == extra[0].name:
        return f"{missing[0].name} {_argument_difference(missing[0], extra[0])}"
    return f"teacher: {_list(missing)} student: {_list(extra)}"


def _argument_difference(teacher: ToolCall, student: ToolCall) -> str:
    theirs, ours = _arguments(teacher), _arguments(student)
    if theirs is None or ours is None:
        return side_by_side(teacher.arguments_json, student.arguments_json)
    differences = [str(leaf) for leaf in json_tree.walk(theirs.value, ours.value) if leaf is not None]
    return "; ".join(differences[:SHOWN])


def _pick(calls: Iterable[ToolCall], wanted: Counter[Hashable]) -> list[ToolCall]:
    picked = []
    for call in calls:
        key = _key(call)
        if wanted[key] > 0:
            wanted[key] -= 1
            picked.append(call)
    return picked


def _list(calls: list[ToolCall]) -> str:
    if not calls:
        return "no further call"
    shown = ", ".join(f"{shorten(call.name, 40)}({shorten(call.arguments_json, 60)})" for call in calls[:SHOWN])
    return shown + (f" and {len(calls) - SHOWN} more" if len(calls) > SHOWN else "")
