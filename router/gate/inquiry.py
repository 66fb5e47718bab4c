"""Everything that a gate asks about one answer beside the answer itself: its agreement, and the user's checks.

The further answers are asked for beside the student's own; the checks as soon as that is there. An answer that
fails a check needs no agreement. Costs nothing where the gate asks nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from policies.base import Gate
from policies.gate.agreement import Agreement
from policies.gate.answer import StudentAnswer
from policies.gate.checks import Check
from router.arm import ArmCall
from router.evidence.compare.base import Answer, JudgeUnavailable, Services
from router.gate.asker import Asker, Unanswered
from router.gate.checks import Checker, Unchecked
from router.gate.samples import agreement, further_answers
from router.gate.seen import seen
from router.request import ClientRequest
from router.runtime import RouteRuntime, Runtime
from router.tasks import end
from router.upstream.model import Leash, ModelClient
from router.upstream.transport import Aborted

JUDGE_S = 30.0  # for a judge that a comparator asks whether two answers are the same


class Inquiry:
    """One request's, used as an async context: what is still asked at its end is given up.

    `notes` says what failed: `check:NAME`, `unchecked:NAME` (nobody could say, which counts as failed), `no_agreement`
    (no further answer came, or none could be compared).
    """

    def __init__(
        self, request: ClientRequest, runtime: Runtime, route: RouteRuntime, gate: Gate, asker: Asker, leash: Leash
    ) -> None:
        self.notes: list[str] = []
        self._request = request
        self._runtime = runtime
        self._route = route
        self._gate = gate
        self._asker = asker
        self._leash = leash
        self._further: asyncio.Task[list[Answer]] | None = None

    async def __aenter__(self) -> Self:
        return self

    def begin(self) -> None:
        """Ask for further answers; to be called when the student's own is paid for, which comes first."""
        wanted = self._gate.asks.agreement
        if wanted is not None:
            further = further_answers(self._asker, self._request, self._second(wanted), wanted)
            self._further = asyncio.create_task(further, name="further answers for a gate")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._further is not None:
            await end([self._further])

    async def answers(self, call: ArmCall) -> list[StudentAnswer]:
        """What the gate sees of each choice of the student's. Raises Aborted when the client hung up."""
        found = seen(call, self._gate.needs)
        if not self._gate.asks:
            return found
        said = [choice.answer for choice in call.choices()]
        found = await _until_aborted(self._examine(found, said), self._leash)
        call.examined = found[0] if found else None
        return found

    async def _examine(self, found: list[StudentAnswer], said: list[Answer]) -> list[StudentAnswer]:
        return [await self.examined(what, answer) for what, answer in zip(found, said, strict=True)]

    async def examined(self, what: StudentAnswer, answer: Answer) -> StudentAnswer:
        """`what` with its agreement and its checks, in the order of their configuration.

        After the first check that fails nothing more is asked.
        """
        passed: dict[str, bool] = {}
        for name, check in self._gate.asks.checks.items():
            passed[name] = await self._passes(name, check, answer)
            if not passed[name]:
                return replace(what, checks=passed)
        if self._further is None:
            return replace(what, checks=passed)
        share, samples = await agreement(answer, await self._further, self._is_same)
        if share is None:
            self._note("no_agreement")
        return replace(what, checks=passed, agreement=share, samples=samples)

    async def _passes(self, name: str, check: Check, answer: Answer) -> bool:
        try:
            passes = await self._checker.passes(check, answer)
        except Unchecked:
            self._note(f"unchecked:{name}")
            return False
        if not passes:
            self._note(f"check:{name}")
        return passes

    async def _is_same(self, answer: Answer, other: Answer) -> bool | None:
        wanted = self._gate.asks.agreement
        assert wanted is not None
        verdict = await self._runtime.comparators.compare(
            wanted.comparator, self._decoded, answer, other, self._services
        )
        return None if verdict.kind == "comparator_failed" else verdict.same

    def _second(self, wanted: Agreement) -> ModelClient:
        return self._route.student if wanted.model is None else self._runtime.models[wanted.model]

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    @property
    def unanswered(self) -> bool:
        """Whether something that was asked brought no answer, which says nothing about the student."""
        return any(note == "no_agreement" or note.startswith("unchecked:") for note in self.notes)

    @cached_property
    def _decoded(self) -> Mapping[str, Any]:
        return {name: self._request.value(name) for name in self._request.fields}

    @cached_property
    def _checker(self) -> Checker:
        return Checker(self._decoded, self._runtime.comparators.gate_programs, self._judged)

    @cached_property
    def _services(self) -> Services:
        wanted = self._gate.asks.agreement
        second = {wanted.model} if wanted is not None and wanted.model is not None else set()
        return Services(self._judged_in_comparison, frozenset({self._route.student.name, *second}))

    async def _judged(self, model: str, messages: list[dict[str, str]], max_tokens: int, timeout_s: float) -> str:
        """A judge's text. Raises Unanswered."""
        client = self._runtime.models.get(model)
        if client is None:
            raise Unanswered(f"no model '{model}'")
        body = {"messages": messages, "max_tokens": max_tokens, "temperature": 0}
        return (await self._asker.ask(client, body, timeout_s)).answer().text

    async def _judged_in_comparison(self, model: str, messages: list[dict[str, str]], max_tokens: int) -> str:
        try:
            return await self._judged(model, messages, max_tokens, JUDGE_S)
        except Unanswered as error:
            raise JudgeUnavailable(str(error)) from None


class _Handle:
    """Cancels a task when the client hangs up."""

    def __init__(self, task: asyncio.Task[list[StudentAnswer]]) -> None:
        self._task = task
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True
        self._task.cancel()


async def _until_aborted(work: Coroutine[Any, Any, list[StudentAnswer]], leash: Leash) -> list[StudentAnswer]:
    """The result of `work`. Raises Aborted when the leash is pulled meanwhile."""
    task = asyncio.create_task(work, name="a gate's questions")
    handle = _Handle(task)
    try:
        leash.attach(handle)
        return await task
    except asyncio.CancelledError:
        if handle.aborted:
            raise Aborted("the client hung up") from None
        raise
    finally:
        leash.release(handle)
        await end([task])
