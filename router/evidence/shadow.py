"""The calls of one audit that no client waits for: the other arm, a second draw of the teacher, a judge.

They have connections of their own and a share of each model's places, wait for a place instead of taking one, are paid
by budgets that are not the client's, and leave one decision row with every charge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from policies.base import Arm, Gate
from policies.cascade import SCORE_TOKENS
from policies.learn.trained import Score
from router.arm import ArmCall, open_arm
from router.errors import BadRequest, BudgetSpent, RouterError, TooManyRequests
from router.evidence.compare.base import Answer, JudgeUnavailable
from router.evidence.records import ArmAnswer, arm_answer
from router.exchange import Trace
from router.gate.asker import Asker
from router.gate.inquiry import Inquiry
from router.gate.seen import worst
from router.ledger.bill import Bill, Origin
from router.ledger.ledger import Ledger
from router.record.recorder import Recorder
from router.request import ClientRequest, parse_fields
from router.runtime import RouteRuntime
from router.upstream.model import Attempts, Leash, ModelClient
from router.upstream.transport import TransportError

PLACE_EVERY_S = 0.1
OVERLOADED = 429


class Unasked(Exception):
    """The other arm was not asked, which is no fault of it; `result` says why."""

    def __init__(self, result: Literal["budget", "untranslatable", "starved"]) -> None:
        super().__init__(result)
        self.result = result


class Shadow:
    """One audit's calls. `spent` is told when a budget does not pay; `close` writes the row, whatever came of them."""

    def __init__(
        self,
        trace: Trace,
        route: RouteRuntime,
        ledger: Ledger,
        recorder: Recorder,
        spent: Callable[[RouteRuntime], None],
    ) -> None:
        self._spent = spent
        self._trace = trace
        self._route = route
        self._ledger = ledger
        self._recorder = recorder
        self._bill = Bill()
        self.asked_judge = False
        self.score: Score | None = None
        self._waits = False

    async def ask(self, arm: Arm) -> ArmAnswer:
        """The arm's answer to the request; a failure, or none in time, is one too. Raises Unasked.

        Of a student whose answers a gate looks at, also what that would have asked about it.
        """
        model = self._route.model(arm)
        scored = arm == "student" and "logprobs" in model.supports
        charged = len(self._bill.charges)
        try:
            call = await self._in_time(self._trace.request, model, "shadow", scored)
        except BadRequest:
            raise Unasked("untranslatable") from None
        except BudgetSpent as spent:
            self._unpaid(spent)
            raise Unasked("budget") from None
        except (RouterError, TransportError, TimeoutError) as error:
            lost = self._bill.charges[charged:]
            return arm_answer(model.name, Answer.failed(self._words(error)), lost[-1] if lost else None)
        if not call.succeeded:
            return arm_answer(model.name, Answer.failed(f"status {call.reply.status}"), call.charge)
        gate = self._trace.decision.gate if self._trace.decision else None
        if arm == "student" and gate is not None:
            await self._score(gate, call)
        return arm_answer(
            model.name,
            call.answer(),
            call.charge,
            call.signals(SCORE_TOKENS) if scored else None,
            agreement=call.agreement,
            checks=call.checks,
        )

    async def _score(self, gate: Gate, call: ArmCall) -> None:
        """What the gate says of the answer, as it would have of one that was served; None where it could not ask."""
        runtime, caller = self._trace.target.runtime, self._trace.request.caller
        assert runtime is not None
        purse = self._ledger.purse(caller, self._route.name, background=True)
        asker = Asker(self._bill, caller, self._headers("shadow"), purse, origin="shadow", background=True)
        inquiry = Inquiry(self._trace.request, runtime, self._route, gate, asker, Leash(background=True))
        async with inquiry:
            inquiry.begin()
            answers = await inquiry.answers(call)
        if not inquiry.unanswered:
            self.score = worst(gate, self._trace.request, self._route.name, answers)

    async def judge(self, name: str, messages: list[dict[str, str]], max_tokens: int) -> str:
        """A judge's text. Raises JudgeUnavailable."""
        self.asked_judge = True
        runtime = self._trace.target.runtime
        model = runtime.models.get(name) if runtime else None
        if model is None:
            raise JudgeUnavailable(f"no model '{name}'")
        body: dict[str, Any] = {"model": name, "messages": messages, "max_tokens": max_tokens, "temperature": 0}
        encoded = msgspec.json.encode(body)
        request = ClientRequest("chat", encoded, [], self._trace.request.caller, parse_fields(encoded))
        try:
            call = await self._in_time(request, model, "judge", scored=False)
        except BudgetSpent as spent:
            self._unpaid(spent)
            raise JudgeUnavailable("its budget is spent") from None
        except Unasked:
            raise JudgeUnavailable("it had no place for background calls") from None
        except (RouterError, TransportError, TimeoutError) as error:
            raise JudgeUnavailable(self._words(error)) from None
        if not call.succeeded:
            raise JudgeUnavailable(f"status {call.reply.status}")
        return call.answer().text

    def close(self) -> None:
        """Record what the calls cost."""
        for charge in self._bill.charges:
            self._recorder.charge(self._route.name, self._trace.request.caller.tenant, charge)
        if self._bill.charges:
            self._recorder.shadow(self._trace, self._bill)

    def _unpaid(self, spent: BudgetSpent) -> None:
        self._ledger.exhausted(spent.budget, "shed")
        self._spent(self._route)

    def _words(self, error: Exception) -> str:
        return str(error) or f"no answer within {self._route.config.audit.timeout_s:g} s"

    async def _in_time(self, request: ClientRequest, model: ModelClient, origin: Origin, scored: bool) -> ArmCall:
        """Raises Unasked where the model never had a place for it."""
        charged = len(self._bill.charges)
        self._waits = False
        try:
            async with asyncio.timeout(self._route.config.audit.timeout_s):
                return await self._when_there_is_place(request, model, origin, scored)
        except TimeoutError:
            if self._waits:
                raise Unasked("starved") from None
            raise
        finally:
            for charge in self._bill.charges[charged:]:
                charge.origin = origin  # tries that failed too

    async def _when_there_is_place(
        self, request: ClientRequest, model: ModelClient, origin: Origin, scored: bool
    ) -> ArmCall:
        """Clients come first: a model that is busy is asked again a little later."""
        while True:
            self._waits = False
            pause_s = PLACE_EVERY_S
            try:
                call = await self._call(request, model, origin, scored)
                if call.reply.status != OVERLOADED:
                    return call
                self._bill.charges.remove(call.charge)
                pause_s *= 10
            except TooManyRequests:
                pass
            self._waits = True
            await asyncio.sleep(pause_s)

    async def _call(self, request: ClientRequest, model: ModelClient, origin: Origin, scored: bool) -> ArmCall:
        headers = self._headers(origin)
        purse = self._ledger.purse(request.caller, self._route.name, background=True)
        leash = Leash(background=True)
        call = await open_arm(
            request, model, self._bill, headers, leash, Attempts(), purse, scored=scored, entropies=scored
        )
        call.settle(origin)
        call.close()
        return call

    def _headers(self, origin: Origin) -> bytes:
        return b"x-request-id: %b-%b\r\n" % (self._trace.id.encode(), origin.encode())
