"""The user's own program compares: one JSON object on standard input, one on standard output.

In:  {"request": {…}, "teacher": ANSWER, "student": ANSWER}, with ANSWER = {"text", "tool_calls": [{"name",
     "arguments"}], "finish_reason", "refusal"}; `arguments` is the text that the model wrote.
Out: {"same": true} or {"same": false}, and what it knows besides: "score" (0 to 1), "harm" (default: not same), "diff"
     (a text), "preferred" ("teacher", "student" or "tie"), "checks" ({"student_valid": true, …}).
A program that is not there, fails, takes too long or writes anything else brings a verdict of kind comparator_failed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from router.evidence.compare.base import Answer, Services, Verdict, failed, readable, shorten
from router.evidence.compare.sandbox import CannotRun, Finished, Limits, Sandbox


class _Said(BaseModel):
    """The program's verdict; what it says beyond these is left alone."""

    model_config = ConfigDict(strict=True, extra="ignore")
    same: bool
    score: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    harm: bool | None = None
    diff: str = ""
    preferred: Literal["teacher", "student", "tie"] | None = None
    checks: dict[str, bool] = Field(default={}, max_length=16)


@dataclass(frozen=True, slots=True)
class Command:
    argv: tuple[str, ...]
    timeout_s: float
    sandbox: Sandbox
    name: str
    version: ClassVar[int] = 1

    def applies(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> bool:
        return True

    async def compare(
        self, request: Mapping[str, Any], teacher: Answer, student: Answer, services: Services
    ) -> Verdict:
        asked = {"request": request, "teacher": answer_fields(teacher), "student": answer_fields(student)}
        given = json.dumps(asked, default=str).encode()
        try:
            finished = await self.sandbox.run(self.argv, given, {}, Limits(self.timeout_s))
        except CannotRun as error:
            return failed(self, str(error))
        return self._verdict(finished)

    def _verdict(self, finished: Finished) -> Verdict:
        if finished.status is None:
            return failed(self, f"'{self.argv[0]}' took longer than {self.timeout_s:g} s")
        if finished.status != 0:
            complaint = finished.complaint.strip().split("\n")[-1]
            return failed(self, f"'{self.argv[0]}' ended with status {finished.status}: {shorten(complaint)}")
        try:
            said = _Said.model_validate_json(finished.output)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(step) for step in problem["loc"]) or "output"
            text = shorten(finished.output.decode("utf-8", "replace"))
            return failed(self, f"'{self.argv[0]}' wrote no verdict: {place}: {problem['msg']}; it wrote {text}")
        return self._read(said)

    def _read(self, said: _Said) -> Verdict:
        harm = (not said.same) if said.harm is None else said.harm and not said.same
        return Verdict(
            same=said.same,
            score=1.0 if said.same else min(said.score or 0.0, 0.999),
            harm=harm,
            kind="agree" if said.same else "command",
            diff="" if said.same else readable(said.diff) or "the command says they differ",
            comparator=self.name,
            version=self.version,
            checks=MappingProxyType(dict(said.checks)),
            preferred=said.preferred,
        )


def answer_fields(answer: Answer) -> dict[str, Any]:
    return {
        "text": answer.text,
        "tool_calls": [{"name": call.name, "arguments": call.arguments_json} for call in answer.tool_calls],
        "finish_reason": answer.finish_reason,
        "refusal": answer.refusal,
    }
