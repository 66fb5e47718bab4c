"""The fields of the teacher's structured answer, by JSON path, and which of them the student has otherwise.

List positions count as one path (`$.items[*].price`). A tool call's arguments are below the tool's name. Where the
student has no such structure, every field is lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from router.evidence.records import ArmAnswer

MOST_LEAVES = 200
MAX_DEPTH = 20
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*\Z")
_FENCED = re.compile(r"\A```(?:json)?[ \t]*\n(.*)\n[ \t]*```\Z", re.DOTALL | re.IGNORECASE)


def fields(answer: ArmAnswer) -> dict[str, list[Any]]:
    """Path -> its values in order, of a JSON object or array or of tool calls; empty for any other answer."""
    found: dict[str, list[Any]] = {}
    for path, value in _leaves_of(answer):
        found.setdefault(path, []).append(value)
    return found


def lost_fields(teacher: ArmAnswer, student: ArmAnswer) -> frozenset[str]:
    """The teacher's paths under which the student has other values, or none; the order in a list counts."""
    ours = fields(student)
    return frozenset(path for path, values in fields(teacher).items() if ours.get(path) != values)


def structured(text: str) -> Any:
    """The JSON object or array that the text is, alone or fenced; None for any other."""
    bare = text.strip()
    fenced = _FENCED.match(bare)
    try:
        value = json.loads(fenced.group(1) if fenced else bare)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def _leaves_of(answer: ArmAnswer) -> Iterator[tuple[str, Any]]:
    if not answer.tool_calls:
        yield from _leaves(structured(answer.text), "$")
    for call in answer.tool_calls:
        yield from _leaves(structured(call.get("arguments") or "{}"), f"{call.get('name', '')} $")


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The first `MOST_LEAVES`; what is nested deeper than `MAX_DEPTH` is one leaf, as its JSON text."""
    stack, found = [(path, value, 0)], 0
    while stack and found < MOST_LEAVES:
        place, node, depth = stack.pop()
        below = list(_children(place, node)) if depth < MAX_DEPTH else []
        if below:
            stack.extend((name, child, depth + 1) for name, child in reversed(below))
        elif depth:
            found += 1
            yield place, json.dumps(node, sort_keys=True) if isinstance(node, dict | list) else _plain(node)


def _children(path: str, node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, child in node.items():
            yield (f"{path}.{key}" if _IDENTIFIER.match(key) else f"{path}[{json.dumps(key)}]"), child
    elif isinstance(node, list):
        yield from ((f"{path}[*]", child) for child in node)


def _plain(value: Any) -> Any:
    """`true` is not 1, but 1 is 1.0."""
    return (value,) if isinstance(value, bool) else value
