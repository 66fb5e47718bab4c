"""Runs the user's own gates on an answer: a JSON Schema, a program, a question to a judge."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from policies.gate.checks import Check, CommandCheck, JsonSchemaCheck, JudgeCheck
from router.evidence.compare import json_tree, schema
from router.evidence.compare.base import Answer
from router.evidence.compare.command import answer_fields
from router.evidence.compare.requests import json_format
from router.evidence.compare.sandbox import CannotRun, Limits, Sandbox
from router.gate.asker import Unanswered
from router.gate.judge import NoVerdict, messages, verdict

Ask = Callable[[str, list[dict[str, str]], int, float], Awaitable[str]]  # model, messages, max_tokens, timeout_s


class Unchecked(Exception):
    """A check could not be made; the text says why."""


class Checker:
    """Checks answers to one request, a decoded body. `ask` gives a model's text or raises Unanswered."""

    def __init__(self, request: Mapping[str, Any], programs: Sandbox, ask: Ask) -> None:
        self._request = request
        self._programs = programs
        self._ask = ask

    async def passes(self, check: Check, answer: Answer) -> bool:
        """Raises Unchecked where nobody can say."""
        match check:
            case JsonSchemaCheck():
                return await asyncio.to_thread(_keeps, check.schema_, self._request, answer)
            case CommandCheck():
                return await self._accepts(check, answer)
            case JudgeCheck():
                return await self._approves(check, answer)

    async def _accepts(self, check: CommandCheck, answer: Answer) -> bool:
        given = json.dumps({"request": self._request, "answer": answer_fields(answer)}, default=str).encode()
        try:
            finished = await self._programs.run(check.argv, given, {}, Limits(check.timeout_s))
        except CannotRun as error:
            raise Unchecked(str(error)) from None
        if finished.status is None:
            raise Unchecked(f"'{check.argv[0]}' took longer than {check.timeout_s:g} s")
        return finished.status == 0

    async def _approves(self, check: JudgeCheck, answer: Answer) -> bool:
        asked = messages(check.question, self._request, answer)
        try:
            return verdict(await self._ask(check.model, asked, check.max_tokens, check.timeout_s))
        except (Unanswered, NoVerdict) as error:
            raise Unchecked(str(error)) from None


def _keeps(own: Mapping[str, Any] | None, request: Mapping[str, Any], answer: Answer) -> bool:
    """JSON that keeps the schema; what nobody can say of it is no fault."""
    if answer.called and not answer.text.strip():
        return True
    parsed, wanted = json_tree.parse(answer.text), json_format(request)
    if parsed is None or (parsed.fenced and wanted is not None):  # where JSON was asked for, a fence breaks a parser
        return False
    rule = own if own is not None else wanted.schema if wanted else None
    return rule is None or not schema.problem(parsed.value, rule)
