"""Parsing model-written JSON into values that compare as JSON does: key order and number spelling do not count.

Numbers become `Decimal` (1, 1.0 and 1e0 are one value, no digit is lost), NaN and infinities equal themselves, of a
duplicate key the last counts. What is malformed or nested deeper than `MAX_DEPTH` is no JSON value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import Any

MAX_DEPTH = 100
QUIET = Context(prec=50, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
_FENCED = re.compile(r"\A```(?:json)?[ \t]*\n(.*)\n[ \t]*```\Z", re.DOTALL | re.IGNORECASE)
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*\Z")


@dataclass(frozen=True, slots=True)
class Literal:
    """A number token without a finite decimal value (NaN, Infinity, 1e99999999999999999999): equal by spelling."""

    token: str


@dataclass(frozen=True, slots=True)
class Parsed:
    value: Any


@dataclass(frozen=True, slots=True)
class Difference:
    path: str
    teacher: str
    student: str

    def __str__(self) -> str:
        return f"{self.path}: {self.teacher} != {self.student}"


def parse(text: str) -> Parsed | None:
    """The JSON value that `text` is, alone or in one ```json fence; None if it is none."""
    bare = text.strip()
    fenced = _FENCED.match(bare)
    try:
        value = json.loads(
            fenced.group(1) if fenced else bare, parse_int=_number, parse_float=_number, parse_constant=Literal
        )
    except (ValueError, RecursionError):
        return None
    return Parsed(value) if _is_shallow(value) else None


def freeze(value: Any) -> Hashable:
    """A hashable form that is equal exactly for equal JSON values (`true` is not 1)."""
    if isinstance(value, dict):
        return ("object", frozenset((key, freeze(item)) for key, item in value.items()))
    if isinstance(value, list):
        return ("array", tuple(freeze(item) for item in value))
    return (type(value).__name__, value)


def walk(teacher: Any, student: Any, path: str = "$") -> Iterator[Difference | None]:
    """One item per compared leaf: None where it is equal, else the difference with its JSON path (RFC 9535)."""
    if isinstance(teacher, dict) and isinstance(student, dict):
        for key in [*teacher, *(key for key in student if key not in teacher)]:
            yield from _member(teacher, student, key, path)
    elif isinstance(teacher, list) and isinstance(student, list):
        for index in range(max(len(teacher), len(student))):
            yield from _element(teacher, student, index, f"{path}[{index}]")
    else:
        yield None if freeze(teacher) == freeze(student) else Difference(path, render(teacher), render(student))


def render(value: Any, limit: int = 60) -> str:
    """Short JSON-like text of a value."""
    if isinstance(value, Literal):
        return value.token
    text = str(value) if isinstance(value, Decimal) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _member(teacher: dict[str, Any], student: dict[str, Any], key: str, path: str) -> Iterator[Difference | None]:
    below = f"{path}.{key}" if _IDENTIFIER.match(key) else f"{path}[{json.dumps(key, ensure_ascii=False)}]"
    if key not in student:
        yield Difference(below, render(teacher[key]), "absent")
    elif key not in teacher:
        yield Difference(below, "absent", render(student[key]))
    else:
        yield from walk(teacher[key], student[key], below)


def _element(teacher: list[Any], student: list[Any], index: int, path: str) -> Iterator[Difference | None]:
    if index >= len(student):
        yield Difference(path, render(teacher[index]), "absent")
    elif index >= len(teacher):
        yield Difference(path, "absent", render(student[index]))
    else:
        yield from walk(teacher[index], student[index], path)


def _number(token: str) -> Decimal | Literal:
    value = Decimal(token, QUIET)
    return value if value.is_finite() else Literal(token)


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in _children(node)]
        if not level:
            return True
    return False


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []
