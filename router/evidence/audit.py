"""The audit: for a request that was drawn, ask the other arm in the background, compare, and keep the pair.

Never on the request path: `submit` starts a task or sheds, and both are counted. A call that fails is a pair too.
"""

from __future__ import annotations

import asyncio
import logging

from policies.base import Arm
from router.arm import ArmCall, open_arm
from router.errors import BadRequest, BudgetSpent, RouterError, TooManyRequests
from router.evidence.compare.base import Answer, Verdict
from router.evidence.compare.registry import compare
from router.evidence.records import ArmAnswer, PairRecord, arm_answer, split_of, verdict_record
from router.evidence.writer import AGREEMENTS, DISAGREEMENTS, EvidenceWriter
from router.exchange import Trace
from router.ledger.bill import Bill
from router.ledger.ledger import Ledger
from router.ledger.pricing import NANO_PER_USD
from router.record.metrics import Metrics
from router.record.recorder import Recorder
from router.runtime import RouteRuntime
from router.upstream.model import Attempts, Leash, ModelClient
from router.upstream.transport import TransportError

log = logging.getLogger("distill_router.audit")

SCORE_TOKENS = 64


class Shed(Exception):
    """The pair was not looked at; `result` says why."""

    def __init__(self, result: str) -> None:
        super().__init__(result)
        self.result = result


