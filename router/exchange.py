"""One request from its decision to the arm that answers it: guards, policy, gate, fallback.

`Exchange.answer` returns the call whose answer the client gets, with nothing sent yet: every fallback and escalation
happens here, before the first byte. Delivery is `router.deliver`, the written trace `router.record`.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Literal

from policies.base import Arm, Decision, Gate
from router.arm import ArmCall, Batch, open_arm
from router.errors import RouterError, TooManyRequests, UpstreamFailed
from router.ledger.bill import Bill
from router.request import ClientRequest
from router.runtime import RouteRuntime, Target
from router.upstream.model import Attempts, Leash, ModelClient
from router.upstream.transport import Aborted, TransportError

Outcome = Literal["ok", "cancelled", "interrupted", "rejected", "failed"]

FALL_BACK_CODES = (b'"context_length_exceeded"',)


@dataclass(slots=True)
class Trace:
    """What happened to one request, collected on the way for metrics, headers, the decision row and the audit."""

    id: str
    request: ClientRequest
    target: Target
    started: float = field(default_factory=time.perf_counter)
    wall: float = field(default_factory=time.time)
    bill: Bill = field(default_factory=Bill)
    attempts: Attempts = field(default_factory=Attempts)
    guards: list[str] = field(default_factory=list)
    decision: Decision | None = None
    reason: str = ""
    arm: Arm | None = None
    model: ModelClient | None = None
    teacher_probability: float = 0.0
    score: float | None = None
    p_wrong: float | None = None
    escalated: ArmCall | None = None
    served: ArmCall | None = None
    audit_probability: float = 0.0
    audited: bool = False
    fell_back: bool = False
    outcome: Outcome = "failed"
    status: int = 0
    decided_s: float = 0.0
    upstream_s: float = 0.0
    first_byte_s: float | None = None
    total_s: float = 0.0
    usage_missing: bool = False

    @property
    def route(self) -> RouteRuntime | None:
        return self.target.route


class Exchange:
    """Finds the answer for one request. `headers`: what goes upstream beside the model's own headers."""

    def __init__(self, trace: Trace, headers: bytes, leash: Leash) -> None:
        self._trace = trace
        self._headers = headers
        self._leash = leash
        self._request = trace.request
        self.held: list[Batch] = []

    async def answer(self) -> ArmCall:
        """The call that answers the client. Raises RouterError, or Aborted when the client hung up."""
        trace = self._trace
        route = trace.route
        if route is None:
            assert trace.target.model is not None
            trace.decision = Decision("teacher", "model", 1.0)
            return self._serve(None, "model", await self._open(trace.target.model))
        decision = trace.decision = await self._decide(route)
        trace.decided_s = time.perf_counter() - trace.started
        trace.teacher_probability = decision.teacher_probability
        if decision.gate:
            return await self._cascade(route, decision.gate)
        return await self._with_fallback(route, decision.arm, decision.reason)

    async def _decide(self, route: RouteRuntime) -> Decision:
        """Guards in their order, then the policy."""
        trace = self._trace
        if trace.target.arm is not None:
            return _certain(trace.target.arm, "forced")
        if route.config.mode == "observe":
            return _certain("teacher", "observe")
        misfit = route.student.fit.misfit(self._request)
        if misfit:
            trace.guards.append(misfit)
            return _certain("teacher", f"guard:{misfit}")
        assert trace.target.policy is not None
        decision = await trace.target.policy.decide(self._request)
        other = _other(decision.arm)
        if not route.model(decision.arm).available and self._may_fall_back(route, decision.arm):
            trace.guards.append(f"circuit:{decision.arm}")
            trace.fell_back = True
            return _certain(other, f"circuit:{decision.arm}")
        return decision

    async def _with_fallback(self, route: RouteRuntime, arm: Arm, reason: str) -> ArmCall:
        """`arm`, or the other one when it fails before its first byte and the route says so."""
        try:
            call = await self._open(route.model(arm))
        except RouterError as error:
            if not _is_failure(error) or not self._may_fall_back(route, arm):
                raise
            return await self._fall_back(route, arm, error)
        if not self._falls_back_on(route, arm, call):
            return self._serve(arm, reason, call)
        self._discard(call)
        return await self._fall_back(route, arm, None)

    async def _fall_back(self, route: RouteRuntime, arm: Arm, error: RouterError | None) -> ArmCall:
        self._trace.fell_back = True
        other = _other(arm)
        try:
            return self._serve(other, f"fallback:{arm}", await self._open(route.model(other)))
        except RouterError as second:
            if error is None or not isinstance(second, UpstreamFailed):
                raise
            raise type(second)(f"{error.message}; then {second.message}", retry_after_s=second.retry_after_s) from error

    async def _cascade(self, route: RouteRuntime, gate: Gate) -> ArmCall:
        """The student answers; the gate accepts, or the teacher is asked."""
        try:
            student = await self._open(route.student, gated=True)
            if self._falls_back_on(route, "student", student):
                self._discard(student)
                return await self._fall_back(route, "student", None)
            if not student.succeeded:
                return self._serve("student", "cascade", student)
            await self._hold(student, gate)
        except (RouterError, TransportError) as error:
            return await self._after_failed_student(route, error)
        if not self._escalates(student, gate):
            self._trace.teacher_probability = 0.0
            return self._serve("student", "cascade", student)
        self._trace.teacher_probability = 1.0
        return await self._escalate(route, student)

    async def _after_failed_student(self, route: RouteRuntime, error: Exception) -> ArmCall:
        if isinstance(error, Aborted):
            raise error
        failure = UpstreamFailed(str(error)) if isinstance(error, TransportError) else error
        assert isinstance(failure, RouterError)
        if not _is_failure(failure) or not self._may_fall_back(route, "student"):
            raise failure
        self.held.clear()
        return await self._fall_back(route, "student", failure)

    async def _hold(self, student: ArmCall, gate: Gate) -> None:
        """Keep a stream back until the gate can tell: its tokens are there, or the answer is complete."""
        if student.completed:
            return
        try:
            async for batch in student.batches:
                self.held.append(batch)
                logprobs = student.reader.logprobs()
                if logprobs and all(len(values) >= gate.score_tokens for values in logprobs):
                    return
        except BaseException as error:
            student.settle("cancelled" if isinstance(error, Aborted) else "escalation")
            student.close()
            raise

    def _escalates(self, student: ArmCall, gate: Gate) -> bool:
        """An answer without log-probabilities cannot be judged and goes to the teacher."""
        trace = self._trace
        trace.score = student.score(gate.score_tokens)
        if trace.score is None:
            trace.guards.append("no_logprobs")
            return True
        trace.p_wrong = gate.p_wrong(trace.score)
        return gate.escalates(trace.p_wrong)

    async def _escalate(self, route: RouteRuntime, student: ArmCall) -> ArmCall:
        """Ask the teacher; where it fails and the route allows it, the student's answer is still there."""
        trace = self._trace
        keeps_student = route.config.fallback.teacher == "student"
        if not keeps_student:
            self._give_up(student)
        try:
            teacher = await self._open(route.teacher)
        except RouterError as error:
            if not keeps_student or not _is_failure(error):
                self._give_up(student)
                raise
            trace.fell_back = True
            return self._serve("student", "fallback:teacher", student)
        except BaseException:
            self._give_up(student)
            raise
        self._give_up(student)
        return self._serve("teacher", "escalated", teacher)

    def _give_up(self, student: ArmCall) -> None:
        """The student's tokens were for nothing: they are the price of the escalation."""
        if self._trace.escalated is None:
            self._trace.escalated = student
            self.held.clear()
            student.settle("escalation")
            student.close()

    async def _open(self, model: ModelClient, *, gated: bool = False) -> ArmCall:
        """`gated`: the gate reads the stream; otherwise its first piece is read here. An audited student is scored."""
        trace = self._trace
        scored = gated or (trace.audited and model is self._student() and "logprobs" in model.supports)
        started = time.perf_counter()
        try:
            call = await open_arm(
                self._request,
                model,
                trace.bill,
                self._headers,
                self._leash,
                trace.attempts,
                scored=scored,
                assemble=trace.audited or scored,
            )
            if call.reply.streams and not gated:
                await self._prime(call)
            return call
        finally:
            trace.upstream_s += time.perf_counter() - started

    def _student(self) -> ModelClient | None:
        return self._trace.route.student if self._trace.route else None

    async def _prime(self, call: ArmCall) -> None:
        """Read the first piece of a stream: an error that it brings is still before the client's first byte."""
        try:
            self.held.append(await anext(call.batches, []))
        except (UpstreamFailed, TransportError) as error:
            call.settle("retry")
            call.close()
            if isinstance(error, Aborted | UpstreamFailed):
                raise
            raise UpstreamFailed(f"model '{call.model.name}' failed: {error}") from error

    def _serve(self, arm: Arm | None, reason: str, call: ArmCall) -> ArmCall:
        trace = self._trace
        trace.arm, trace.reason, trace.model, trace.served = arm, reason, call.model, call
        return call

    def _discard(self, call: ArmCall) -> None:
        call.settle("retry")
        call.close()

    def _falls_back_on(self, route: RouteRuntime, arm: Arm, call: ArmCall) -> bool:
        """A model that is overloaded, or a student whose context is too small, has failed before its first byte."""
        if call.succeeded or not self._may_fall_back(route, arm):
            return False
        too_long = call.reply.status == 400 and any(code in call.reply.body for code in FALL_BACK_CODES)
        return call.reply.status == 429 or (too_long and arm == "student")

    def _may_fall_back(self, route: RouteRuntime, arm: Arm) -> bool:
        if self._trace.target.arm is not None:
            return False
        fallback = route.config.fallback
        return (fallback.student if arm == "student" else fallback.teacher) != "error"


def sampled(rate: float) -> bool:
    """One uniform draw."""
    return rate > 0 and random.random() < rate


def _certain(arm: Arm, reason: str) -> Decision:
    return Decision(arm, reason, 1.0 if arm == "teacher" else 0.0)


def _other(arm: Arm) -> Arm:
    return "student" if arm == "teacher" else "teacher"


def _is_failure(error: RouterError) -> bool:
    """Whether the model failed (and another may do better), as opposed to the request being at fault."""
    return isinstance(error, UpstreamFailed | TooManyRequests)
