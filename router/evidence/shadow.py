"""The calls of one audit that no client waits for: the other arm, a second draw of the teacher, a judge.

They are paid by budgets that are not the client's, and leave one decision row with every charge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from policies.base import Arm, Gate
from policies.learn.trained import Score
from router.arm import ArmCall
from router.background import Starved, ask_in_background
from router.errors import BadRequest, BudgetSpent, RouterError
from router.evidence.answers import failed_answer, recorded_answer
from router.evidence.compare.base import JudgeUnavailable
from router.evidence.records import ArmAnswer
from router.exchange import Trace
from router.gate.asker import Asker
from router.gate.inquiry import Inquiry
from router.gate.seen import worst
from router.ledger.bill import Bill, Origin
from router.ledger.ledger import Ledger
from router.record.recorder import Recorder
from router.request import ClientRequest, parse_fields
from router.runtime import RouteRuntime
from router.upstream.model import Leash, ModelClient
from router.upstream.transport import TransportError


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
            return failed_answer(model.name, self._words(error), lost[-1] if lost else None)
        if not call.succeeded:
            return failed_answer(model.name, f"status {call.reply.status}", call.charge)
        gate = self._trace.decision.gate if self._trace.decision else None
        if arm == "student" and gate is not None:
            await self._score(gate, call)
        return recorded_answer(call)

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
        if inquiry.unanswered:
            call.examined = None
        else:
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
        headers, timeout_s = self._headers(origin), self._route.config.audit.timeout_s
        purse = self._ledger.purse(request.caller, self._route.name, background=True)
        charged = len(self._bill.charges)
        try:
            return await ask_in_background(request, model, self._bill, headers, purse, origin, timeout_s, scored=scored)
        except Starved:
            raise Unasked("starved") from None
        finally:
            for charge in self._bill.charges[charged:]:
                charge.origin = origin  # tries that failed too

    def _headers(self, origin: Origin) -> bytes:
        return b"x-request-id: %b-%b\r\n" % (self._trace.id.encode(), origin.encode())
