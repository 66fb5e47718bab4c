"""The audit: for a request that was drawn, ask the other arm in the background, compare, and keep the pair.

Never on the request path: `submit` starts a task or sheds, and both are counted. A call that fails is a pair too.
"""

from __future__ import annotations

import asyncio
import logging

from policies.base import Arm
from router.arm import ArmCall, open_arm
from router.errors import RouterError, TooManyRequests
from router.evidence.compare.base import Answer, Verdict
from router.evidence.compare.registry import compare
from router.evidence.records import ArmAnswer, PairRecord, arm_answer, split_of, verdict_record
from router.evidence.writer import AGREEMENTS, DECISIONS, DISAGREEMENTS, EvidenceWriter
from router.exchange import Trace
from router.ledger.bill import Bill, Charge
from router.record.metrics import Metrics
from router.record.recorder import Recorder, shadow_row
from router.runtime import RouteRuntime
from router.upstream.model import Attempts, Leash, ModelClient
from router.upstream.transport import TransportError

log = logging.getLogger("distill_router.audit")

SCORE_TOKENS = 64


class Shed(Exception):
    """The pair was not looked at because the gateway is busy."""


class Auditor:
    """One per process; tasks are bounded per route by `audit.max_in_flight`."""

    def __init__(self, writer: EvidenceWriter, recorder: Recorder, metrics: Metrics) -> None:
        self._writer = writer
        self._recorder = recorder
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: dict[str, int] = {}

    def submit(self, trace: Trace) -> None:
        """Audit a finished request, unless it was not drawn or has no whole answer of one arm."""
        route = trace.route
        if not trace.audited or route is None or trace.arm is None or trace.outcome != "ok" or trace.fell_back:
            return
        if self._running.get(route.name, 0) >= route.config.audit.max_in_flight:
            self._metrics.records_dropped.labels("audit_shed").inc()
            return
        self._running[route.name] = self._running.get(route.name, 0) + 1
        task = asyncio.create_task(self._run(trace, route), name=f"audit {trace.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def idle(self) -> None:
        """Wait until every audit that was begun has ended."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def close(self, timeout_s: float) -> None:
        """Let running audits finish for a while, then cancel and count them."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(set(self._tasks), timeout=timeout_s)
        for task in late:
            task.cancel()
            self._metrics.records_dropped.labels("audit_shutdown").inc()
        await asyncio.gather(*late, return_exceptions=True)

    async def _run(self, trace: Trace, route: RouteRuntime) -> None:
        try:
            await self._audit(trace, route)
        except Shed:
            self._metrics.records_dropped.labels("audit_shed").inc()
        except Exception:  # the edge of a background task
            log.exception("audit %s failed", trace.id)
            self._metrics.records_dropped.labels("audit_error").inc()
        finally:
            self._running[route.name] -= 1

    async def _audit(self, trace: Trace, route: RouteRuntime) -> None:
        assert trace.arm is not None and trace.served is not None
        served = _served(trace, trace.served)
        if trace.arm == "teacher":
            teacher, student = served, _escalated(trace) or await self._ask(trace, route, "student")
        else:
            teacher, student = await self._ask(trace, route, "teacher"), served
        await self._keep(trace, route, teacher, student)

    async def _ask(self, trace: Trace, route: RouteRuntime, arm: Arm) -> ArmAnswer:
        """The other arm's answer; its cost is recorded whatever happens. Raises Shed when the model has no place."""
        model, bill = route.model(arm), Bill()
        try:
            async with asyncio.timeout(route.config.audit.timeout_s):
                return await self._call(trace, model, bill, scored=arm == "student" and "logprobs" in model.supports)
        except TooManyRequests:
            raise Shed from None
        except (RouterError, TransportError, TimeoutError) as error:
            text = str(error) or f"no answer within {route.config.audit.timeout_s:g} s"
            return arm_answer(model.name, Answer.failed(text), bill.charges[-1] if bill.charges else None, None)
        finally:
            self._settle(trace, route, bill)

    async def _call(self, trace: Trace, model: ModelClient, bill: Bill, scored: bool) -> ArmAnswer:
        headers = b"x-request-id: %b-shadow\r\n" % trace.id.encode()
        call = await open_arm(trace.request, model, bill, headers, Leash(), Attempts(), scored=scored, background=True)
        call.settle("shadow")
        call.close()
        if not call.succeeded:
            return arm_answer(model.name, Answer.failed(f"status {call.reply.status}"), bill.charges[-1], None)
        return arm_answer(model.name, call.answer(), bill.charges[-1], call.score(SCORE_TOKENS) if scored else None)

    def _settle(self, trace: Trace, route: RouteRuntime, bill: Bill) -> None:
        tenant = trace.request.caller.tenant
        for charge in bill.charges:
            charge.origin = "shadow"
            self._recorder.charge(route.name, tenant, charge)
            self._writer.put(DECISIONS, shadow_row(trace, charge))

    async def _keep(self, trace: Trace, route: RouteRuntime, teacher: ArmAnswer, student: ArmAnswer) -> None:
        request = {name: trace.request.value(name) for name in trace.request.fields}
        verdict = await asyncio.to_thread(  # long answers take milliseconds
            compare, request, _answer(teacher), _answer(student), route.config.audit.comparator
        )
        self._metrics.comparisons.labels(route.name, _label(verdict, teacher)).inc()
        if not verdict.same and teacher.error is None:
            self._metrics.disagreements.labels(route.name, verdict.kind).inc()
        policy = trace.target.policy
        assert trace.arm is not None
        record = PairRecord(
            id=trace.id,
            time=trace.wall,
            endpoint=trace.request.endpoint,
            route=route.name,
            tenant=trace.request.caller.tenant,
            policy=policy.kind if policy else "",
            policy_version=policy.version if policy else "",
            reason=trace.reason,
            served=trace.arm,
            teacher_probability=trace.teacher_probability,
            audit_probability=trace.audit_probability,
            request=request,
            teacher=teacher,
            student=student,
            verdict=verdict_record(verdict),
            prices={model.name: model.config.price for model in (route.teacher, route.student)},
            training_use=route.teacher.config.training_use,
            split=split_of(trace.request.conversation()),
        )
        agrees = verdict.same or teacher.error is not None
        self._writer.put(AGREEMENTS if agrees else DISAGREEMENTS, record.model_dump_json().encode())


def _label(verdict: Verdict, teacher: ArmAnswer) -> str:
    """A teacher that failed says nothing about the student."""
    if teacher.error is not None:
        return "teacher_failed"
    return "agree" if verdict.same else "disagree"


def _served(trace: Trace, call: ArmCall) -> ArmAnswer:
    score = trace.score if trace.arm == "student" else None
    if trace.arm == "student" and score is None:
        score = call.score(SCORE_TOKENS)
    return arm_answer(call.model.name, call.answer(), _charge_of(trace, call), score)


def _escalated(trace: Trace) -> ArmAnswer | None:
    """The student's answer that the gate refused, if it was read to its end."""
    call = trace.escalated
    if call is None or not (call.completed or call.reader.done):
        return None
    return arm_answer(call.model.name, call.answer(), _charge_of(trace, call), trace.score)


def _charge_of(trace: Trace, call: ArmCall) -> Charge | None:
    return next((charge for charge in reversed(trace.bill.charges) if charge.model == call.model.name), None)


def _answer(record: ArmAnswer) -> Answer:
    choice = {
        "message": {
            "content": record.text,
            "refusal": record.refusal,
            "tool_calls": [{"type": "function", "function": call} for call in record.tool_calls],
        },
        "finish_reason": record.finish_reason,
    }
    return Answer.failed(record.error) if record.error is not None else Answer.from_choice(choice)
