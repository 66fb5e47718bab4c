"""What a JSON Schema says besides validity: defaults of what is left out, and arrays whose order means nothing.

Reads `properties`, `items`, `default`, `required` and `uniqueItems`; `$ref` is not followed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from router.evidence.compare import json_tree
from router.evidence.compare.json_path import WILD, Step

MOST_SETS = 64
DEEPEST = 16


def with_defaults(value: Any, wanted: Mapping[str, Any], depth: int = 0) -> Any:
    """`value` with what its schema's `properties` say of what is not there: null for an optional one is not there."""
    properties, required = wanted.get("properties"), wanted.get("required")
    if not isinstance(value, dict) or not isinstance(properties, Mapping) or depth > json_tree.MAX_DEPTH:
        return value
    needed = required if isinstance(required, list) else []
    filled = dict(value)
    for name, below in properties.items():
        if not isinstance(below, Mapping):
            continue
        if filled.get(name) is None and name not in needed and "default" not in below:
            filled.pop(name, None)
        elif name not in filled and "default" in below:
            filled[name] = json_tree.of(below["default"])
        elif name in filled:
            filled[name] = with_defaults(filled[name], below, depth + 1)
    return filled


def sets(wanted: Mapping[str, Any]) -> tuple[tuple[Step, ...], ...]:
    """The paths of the arrays with `uniqueItems`: sets, as far as JSON has them."""
    found = _sets(wanted, ())
    return tuple(path for path, _ in zip(found, range(MOST_SETS), strict=False))


def _sets(wanted: object, path: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    if not isinstance(wanted, Mapping) or len(path) > DEEPEST:
        return
    if wanted.get("uniqueItems") is True:
        yield path
    properties = wanted.get("properties")
    for name, below in properties.items() if isinstance(properties, Mapping) else ():
        if isinstance(name, str):
            yield from _sets(below, (*path, name))
    yield from _sets(wanted.get("items"), (*path, WILD))
