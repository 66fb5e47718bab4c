"""One request from its decision to the arm that answers it: guards, policy, gate, fallback.

`Exchange.answer` returns the call whose answer the client gets, with nothing sent yet: every fallback and escalation
happens here, before the first byte. Delivery is `router.deliver`, the written trace `router.record`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from policies.base import Arm, Decision, Gate, GateNeeds, Policy
from policies.gate.answer import StudentAnswer
from router.arm import ArmCall, open_arm
from router.complaints import POLICY_ERROR
from router.control.live import LiveRoute
from router.errors import BudgetSpent, RouterError, TooManyRequests, UpstreamFailed
from router.evidence.records import Sample
from router.gate.asker import Asker
from router.gate.inquiry import Inquiry
from router.gate.seen import can_tell, worst
from router.ledger.bill import Bill
from router.ledger.purse import Purse
from router.request import ClientRequest
from router.runtime import RouteRuntime, Target
from router.upstream.model import Attempts, Leash, ModelClient
from router.upstream.transport import Aborted, TransportError
from router.wire.body import translates

Outcome = Literal["ok", "cancelled", "interrupted", "rejected", "failed"]

FALL_BACK_MARKS = (b'"context_length_exceeded"', b"maximum context length")  # OpenAI, vLLM


@dataclass(slots=True)
class Trace:
    """What happened to one request, collected on the way for metrics, headers, the decision row and the audit.

    `loss`, `novelty`: of the estimator; `threshold`: what the loss, or a gate's `p_wrong`, was held against.
    `scored_by`: version of what gave the loss, and of the models it is about.
    `broken`: the model broke off in the middle of its answer. `no_store`: nothing of it may be kept or compared;
    `excluded`: why it counts for no estimate. `sample`: why its answers are compared, None: they are not;
    `audit_probability` of the uniform draw, `probability` of any.
    """

    id: str
    request: ClientRequest
    target: Target
    started: float = field(default_factory=time.perf_counter)
    wall: float = field(default_factory=time.time)
    bill: Bill = field(default_factory=Bill)
    attempts: Attempts = field(default_factory=Attempts)
    guards: list[str] = field(default_factory=list)
    misfit: str | None = None
    failure: str | None = None
    decision: Decision | None = None
    reason: str = ""
    arm: Arm | None = None
    model: ModelClient | None = None
    teacher_probability: float = 0.0
    score: float | None = None
    p_wrong: float | None = None
    loss: float | None = None
    novelty: float | None = None
    threshold: float | None = None
    switch_cost_usd: float | None = None
    policy_version: str = ""
    scored_by: str = ""
    escalated: ArmCall | None = None
    served: ArmCall | None = None
    no_store: bool = False
    excluded: str | None = None
    broken: bool = False
    audit_probability: float = 0.0
    probability: float = 0.0
    sample: Sample | None = None
    fell_back: bool = False
    outcome: Outcome = "failed"
    status: int = 0
    decided_s: float = 0.0
    upstream_s: float = 0.0
    first_byte_s: float | None = None
    total_s: float = 0.0

    @property
    def route(self) -> RouteRuntime | None:
        return self.target.route

    @property
    def student_broke(self) -> bool:
        """Whether the client got an error, or half an answer, because the student failed."""
        return self.route is not None and self.model is self.route.student and (self.broken or self.outcome == "failed")


class Judgement(NamedTuple):
    """What a gate says of the student's answer."""

    escalates: bool
    reason: str


ACCEPTED = Judgement(False, "cascade")


