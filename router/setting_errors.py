"""What is wrong with a configuration, a line per problem: the path in the file, and what is allowed there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import ValidationError

from policies.gate.checks import CHECK_KINDS
from policies.registry import CONFIGS
from router.comparator_settings import KINDS as COMPARATOR_KINDS
from router.trained.settings import ENCODER_KINDS

Location = tuple[int | str, ...]
Schema = dict[str, Any]


def explain(error: ValidationError, schema: Schema) -> list[str]:
    """The problems of `error`; `schema` is the JSON Schema of what was validated."""
    lines = []
    found = error.errors(include_url=False)
    places = [problem["loc"] for problem in found]
    for problem in found:
        # A list with a bad entry is also reported as too short: the entry says it all.
        if problem["type"] == "too_short" and _has_one_inside(problem["loc"], places):
            continue
        path = _yaml_path(problem["loc"])
        message = _message(problem["type"], problem["msg"], problem["loc"], problem.get("ctx", {}), schema)
        lines += [f"{path}: {message}"] if path else message.splitlines()
    return lines


def _message(kind: str, text: str, loc: Location, context: dict[str, Any], schema: Schema) -> str:
    if kind == "extra_forbidden":
        known = ", ".join(sorted(_keys(schema, loc[:-1])))
        return f"unknown key; known: {known}" if known else "unknown key"
    if kind == "union_tag_invalid":
        return f"unknown kind '{context['tag']}'; known: {context['expected_tags']}"
    if kind == "union_tag_not_found":
        return "`kind` is missing: it says which of the blocks this is"
    if kind == "tuple_type":
        return "expected a list: [first, second, …]"
    if kind == "too_short":
        return f"expected at least {context['min_length']}, not {context['actual_length']}"
    return text.removeprefix("Value error, ")


def _keys(schema: Schema, loc: Location) -> set[str]:
    """The keys that a mapping at `loc` may have."""
    blocks = [schema]
    for i, step in enumerate(loc):
        if _is_kind(loc, i):
            blocks = [one for block in blocks for one in _options(schema, block) if _kind_of(one) == step]
        else:
            blocks = [inner for block in blocks for inner in _inside(schema, block, step)]
    return {key for block in blocks for option in _options(schema, block) for key in option.get("properties", {})}


def _inside(root: Schema, block: Schema, step: int | str) -> Iterator[Schema]:
    for option in _options(root, block):
        if step in option.get("properties", {}):
            yield option["properties"][step]
        elif isinstance(option.get("additionalProperties"), dict):
            yield option["additionalProperties"]
        elif isinstance(step, int) and isinstance(option.get("items"), dict):
            yield option["items"]


def _options(root: Schema, block: Schema) -> Iterator[Schema]:
    """The block itself, or what it refers to or chooses from."""
    if "$ref" in block:
        block = root["$defs"][block["$ref"].rpartition("/")[2]]
    choices = [*block.get("anyOf", ()), *block.get("oneOf", ()), *block.get("allOf", ())]
    if not choices:
        yield block
    for choice in choices:
        yield from _options(root, choice)


def _kind_of(block: Schema) -> Any:
    """None for a block without a kind, such as the `null` that stands for none."""
    return block.get("properties", {}).get("kind", {}).get("const")


def _has_one_inside(loc: Location, places: list[Location]) -> bool:
    return any(len(place) > len(loc) and place[: len(loc)] == loc for place in places)


def _yaml_path(loc: Location) -> str:
    """A problem's place in the file: without the steps that pydantic adds for the kind of policy and for bad keys."""
    return ".".join(str(part) for i, part in enumerate(loc) if part != "[key]" and not _is_kind(loc, i))


def _is_kind(loc: Location, i: int) -> bool:
    """Whether a step is the kind of policy, comparator, check or encoder that pydantic chose from a union."""
    if i == 3 and loc[0] == "routes" and loc[2] == "encoder":
        return loc[i] in ENCODER_KINDS
    if i > 1 and loc[i - 2] == "checks":
        return loc[i] in CHECK_KINDS
    if loc[0] == "comparators":
        return i == 2 and loc[i] in COMPARATOR_KINDS
    kinds = {kind for config in CONFIGS for kind in get_args(config.model_fields["kind"].annotation)}
    return loc[i] in kinds and i > 0 and (loc[i - 1] == "policy" or (i > 1 and loc[i - 2] == "policies"))
