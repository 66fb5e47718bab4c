"""`rules`: the first rule whose conditions all hold decides; else the default.

Patterns are RE2 (linear time, so that no client can stall the gateway with a clever prompt; no look-around or
back-references), and of a long text only its beginning and its end are searched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import re2
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from policies.base import Arm, Decision, Live, Policy, PolicyConfig, RequestView, no_operating_point
from policies.learn.trained import Slots

SEARCHED_CHARACTERS = 65_536


def _compile_pattern(pattern: str) -> re2.Pattern:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def _compiles(pattern: str) -> str:
    try:
        _compile_pattern(pattern)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise ValueError(f"not an RE2 regular expression: {reason}") from error
    return pattern


Pattern = Annotated[str, AfterValidator(_compiles)]


class When(BaseModel):
    """Conditions of one rule; all that are given must hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    header: dict[str, Pattern] | None = None
    tenant: tuple[str, ...] | None = None
    min_prompt_bytes: int | None = Field(default=None, ge=0)
    max_prompt_bytes: int | None = Field(default=None, ge=0)
    tools: bool | None = None
    regex: Pattern | None = None

    @model_validator(mode="after")
    def _something(self) -> When:
        if not self.model_fields_set:
            raise ValueError(f"a rule needs at least one condition; known: {', '.join(type(self).model_fields)}")
        return self


class Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    when: When
    use: Arm


@dataclass(frozen=True, slots=True)
class CompiledRule:
    when: When
    headers: tuple[tuple[str, re2.Pattern], ...]
    text: re2.Pattern | None
    decision: Decision

    def holds(self, request: RequestView) -> bool:
        """Cheap conditions first; the text is searched only when everything else holds."""
        when = self.when
        if when.tenant is not None and request.tenant not in when.tenant:
            return False
        if when.min_prompt_bytes is not None and request.prompt_bytes < when.min_prompt_bytes:
            return False
        if when.max_prompt_bytes is not None and request.prompt_bytes > when.max_prompt_bytes:
            return False
        if when.tools is not None and ("tools" in request.needs) != when.tools:
            return False
        if not all(pattern.search(request.header(name) or "") for name, pattern in self.headers):
            return False
        return self.text is None or self.text.search(_ends(request.text())) is not None


@dataclass(frozen=True, slots=True)
class Rules:
    rules: tuple[CompiledRule, ...]
    default: Decision
    version: str
    kind: str = "rules"
    scorer: str = ""

    async def decide(self, request: RequestView, live: Live) -> Decision:
        return next((rule.decision for rule in self.rules if rule.holds(request)), self.default)

    def at(self, point: float) -> Policy:
        raise no_operating_point(self.kind)


class RulesConfig(PolicyConfig):
    """`{kind: rules, rules: [{when: {tools: true}, use: teacher}], default: student}`."""

    kind: Literal["rules"]
    rules: tuple[Rule, ...] = Field(min_length=1)
    default: Arm = "teacher"

    def build(self, route: str, slots: Slots) -> Policy:
        return Rules(
            tuple(_compile(number, rule) for number, rule in enumerate(self.rules)),
            _decision(self.default, "rule:default"),
            self.version(),
        )


def _compile(number: int, rule: Rule) -> CompiledRule:
    headers = tuple((name.lower(), _compile_pattern(pattern)) for name, pattern in (rule.when.header or {}).items())
    text = _compile_pattern(rule.when.regex) if rule.when.regex else None
    return CompiledRule(rule.when, headers, text, _decision(rule.use, f"rule:{number}"))


def _ends(text: str) -> str:
    half = SEARCHED_CHARACTERS // 2
    return text if len(text) <= SEARCHED_CHARACTERS else f"{text[:half]}\n{text[-half:]}"


def _decision(arm: Arm, reason: str) -> Decision:
    return Decision(arm, reason, 1.0 if arm == "teacher" else 0.0)
