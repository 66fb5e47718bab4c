"""Tool calls as a multiset of (name, arguments): the order of parallel calls and of keys does not count.

Except where a call takes something away (`delete_file`) and another tool is called with one of its values: then which
comes first decides what is there at the end.

The request's tools say what may be left out: a missing argument has its schema's default, and null for an optional
argument is a missing one. Arguments are checked against the schema, names against the list. The text beside a call is
not compared. Where neither side called a tool, the texts are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any, ClassVar

from router.evidence.compare import json_tree, schema
from router.evidence.compare.base import Answer, ToolCall, Verdict, agree, differ, shorten, side_by_side
from router.evidence.compare.json_diff import Rules, differences
from router.evidence.compare.requests import tool_schemas, wants_exact_values, wants_order
from router.evidence.compare.schema_hints import sets, with_defaults
from router.evidence.compare.text import normalise

SHOWN = 3
MATCHED = 64  # calls without an equal one that are matched by the rules, one by one

_TAKES_AWAY = re.compile(
    r"(?:\w*_)?(?:delete|remove|drop|clear|reset|cancel|close|stop|move|rename|purge|archive|revoke|disable|terminate)",
    re.IGNORECASE,
)

Tools = Mapping[str, Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class _Call:
    """One call with its defaults filled in; `value` None: the arguments are no JSON."""

    call: ToolCall
    value: json_tree.Parsed | None
    fault: str

    @property
    def values(self) -> frozenset[Any]:
        """The texts and numbers among the arguments."""
        given = self.value.value if self.value else None
        items = given.values() if isinstance(given, dict) else ()
        return frozenset(item for item in items if isinstance(item, str | Decimal))

    @property
    def key(self) -> tuple[Any, ...]:
        told = json_tree.freeze(self.value.value) if self.value else ("unparsed", self.call.arguments_json)
        return (self.call.name, told)


@dataclass(frozen=True, slots=True)
class ToolCalls:
    rules: Mapping[str, Rules] = field(default_factory=lambda: MappingProxyType({}))
    name: str = "tool_calls"
    version: ClassVar[int] = 3

    def applies(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> bool:
        return teacher.called or student.called

    def compare(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> Verdict:
        if not (teacher.called or student.called):
            same = normalise(teacher.text) == normalise(student.text)
            return agree(self) if same else differ(self, "text", side_by_side(teacher.text, student.text))
        tools = tool_schemas(request)
        theirs, ours = ([_read(call, tools) for call in side.tool_calls] for side in (teacher, student))
        faults = _fault(theirs), _fault(ours)
        checks = {}
        if teacher.called and student.called:  # whether a call was due at all, no schema says
            checks = {"teacher_valid": not faults[0], "student_valid": not faults[1]}
        missing, extra = self._unmatched(request, theirs, ours)
        moved = "" if missing or extra else _moved(theirs, ours)
        if not missing and not extra and not moved and bool(faults[0]) == bool(faults[1]):
            return agree(self, checks=checks)
        told = [f"{side}: {fault}" for side, fault in zip(("teacher", "student"), faults, strict=True) if fault]
        if missing or extra:
            told.append(self._told(request, missing, extra))
        if moved:
            told.append(moved)
        score = (len(theirs) - len(missing)) / max(len(theirs), len(ours))
        return differ(self, "tool_calls", "; ".join(told), score, checks=checks)

    def _unmatched(
        self, request: Mapping[str, Any], theirs: list[_Call], ours: list[_Call]
    ) -> tuple[list[_Call], list[_Call]]:
        """The calls of each side that the other side did not make: equal ones cancel out, then those alike by rule."""
        missing, extra = _rest(theirs, ours), _rest(ours, theirs)
        if not missing or not extra or len(missing) > MATCHED or len(extra) > MATCHED:
            return missing, extra
        rules = self._rules(request, {call.call.name for call in missing})
        lone = []
        for call in missing:
            twin = next((n for n, other in enumerate(extra) if _alike(call, other, rules[call.call.name])), None)
            if twin is None:
                lone.append(call)
            else:
                extra.pop(twin)
        return lone, extra

    def _rules(self, request: Mapping[str, Any], names: Collection[str]) -> dict[str, Rules]:
        """By tool the configured rules, and what request and schema leave open."""
        schemas, ordered, exact = tool_schemas(request) or {}, wants_order(request), wants_exact_values(request)
        return {
            name: self.rules.get(name, Rules()).with_hints(
                sets=() if ordered else sets(schemas.get(name) or {}),
                set_names=not ordered,
                notations=not exact,
                free_text=not exact,
            )
            for name in names
        }

    def _told(self, request: Mapping[str, Any], missing: list[_Call], extra: list[_Call]) -> str:
        if len(missing) == len(extra) == 1 and missing[0].call.name == extra[0].call.name:
            name = missing[0].call.name
            return f"{name} {_argument_difference(missing[0], extra[0], self._rules(request, [name])[name])}"
        return f"teacher: {_list(missing)} student: {_list(extra)}"


def _alike(left: _Call, right: _Call, rules: Rules) -> bool:
    if left.call.name != right.call.name or left.value is None or right.value is None:
        return False
    return all(leaf is None for leaf in differences(left.value.value, right.value.value, rules))


def _argument_difference(teacher: _Call, student: _Call, rules: Rules) -> str:
    if teacher.value is None or student.value is None:
        return side_by_side(teacher.call.arguments_json, student.call.arguments_json)
    leaves = differences(teacher.value.value, student.value.value, rules)
    return "; ".join([str(leaf) for leaf in leaves if leaf is not None][:SHOWN])


def _moved(theirs: list[_Call], ours: list[_Call]) -> str:
    """What was taken away and touched in another order; "" where nothing was."""
    if len(theirs) > MATCHED or [call.key for call in theirs] == [call.key for call in ours]:
        return ""
    left, right = ([call.call.name for call in side if _bound(call, side)] for side in (theirs, ours))
    return (
        "" if left == right else f"another order: teacher {', '.join(left[:SHOWN])} student {', '.join(right[:SHOWN])}"
    )


def _bound(call: _Call, calls: list[_Call]) -> bool:
    """Its place counts: it or one of another tool takes something away, and they share a value."""
    return any(
        other.call.name != call.call.name
        and (_TAKES_AWAY.match(call.call.name) or _TAKES_AWAY.match(other.call.name))
        and call.values & other.values
        for other in calls
    )


def _read(call: ToolCall, tools: Tools | None) -> _Call:
    parsed = json_tree.parse(call.arguments_json or "{}")  # a call without arguments is written both ways
    if tools is None:
        return _Call(call, parsed, "" if parsed else f"{shorten(call.name, 40)}: arguments are not JSON")
    if call.name not in tools:
        return _Call(call, parsed, f"there is no tool {shorten(call.name, 40)}")
    wanted = tools[call.name]
    if wanted is None:  # a custom tool takes free text
        return _Call(call, None, "")
    if parsed is None:
        return _Call(call, None, f"{call.name}: arguments are not JSON")
    broken = schema.problem(parsed.value, wanted)
    filled = json_tree.Parsed(with_defaults(parsed.value, wanted))
    return _Call(call, filled, f"{call.name} {broken}" if broken else "")


def _fault(calls: list[_Call]) -> str:
    return next((call.fault for call in calls if call.fault), "")


def _rest(calls: list[_Call], others: list[_Call]) -> list[_Call]:
    """The calls that are not among the others, as multisets."""
    there = Counter(other.key for other in others)
    rest = []
    for call in calls:
        key = call.key
        if there[key] > 0:
            there[key] -= 1
        else:
            rest.append(call)
    return rest


def _list(calls: list[_Call]) -> str:
    if not calls:
        return "no further call"
    shown = ", ".join(
        f"{shorten(each.call.name, 40)}({shorten(each.call.arguments_json, 60)})" for each in calls[:SHOWN]
    )
    return shown + (f" and {len(calls) - SHOWN} more" if len(calls) > SHOWN else "")
