"""The user's own gates: a JSON Schema, a program, a question to a judge. An answer that fails one is not served.

Only how they are configured; they are run by the gateway.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Argv = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        raise ValueError("the name of a check is letters, digits and ._-")
    return value


CheckName = Annotated[str, AfterValidator(_name)]


class _Check(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)


class JsonSchemaCheck(_Check):
    """The answer is JSON, alone or in one code fence, and keeps the schema. An answer that calls a tool passes."""

    kind: Literal["json_schema"]
    schema_: dict[str, Any] | None = Field(
        default=None, alias="schema", description="default: the one that the request asks for, or any JSON"
    )


class CommandCheck(_Check):
    """A program that gets `{"request", "answer"}` as JSON on standard input and ends with status 0 if it accepts."""

    kind: Literal["command"]
    argv: Argv
    timeout_s: float = Field(default=5, gt=0, le=600, allow_inf_nan=False)


class JudgeCheck(_Check):
    """A model that is asked a question about the request and its answer; yes accepts."""

    kind: Literal["judge"]
    model: str = Field(min_length=1)
    question: str = Field(
        default="Is the answer correct, complete, and what was asked for?", min_length=1, max_length=10_000
    )
    max_tokens: int = Field(default=256, ge=16, le=32_768)
    timeout_s: float = Field(default=30, gt=0, le=86_400, allow_inf_nan=False)


Check = JsonSchemaCheck | CommandCheck | JudgeCheck
AnyCheck = Annotated[Check, Field(discriminator="kind")]
CHECK_KINDS = ("json_schema", "command", "judge")