class Auditor:
    """One per process; tasks are bounded per route by `audit.max_in_flight`."""

    def __init__(
        self, writer: EvidenceWriter, recorder: Recorder, metrics: Metrics, ledger: Ledger, pair_max_bytes: int
    ) -> None:
        self._pair_max_bytes = pair_max_bytes
        self._ledger = ledger
        self._writer = writer
        self._recorder = recorder
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: dict[str, int] = {}

    def submit(self, trace: Trace) -> None:
        """Audit a finished request that was drawn. What cannot become a pair is counted with its reason."""
        route = trace.route
        if not trace.audited or route is None:
            return
        problem = self._problem(trace, route)
        if problem:
            self._count(route, problem)
            return
        self._running[route.name] = self._running.get(route.name, 0) + 1
        task = asyncio.create_task(self._run(trace, route), name=f"audit {trace.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _problem(self, trace: Trace, route: RouteRuntime) -> str | None:
        """Why a drawn request cannot be compared.

        A request that never could go to the student says nothing about it; one that was cut off has no whole answer.
        """
        if trace.misfit:
            return "misfit"
        if trace.arm is None or trace.outcome != "ok":
            return trace.outcome
        if trace.fell_back and trace.reason != "fallback:student":
            return "fell_back"
        return "shed" if self._running.get(route.name, 0) >= route.config.audit.max_in_flight else None

    def _count(self, route: RouteRuntime, result: str) -> None:
        self._metrics.audits.labels(route.name, result).inc()

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
        await asyncio.gather(*late, return_exceptions=True)

    async def _run(self, trace: Trace, route: RouteRuntime) -> None:
        try:
            await self._audit(trace, route)
        except Shed as shed:
            self._count(route, shed.result)
        except asyncio.CancelledError:
            self._count(route, "shutdown")
            raise
        except Exception:  # the edge of a background task
            log.exception("audit %s failed", trace.id)
            self._count(route, "error")
        finally:
            self._running[route.name] -= 1

    async def _audit(self, trace: Trace, route: RouteRuntime) -> None:
        assert trace.arm is not None and trace.served is not None
        served = _served(trace, trace.served)
        if trace.failure is not None:  # the student was asked and failed: that is its answer
            teacher, student = served, arm_answer(route.student.name, Answer.failed(trace.failure), None, None)
        elif trace.arm == "teacher":
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
        except (TooManyRequests, BadRequest):  # no place, or it cannot be said in chat: no fault of the model
            raise Shed("shed") from None
        except BudgetSpent as spent:
            self._ledger.exhausted(spent.budget, "shed")
            raise Shed("budget") from None
        except (RouterError, TransportError, TimeoutError) as error:
            text = str(error) or f"no answer within {route.config.audit.timeout_s:g} s"
            return arm_answer(model.name, Answer.failed(text), bill.charges[-1] if bill.charges else None, None)
        finally:
            self._settle(trace, route, bill)

    async def _call(self, trace: Trace, model: ModelClient, bill: Bill, scored: bool) -> ArmAnswer:
        headers = b"x-request-id: %b-shadow\r\n" % trace.id.encode()
        assert trace.route is not None
        purse = self._ledger.purse(trace.request.caller, trace.route.name, background=True)
        leash = Leash(background=True)
        call = await open_arm(trace.request, model, bill, headers, leash, Attempts(), purse, scored=scored)
        call.settle("shadow")
        call.close()
        if not call.succeeded:
            return arm_answer(model.name, Answer.failed(f"status {call.reply.status}"), call.charge, None)
        return arm_answer(model.name, call.answer(), call.charge, call.score(SCORE_TOKENS) if scored else None)

    def _settle(self, trace: Trace, route: RouteRuntime, bill: Bill) -> None:
        tenant = trace.request.caller.tenant
        for charge in bill.charges:
            charge.origin = "shadow"
            self._recorder.charge(route.name, tenant, charge)
        if bill.charges:
            self._recorder.shadow(trace, bill)

    async def _keep(self, trace: Trace, route: RouteRuntime, teacher: ArmAnswer, student: ArmAnswer) -> None:
        request = {name: trace.request.value(name) for name in trace.request.fields}
        verdict = await asyncio.to_thread(  # long answers take milliseconds
            compare, request, _answer(teacher), _answer(student), route.config.audit.comparator
        )
        self._metrics.comparisons.labels(route.name, _label(verdict, teacher)).inc()
        if not verdict.same and teacher.error is None:
            self._metrics.disagreements.labels(route.name, verdict.kind).inc()
        self._compare_costs(trace, route, teacher)
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
            prices={model.name: model.prices_at(trace.wall).usd_per_mtok() for model in (route.teacher, route.student)},
            training_use=route.teacher.config.training_use,
            split=split_of(trace.request.conversation()),
        )
        data = record.model_dump_json().encode()
        if len(data) > self._pair_max_bytes:
            self._count(route, "too_large")
            return
        self._count(route, "pair")
        agrees = verdict.same or teacher.error is not None
        self._writer.put(AGREEMENTS if agrees else DISAGREEMENTS, data)

    def _compare_costs(self, trace: Trace, route: RouteRuntime, teacher: ArmAnswer) -> None:
        """Where the student served: what the teacher cost, beside what the student's usage costs at its prices.

        The ratio of the two sums corrects the teacher-only estimate, which takes the student's usage for the teacher's.
        """
        served = trace.served
        if trace.arm != "student" or served is None or teacher.error is not None or teacher.estimated:
            return
        estimate = route.teacher.prices_at(trace.wall).cost(served.charge.usage)
        self._metrics.pair_teacher_cost.labels(route.name).inc(teacher.cost_nano_usd / NANO_PER_USD)
        self._metrics.pair_teacher_estimate.labels(route.name).inc(estimate / NANO_PER_USD)


def _label(verdict: Verdict, teacher: ArmAnswer) -> str:
    """A teacher that failed says nothing about the student."""
    if teacher.error is not None:
        return "teacher_failed"
    return "agree" if verdict.same else "disagree"


def _served(trace: Trace, call: ArmCall) -> ArmAnswer:
    score = call.score(SCORE_TOKENS) if trace.arm == "student" else None
    return arm_answer(call.model.name, call.answer(), call.charge, score)


def _escalated(trace: Trace) -> ArmAnswer | None:
    """The student's answer that the gate refused, if it was read to its end."""
    call = trace.escalated
    if call is None or not (call.completed or call.reader.done):
        return None
    return arm_answer(call.model.name, call.answer(), call.charge, call.score(SCORE_TOKENS))


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
