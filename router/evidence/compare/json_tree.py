"""Parsing model-written JSON into values that compare as JSON does: key order and number spelling do not count.

Numbers become `Decimal` (1, 1.0 and 1e0 are one value, no digit is lost), NaN and infinities equal themselves, of a
duplicate key the last counts. What is malformed or nested deeper than `MAX_DEPTH` is no JSON value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import Any

MAX_DEPTH = 100
QUIET = Context(prec=50, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
_FENCED = re.compile(r"\A```(?:json)?[ \t]*\n(.*)\n[ \t]*```\Z", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Literal:
    """A number token without a finite decimal value (NaN, Infinity, 1e99999999999999999999): equal by spelling."""

    token: str


@dataclass(frozen=True, slots=True)
class Parsed:
    value: Any
    fenced: bool = False


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
    return Parsed(value, fenced is not None) if is_shallow(value) else None


def freeze(value: Any) -> Hashable:
    """A hashable form that is equal exactly for equal JSON values (`true` is not 1)."""
    if isinstance(value, dict):
        return ("object", frozenset((key, freeze(item)) for key, item in value.items()))
    if isinstance(value, list):
        return ("array", tuple(freeze(item) for item in value))
    return (type(value).__name__, value)


def of(value: Any) -> Any:
    """A value that another parser read, as `parse` would have given it; None where it is no JSON."""
    try:
        parsed = parse(json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        return None
    return parsed.value if parsed else None


def render(value: Any, limit: int = 60) -> str:
    """Short JSON-like text of a value."""
    text = "".join(_tokens(value, limit))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _tokens(value: Any, room: int) -> Iterator[str]:
    """The text of a value in pieces, and no more of it than there is room for."""
    if isinstance(value, dict):
        yield from _joined(
            "{}", ((f"{json.dumps(str(key), ensure_ascii=False)}: ", item) for key, item in value.items()), room
        )
    elif isinstance(value, list):
        yield from _joined("[]", (("", item) for item in value), room)
    elif isinstance(value, str):
        yield json.dumps(value[: room + 1], ensure_ascii=False)
    elif isinstance(value, Literal):
        yield value.token
    else:
        yield str(value) if isinstance(value, Decimal) else json.dumps(value, default=str)


def _joined(brackets: str, items: Iterable[tuple[str, Any]], room: int) -> Iterator[str]:
    yield brackets[0]
    left = room
    for index, (lead, item) in enumerate(items):
        text = (", " if index else "") + lead + "".join(_tokens(item, left))
        yield text
        left -= len(text)
        if left < 0:
            return
    yield brackets[1]


def _number(token: str) -> Decimal | Literal:
    value = Decimal(token, QUIET)
    return value if value.is_finite() else Literal(token)


def is_shallow(value: Any) -> bool:
    """No deeper than `MAX_DEPTH`, so that a recursion over it ends in time."""
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
