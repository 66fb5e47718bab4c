"""What a gate needs of the rest of a configuration: models by name, and schemas that can be used."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from jsonschema import validators
from jsonschema.exceptions import SchemaError

from policies.gate.asks import Asks
from policies.gate.checks import JsonSchemaCheck, JudgeCheck


def gate_problems(
    path: str, asks: Asks, models: Collection[str], *, teacher: str | None = None, student: str | None = None
) -> Iterator[str]:
    """A line for each. `path`: of the policy in the file; `teacher`, `student`: of its route, None for a named one."""
    agreement = asks.agreement
    if agreement is not None and agreement.model is not None:
        yield from _unknown(f"{path}.agreement.model", agreement.model, models)
        if agreement.model == student:
            yield f"{path}.agreement.model: '{student}' is the student itself; leave `model` out for its own samples"
        if agreement.model == teacher:
            yield f"{path}.agreement.model: '{teacher}' is the teacher: a gate that asks it for answers saves nothing"
    for name, check in asks.checks.items():
        place = f"{path}.checks.{name}"
        match check:
            case JudgeCheck(model=model):
                yield from _unknown(f"{place}.model", model, models)
                if model == student:
                    yield f"{place}.model: '{student}' is the student; a model does not judge its own answers"
            case JsonSchemaCheck(schema_=dict(schema)):
                yield from _unusable(f"{place}.schema", schema)


def _unknown(path: str, model: str, models: Collection[str]) -> Iterator[str]:
    if model not in models:
        yield f"{path}: unknown model '{model}'; known: {', '.join(models)}"


def _unusable(path: str, schema: dict[str, object]) -> Iterator[str]:
    validator = validators.validator_for(schema, default=validators.Draft202012Validator)
    try:
        validator.check_schema(schema)
    except SchemaError as error:
        yield f"{path}: is no JSON Schema: {error.message}"
