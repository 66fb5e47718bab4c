"""Reads typed fields out of a client's JSON. A wrong type is a 400 that names the field and what it must be."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from router.errors import BadRequest

Json = dict[str, Any]
T = TypeVar("T")

_NAMES: dict[type, str] = {
    str: "a string",
    dict: "an object",
    list: "an array",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    type(None): "null",
}


def expect(value: Any, kind: type[T], param: str) -> T:
    """`value` if it is of the JSON type `kind` (an integer is a number too), else BadRequest."""
    if not _is_a(value, kind):
        found = _NAMES.get(type(value), type(value).__name__)
        raise BadRequest(f"{param} must be {_NAMES[kind]}, not {found}.", param=param, code="invalid_type")
    return cast(T, value)


def optional(holder: Json, key: str, kind: type[T], path: str = "") -> T | None:
    """`holder[key]`, or None where it is absent or null; `path` is the holder's own place in the request."""
    value = holder.get(key)
    return None if value is None else expect(value, kind, _join(path, key))


def required(holder: Json, key: str, kind: type[T], path: str = "") -> T:
    """`holder[key]`; BadRequest where it is absent."""
    return expect(present(holder, key, path), kind, _join(path, key))


def present(holder: Json, key: str, path: str = "") -> Any:
    """`holder[key]` of any type; BadRequest where it is absent."""
    if key not in holder:
        param = _join(path, key)
        raise BadRequest(f"Missing required parameter: {param}.", param=param, code="missing_required_parameter")
    return holder[key]


def one_of(value: str, allowed: tuple[str, ...], param: str) -> str:
    """`value` if it is allowed, else BadRequest with the list."""
    if value not in allowed:
        message = f"{param} is {value!r}; supported: {', '.join(allowed)}."
        raise BadRequest(message, param=param, code="invalid_value")
    return value


def _is_a(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
