"""Validating a JSON value against a client's JSON Schema, in bounded time whatever either of them is.

The schema comes from a request, so that it may be malformed, huge or hostile. A remote `$ref` is never followed.
Regular expressions run on RE2, in linear time; one that RE2 does not know (look-around, back-references) restricts
nothing. The work is counted: a schema that needs more than `STEPS` says nothing, and so does one that cannot be used.
`format`, `unevaluatedItems` and `unevaluatedProperties` are not checked. Numbers are `Decimal`, as in `json_tree`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any

import re2
from jsonschema import Draft202012Validator, TypeChecker, ValidationError, validators
from jsonschema.exceptions import UnknownType
from jsonschema.protocols import Validator
from referencing import Registry
from referencing.exceptions import Unresolvable

from router.evidence.compare.json_path import render_path
from router.evidence.compare.json_tree import QUIET, freeze, is_shallow, render

STEPS = 100_000
MOST_NODES = 20_000  # of a schema
PATTERN_MEMORY = 1 << 20
_UNCHECKED = ("format", "unevaluatedItems", "unevaluatedProperties")
# What a malformed schema makes the library raise: a client's text, so that nothing of it can be relied on.
_UNUSABLE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    UnknownType,
    Unresolvable,
    ValueError,
)

Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError]]


class TooMuchWork(Exception):
    """The steps of one validation are used up."""


_steps_left: ContextVar[int] = ContextVar("steps_left")


def problem(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Why `value` (as `json_tree.parse` gives it) breaks the schema, "" where it does not; None: nobody can say."""
    if not is_shallow(schema) or _count(schema) > MOST_NODES:
        return None
    _steps_left.set(STEPS)
    try:
        brief: Any = _brief(schema)
        validator = _class(validators.validator_for(brief, default=Draft202012Validator))(brief, registry=Registry())
        error = next(validator.iter_errors(_brief(value)), None)
    except (TooMuchWork, *_UNUSABLE):
        return None
    return "" if error is None else _told(error)


def _told(error: ValidationError) -> str:
    """The place and the keyword; of an `anyOf` the place says enough."""
    wanted = f"{error.validator} {render(_plain(error.validator_value))}" if error.validator else "false schema"
    return f"{render_path(tuple(error.absolute_path))}: {render(_plain(error.instance))} breaks {wanted}"


class _Object(dict[str, Any]):
    """A mapping that prints briefly: the library prints an instance into every error that it tries."""

    def __repr__(self) -> str:
        return "{…}"


class _Array(list[Any]):
    def __repr__(self) -> str:
        return "[…]"


class _Text(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return "…"


def _brief(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _Object((key, _brief(item)) for key, item in value.items())
    if isinstance(value, list):
        return _Array(_brief(item) for item in value)
    if isinstance(value, str):
        return _Text(value)
    if isinstance(value, float):  # 0.1 in a schema is the decimal that the client wrote
        return Decimal(repr(value))
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


def _count(schema: Any) -> int:
    total, level = 0, [schema]
    while level and total <= MOST_NODES:
        total += len(level)
        level = [child for node in level for child in _children(node)]
    return total


def _children(node: Any) -> list[Any]:
    if isinstance(node, Mapping):
        return list(node.values())
    return node if isinstance(node, list) else []


def _spend(steps: int) -> None:
    left = _steps_left.get() - steps
    _steps_left.set(left)
    if left < 0:
        raise TooMuchWork


def _counted(keyword: Keyword) -> Keyword:
    def run(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        _spend(1 + (len(value) if isinstance(value, dict | list) else 0))
        return keyword(validator, value, instance, schema)

    return run


@cache
def _class(draft: type[Validator]) -> type[Validator]:
    """The draft's validator with counted keywords, exact numbers and RE2."""
    keywords: dict[str, Keyword] = draft.VALIDATORS
    counted = {name: _counted(_OWN.get(name, keyword)) for name, keyword in keywords.items()}
    extended: type[Validator] = validators.extend(  # type: ignore[no-untyped-call]  # untyped there
        draft,
        validators={name: _unchecked if name in _UNCHECKED else keyword for name, keyword in counted.items()},
        type_checker=draft.TYPE_CHECKER.redefine_many({"integer": _is_integer, "number": _is_number}),
    )
    return extended


def _is_number(checker: TypeChecker, instance: Any) -> bool:
    return isinstance(instance, int | Decimal) and not isinstance(instance, bool)


def _is_integer(checker: TypeChecker, instance: Any) -> bool:
    if isinstance(instance, Decimal):
        return instance == instance.to_integral_value()
    return isinstance(instance, int) and not isinstance(instance, bool)


def _frozen(value: Any) -> Any:
    return freeze(_decimals(value))


def _decimals(value: Any) -> Any:
    """A schema's integers as the decimals that an answer's are."""
    if isinstance(value, dict):
        return {str(key): _decimals(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_decimals(item) for item in value]
    if isinstance(value, str):
        return str(value)
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _unchecked(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    return iter(())


def _enum(validator: Any, enums: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if _frozen(instance) not in {_frozen(each) for each in enums}:
        yield ValidationError("not one of the enum")


def _const(validator: Any, const: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if _frozen(instance) != _frozen(const):
        yield ValidationError("not the const")


def _unique(validator: Any, unique: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if unique and isinstance(instance, list) and len({_frozen(item) for item in instance}) < len(instance):
        yield ValidationError("not unique")


def _multiple_of(validator: Any, divisor: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "number") and _remainder(Decimal(instance), Decimal(divisor)):
        yield ValidationError("not a multiple")


def _remainder(number: Decimal, divisor: Decimal) -> bool:
    rest = QUIET.remainder(number, divisor)
    return rest.is_finite() and rest != 0  # NaN: more digits than are computed with


def _pattern(validator: Any, pattern: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and _found(pattern, instance) is False:
        yield ValidationError("does not match")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    _spend(len(patterns) * len(instance))
    for pattern, below in patterns.items():
        for key, item in instance.items():
            if _found(pattern, key):
                yield from validator.descend(item, below, path=key, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    _spend(len(instance) * (1 + len(patterns)))
    for key, item in instance.items():
        if key not in known and not any(_found(pattern, key) is not False for pattern in patterns):
            if allowed is False:
                yield ValidationError("not allowed", path=(key,))
            else:
                yield from validator.descend(item, allowed, path=key)


def _found(pattern: Any, text: str) -> bool | None:
    """None: the pattern is not one that RE2 knows. Raises TypeError for what is no text."""
    if not isinstance(pattern, str):
        raise TypeError
    compiled = _compiled(str(pattern))
    return None if compiled is None else compiled.search(text) is not None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = PATTERN_MEMORY
    try:
        return re2.compile(pattern, options)
    except re2.error:
        return None


_OWN: dict[str, Keyword] = {
    "enum": _enum,
    "const": _const,
    "uniqueItems": _unique,
    "multipleOf": _multiple_of,
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
}