class Exchange:
    """Finds the answer for one request. `headers`: what goes upstream beside the model's own headers; `purse`: the
    budgets that pay for it."""

    def __init__(self, trace: Trace, headers: bytes, leash: Leash, purse: Purse) -> None:
        self._trace = trace
        self._headers = headers
        self._leash = leash
        self._purse = purse
        self._request = trace.request
        self._calls: list[ArmCall] = []

    async def answer(self) -> ArmCall:
        """The call that answers the client. Raises RouterError, or Aborted when the client hung up."""
        try:
            return await self._answer()
        except BudgetSpent as spent:
            self._note_spent(spent, "refuse")
            raise

    async def _answer(self) -> ArmCall:
        trace = self._trace
        route = trace.route
        if route is None:
            assert trace.target.model is not None
            trace.decision = Decision("teacher", "model", 1.0)
            return self._serve(None, "model", await self._open(trace.target.model))
        decision = trace.decision = await self._decide(route)
        trace.decided_s = time.perf_counter() - trace.started
        trace.teacher_probability = decision.teacher_probability
        if decision.gate and decision.arm == "student":
            return await self._cascade(route, decision.gate)
        return await self._with_fallback(route, decision.arm, decision.reason)

    def close(self) -> None:
        """Give up every call that is still open, whatever the way out was: nothing stays in flight or unpaid."""
        for call in self._calls:
            call.settle("cancelled" if self._trace.outcome == "cancelled" else "retry")
            call.close()

    def _live(self, route: RouteRuntime) -> LiveRoute:
        return route.plain if self._trace.target.forced else route.live

    async def _decide(self, route: RouteRuntime) -> Decision:
        """Guards in their order, then the policy."""
        trace = self._trace
        trace.misfit = self._misfit(route)
        if trace.misfit:
            trace.guards.append(trace.misfit)
        if trace.target.arm is not None:
            return _certain(trace.target.arm, "forced")
        if route.config.mode == "observe" and not trace.target.forced:
            return _certain("teacher", "observe")
        if trace.misfit:
            return _certain("teacher", f"guard:{trace.misfit}")
        assert trace.target.policy is not None
        trace.policy_version, trace.scored_by = trace.target.policy.version, route.live.version
        decision = await self._decided(route, trace.target.policy)
        trace.threshold, trace.switch_cost_usd = decision.threshold, decision.switch_cost_usd
        if decision.score is not None:
            trace.loss, trace.novelty = decision.score.loss, decision.score.novelty
        other = _other(decision.arm)
        if not route.model(decision.arm).available and self._may_fall_back(route, decision.arm):
            trace.guards.append(f"down:{decision.arm}")
            trace.fell_back = True
            return _certain(other, f"down:{decision.arm}")
        return decision

    async def _decided(self, route: RouteRuntime, policy: Policy) -> Decision:
        """What the policy says; the teacher where it fails. Raises RouterError for a request that cannot be read."""
        try:
            return await policy.decide(self._request, self._live(route))
        except RouterError:
            raise
        except Exception:  # whatever a policy does, the client gets an answer
            self._complain(route)
            return _certain("teacher", POLICY_ERROR)

    def _complain(self, route: RouteRuntime) -> None:
        self._trace.guards.append(POLICY_ERROR)
        route.complaints.tell(route.name)

    def _misfit(self, route: RouteRuntime) -> str | None:
        """Why the student cannot be asked: its abilities and limits; a Responses request that chat cannot say."""
        misfit = route.student.fit.misfit(self._request)
        if misfit is None and self._request.endpoint == "responses" and "responses" in route.teacher.supports:
            return None if translates(self._request) else "responses"
        return misfit

    async def _with_fallback(self, route: RouteRuntime, arm: Arm, reason: str) -> ArmCall:
        """`arm`, or the other one when it fails before its first byte and the route says so."""
        try:
            call = await self._open(route.model(arm))
        except BudgetSpent as spent:
            if arm == "student" or not self._student_may_answer(spent):
                raise
            return await self._student_instead(route, spent)
        except RouterError as error:
            if not _is_failure(error) or not self._may_fall_back(route, arm):
                raise
            return await self._fall_back(route, arm, error)
        if not self._falls_back_on(route, arm, call):
            return self._serve(arm, reason, call)
        self._discard(call)
        return await self._fall_back(route, arm, None)

    async def _student_instead(self, route: RouteRuntime, spent: BudgetSpent) -> ArmCall:
        """The teacher's budget is spent: the student answers whatever happens, for nobody else may."""
        self._note_spent(spent, "student")
        self._trace.teacher_probability = 0.0
        return self._serve("student", f"budget:{spent.budget}", await self._open(route.student))

    def _student_may_answer(self, spent: BudgetSpent) -> bool:
        """Not in place of a teacher that the client insisted on, nor where the request does not fit it."""
        return spent.student and self._trace.target.arm is None and self._trace.misfit is None

    def _note_spent(self, spent: BudgetSpent, action: str) -> None:
        self._trace.guards.append(f"budget:{spent.budget}")
        self._purse.exhausted(spent.budget, action)

    async def _fall_back(self, route: RouteRuntime, arm: Arm, error: RouterError | None) -> ArmCall:
        self._trace.fell_back = True
        self._trace.failure = error.message if error else "overloaded, or the request is too long for it"
        other = _other(arm)
        try:
            return self._serve(other, f"fallback:{arm}", await self._open(route.model(other)))
        except RouterError as second:
            if error is None or not isinstance(second, UpstreamFailed):
                raise
            raise type(second)(f"{error.message}; then {second.message}", retry_after_s=second.retry_after_s) from error

    async def _cascade(self, route: RouteRuntime, gate: Gate) -> ArmCall:
        """The student answers; the gate accepts, or the teacher is asked."""
        judgement = ACCEPTED
        try:
            async with self._inquiry(route, gate) as inquiry:
                student = await self._open(route.student, gate=gate.needs, paid=inquiry.begin)
                if student.succeeded:
                    judgement = await self._judge(route, student, gate, inquiry)
        except RouterError as error:
            if not _is_failure(error) or not self._may_fall_back(route, "student"):
                raise
            return await self._fall_back(route, "student", error)
        if self._falls_back_on(route, "student", student):
            self._discard(student)
            return await self._fall_back(route, "student", None)
        self._trace.teacher_probability = float(judgement.escalates)
        if not judgement.escalates:
            return self._serve("student", judgement.reason, student)
        return await self._escalate(route, student, judgement.reason)

    def _inquiry(self, route: RouteRuntime, gate: Gate) -> Inquiry:
        runtime = self._trace.target.runtime
        assert runtime is not None
        asker = Asker(self._trace.bill, self._request.caller, self._headers, self._purse)
        return Inquiry(self._request, runtime, route, gate, asker, self._leash)

    async def _judge(self, route: RouteRuntime, student: ArmCall, gate: Gate, inquiry: Inquiry) -> Judgement:
        """Whether the answer goes to the teacher. Raises RouterError where the student broke down, or Aborted."""
        started = time.perf_counter()
        try:
            await self._hold(student, gate)
            answers = await inquiry.answers(student)
        except Aborted:
            raise
        except (RouterError, TransportError) as error:
            self._discard(student)
            raise student.failure(error) from error
        finally:
            self._trace.upstream_s += time.perf_counter() - started
        self._trace.guards += inquiry.notes
        try:
            return self._judged(route, gate, answers)
        except RouterError:
            raise
        except Exception:  # whatever a gate does, too
            self._complain(route)
            return Judgement(True, f"escalated:{POLICY_ERROR}")

    async def _hold(self, student: ArmCall, gate: Gate) -> None:
        """Keep a stream back until the gate can tell: enough of it is there, or the answer is complete."""
        if student.completed:
            return
        while (batch := await student.read()) is not None:
            student.held.append(batch)
            if can_tell(student, gate.needs, self._request.choices):
                return

    def _judged(self, route: RouteRuntime, gate: Gate, answers: list[StudentAnswer]) -> Judgement:
        """By the worst of the choices. What shows nothing to judge it by goes to the teacher."""
        trace = self._trace
        means = [answer.signals.mean for answer in answers if answer.signals]
        trace.score = min(means) if means and len(means) == len(answers) else None
        if trace.score is None and gate.needs.tokens:
            trace.guards.append("no_logprobs")
        score = worst(gate, self._request, route.name, answers)
        if score is None:
            return Judgement(True, "escalated")
        trace.p_wrong = trace.loss = score.loss
        trace.novelty = score.novelty
        if not all(passed for answer in answers for passed in answer.checks.values()):
            return Judgement(True, "escalated:check")
        live = self._live(route)
        if live.floor is not None and trace.scored_by != live.version:  # a floor of others, promoted in the meantime
            trace.threshold = 0.0
            return Judgement(True, "escalated:floor")
        choice = gate.choose(score.loss, live, live.teacher_cost_usd(self._request))
        trace.threshold = choice.threshold
        escalates = choice.arm == "teacher"
        by = "escalated" if escalates else "cascade"
        return Judgement(escalates, by if choice.reason == "threshold" else f"{by}:{choice.reason}")

    async def _escalate(self, route: RouteRuntime, student: ArmCall, reason: str) -> ArmCall:
        """Ask the teacher; where it fails and the route allows it, the student's answer is still there."""
        trace = self._trace
        keeps_student = route.config.fallback.teacher == "student"
        paid = None if keeps_student else lambda: self._give_up(student)
        kept = student.whole and trace.excluded is None and route.config.audit.targeted.escalations > 0
        try:
            teacher = await self._open(route.teacher, kept=kept, paid=paid)
        except BudgetSpent as spent:
            if not self._student_may_answer(spent):
                self._give_up(student)
                raise
            self._note_spent(spent, "student")
            trace.teacher_probability = 0.0
            return self._serve("student", f"budget:{spent.budget}", student)
        except RouterError as error:
            if not keeps_student or not _is_failure(error):
                raise
            trace.fell_back = True
            return self._serve("student", "fallback:teacher", student)
        if self._falls_back_on(route, "teacher", teacher):
            self._discard(teacher)
            trace.fell_back = True
            return self._serve("student", "fallback:teacher", student)
        self._give_up(student)
        return self._serve("teacher", reason, teacher)

    def _give_up(self, student: ArmCall) -> None:
        """The student's tokens, and what the gate asked, were for nothing: they are the price of the escalation."""
        trace = self._trace
        if trace.escalated is None:
            trace.escalated = student
            student.settle("escalation")
            student.close()
            for charge in trace.bill.charges:
                if charge.origin == "gate":
                    charge.origin = "escalation"

    async def _open(
        self,
        model: ModelClient,
        *,
        gate: GateNeeds | None = None,
        kept: bool = False,
        paid: Callable[[], None] | None = None,
    ) -> ArmCall:
        """`gate`: it reads the stream; otherwise its first piece is read here. `kept`: the answer may be compared
        later. `paid`: called once the budgets have reserved what the call may cost.

        An audited student is scored too, but not where that would make a native Responses request go in chat: an audit
        must not change what the client gets.
        """
        trace = self._trace
        trace.model = model
        native = self._request.endpoint == "responses" and "responses" in model.supports
        audited = trace.sample is not None
        audit_score = audited and model is self._student() and "logprobs" in model.supports
        reads_tokens = gate is not None and gate.tokens > 0
        scored = reads_tokens or (audit_score and not native)
        started = time.perf_counter()
        try:
            call = await open_arm(
                self._request,
                model,
                trace.bill,
                self._headers,
                self._leash,
                trace.attempts,
                self._purse,
                scored=scored,
                entropies=audit_score or (gate is not None and gate.entropies),
                assemble=audited or scored or kept or gate is not None,
                paid=paid,
            )
            self._calls.append(call)
            if call.reply.streams and gate is None:
                await self._prime(call)
            return call
        finally:
            trace.upstream_s += time.perf_counter() - started

    def _student(self) -> ModelClient | None:
        return self._trace.route.student if self._trace.route else None

    async def _prime(self, call: ArmCall) -> None:
        """Read a stream's first event: an error that it brings is still before the client's first byte.

        Comments before it are dropped, because they would start the answer.
        """
        try:
            while (batch := await call.read()) is not None:
                if any(event.data for event, _ in batch):
                    call.held.append(batch)
                    return
        except Aborted:
            raise
        except (RouterError, TransportError) as error:
            self._discard(call)
            raise call.failure(error) from error

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
        too_long = call.reply.status == 400 and any(mark in call.reply.body for mark in FALL_BACK_MARKS)
        return call.reply.status == 429 or (too_long and arm == "student")

    def _may_fall_back(self, route: RouteRuntime, arm: Arm) -> bool:
        """As configured; never away from what the client insisted on, nor to a student that it does not fit."""
        if self._trace.target.arm is not None:
            return False
        if arm == "student":
            return route.config.fallback.student != "error"
        return route.config.fallback.teacher != "error" and self._trace.misfit is None


def _certain(arm: Arm, reason: str) -> Decision:
    return Decision(arm, reason, 1.0 if arm == "teacher" else 0.0)


def _other(arm: Arm) -> Arm:
    return "student" if arm == "teacher" else "teacher"


def _is_failure(error: RouterError) -> bool:
    """Whether the model failed (and another may do better), as opposed to the request being at fault."""
    return isinstance(error, UpstreamFailed | TooManyRequests)
