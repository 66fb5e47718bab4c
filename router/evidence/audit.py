"""The audit: for a request that was drawn, get the other arm's answer in the background, compare, and keep the pair.

Never on the request path: `submit` starts a task or counts why not. A call that fails is a pair too.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass
from typing import Any

from router.control import feed
from router.evidence.answers import failed_answer, recorded_answer
from router.evidence.compare.base import Answer, Services
from router.evidence.records import (
    ArmAnswer,
    PairRecord,
    Triage,
    VerdictRecord,
    split_of,
    users_of,
    verdict_record,
)
from router.evidence.retention import LiveRetention
from router.evidence.sample import Sampler
from router.evidence.shadow import Shadow, Unasked
from router.evidence.streams import AGREEMENTS, DISAGREEMENTS
from router.evidence.triage import UNDECIDED, triage
from router.evidence.writer import EvidenceWriter
from router.exchange import Trace
from router.ledger.ledger import Ledger
from router.ledger.pricing import NANO_PER_USD
from router.prompt import PROMPT_FIELD
from router.record.metrics import Metrics
from router.record.recorder import Recorder
from router.runtime import RouteRuntime

log = logging.getLogger("distill_router.audit")

TELL_EVERY_S = 60.0


class Auditor:
    """One per process; tasks are bounded per route by `audit.max_in_flight`, and fewer are drawn before that."""

    def __init__(
        self,
        writer: EvidenceWriter,
        recorder: Recorder,
        metrics: Metrics,
        ledger: Ledger,
        retention: LiveRetention,
        pair_max_bytes: int,
    ) -> None:
        self._pair_max_bytes = pair_max_bytes
        self._ledger = ledger
        self._writer = writer
        self._recorder = recorder
        self._metrics = metrics
        self._retention = retention
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: dict[str, int] = {}
        self._tell_at = 0.0
        self.sampler = Sampler(self._load)

    def submit(self, trace: Trace) -> None:
        """Count an answered request, and compare it if it was drawn. What cannot become a pair is counted too."""
        route = trace.route
        if route is None:
            return
        if trace.excluded is None and trace.student_broke:
            self._retention.broke(trace, route)
            feed.compared(trace, route, None, 1.0)
            return
        if trace.excluded is not None or trace.outcome != "ok" or trace.arm is None:
            self._retention.excluded(trace, route, trace.excluded or trace.outcome)
            if trace.sample is not None:
                self._count(trace, route, trace.outcome)
            return
        noise = trace.sample is not None and random.random() < route.config.audit.second_draw
        self._retention.answered(trace, route, noise_drawn=noise)
        if trace.sample is None:
            return
        if trace.misfit:  # it never could go to the student, and says nothing about it
            self._count(trace, route, "misfit")
            return
        if self._load(route) >= 1:  # drawn before its answer, when there was a place; it stays without a result
            self._count(trace, route, "full")
            return
        self._running[route.name] = self._running.get(route.name, 0) + 1
        task = asyncio.create_task(self._run(trace, route, noise), name=f"audit {trace.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _load(self, route: RouteRuntime) -> float:
        return self._running.get(route.name, 0) / route.config.audit.max_in_flight

    def _count(self, trace: Trace, route: RouteRuntime, result: str) -> None:
        self._metrics.audits.labels(route.name, trace.sample, result).inc()

    async def idle(self) -> None:
        """Wait until every audit that was begun has ended."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def close(self, timeout_s: float) -> None:
        """Let running audits finish for a while, then cancel and count them."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(set(self._tasks), timeout=timeout_s)
        if late:
            log.warning("%d audits were cut short by the end of the gateway", len(late))
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _run(self, trace: Trace, route: RouteRuntime, noise: bool) -> None:
        shadow = Shadow(trace, route, self._ledger, self._recorder, self.sampler.pause)
        try:
            self._count(trace, route, await self._audit(trace, route, shadow, noise))
        except asyncio.CancelledError:
            self._count(trace, route, "shutdown")
            raise
        except Exception:  # the edge of a background task
            log.exception("audit %s failed", trace.id)
            self._count(trace, route, "error")
        finally:
            shadow.close()
            self._running[route.name] -= 1

    async def _audit(self, trace: Trace, route: RouteRuntime, shadow: Shadow, noise: bool) -> str:
        """What came of it: "pair", "too_large" to keep, or why the other arm was not asked."""
        try:
            teacher, student = await self._answers(trace, route, shadow)
        except Unasked as unasked:
            self._retention.compared(trace, route, None)
            if noise:
                self._retention.redrawn(trace, route, None)
            return unasked.result
        comparison = Comparison(trace, route, shadow, with_prompt=not self._is_large(trace))
        pair = Compared(teacher, student, await comparison.of(teacher, student))
        self._judged(trace, pair.verdict, shadow)
        try:
            await self._ask_again(pair, comparison, route, shadow, noise)
        finally:  # also where it was cut short: what is known is kept
            result = self._keep(trace, route, pair, comparison.request, noise, shadow)
        return result

    async def _ask_again(
        self, pair: Compared, comparison: Comparison, route: RouteRuntime, shadow: Shadow, noise: bool
    ) -> None:
        """The teacher's second draw, where one was drawn or only that could tell whose mistake it was."""
        unclear = _unclear(triage(pair.verdict, pair.teacher, pair.student))
        wanted = noise or (unclear and random.random() < route.config.audit.confirm)
        if pair.teacher.error is not None or not wanted:
            return
        try:
            second = await shadow.ask("teacher")
        except Unasked:  # the pair is kept without it
            return
        pair.second = second
        if second.error is None:
            pair.second_verdict = await comparison.of(pair.teacher, second)
            pair.second_student = await comparison.of(second, pair.student)

    def _is_large(self, trace: Trace) -> bool:
        return len(trace.request.body) > self._pair_max_bytes

    def _keep(
        self, trace: Trace, route: RouteRuntime, pair: Compared, request: dict[str, Any], noise: bool, shadow: Shadow
    ) -> str:
        """Count the comparison and write the pair, in one step; "pair", or "too_large"."""
        teacher, student, verdict = pair.teacher, pair.student, pair.verdict
        harm = _harm(verdict)
        self._retention.compared(trace, route, harm if teacher.error is None else None)
        if teacher.error is None:
            feed.compared(trace, route, student, harm, shadow.score)
        if noise:
            self._retention.redrawn(trace, route, _harm(pair.second_verdict))
        told = triage(verdict, teacher, student, pair.second_verdict, pair.second_student)
        self._show(trace, route, verdict, teacher, told)
        if self._is_large(trace):
            return "too_large"
        policy = trace.target.policy
        assert trace.arm is not None and trace.sample is not None
        record = PairRecord(
            id=trace.id,
            time=trace.wall,
            endpoint=trace.request.endpoint,
            route=route.name,
            tenant=trace.request.caller.tenant,
            key=trace.request.caller.name,
            users=users_of(request),
            stream=trace.request.stream,
            needs=sorted(trace.request.needs),
            policy=policy.kind if policy else "",
            policy_version=trace.policy_version or (policy.version if policy else ""),
            reason=trace.reason,
            served=trace.arm,
            teacher_probability=trace.teacher_probability,
            sample=trace.sample,
            audit_probability=trace.audit_probability,
            probability=trace.probability,
            teacher_version=route.teacher.version,
            student_version=route.student.version,
            request=request,
            teacher=teacher,
            student=student,
            verdict=verdict,
            second=pair.second,
            second_verdict=pair.second_verdict,
            second_student=pair.second_student,
            noise_probability=route.config.audit.second_draw if noise else 0.0,
            triage=told,
            prices={model.name: model.prices_at(trace.wall).usd_per_mtok() for model in (route.teacher, route.student)},
            training_use=route.teacher.config.training_use,
            split=split_of(trace.request.conversation()),
        )
        data = record.model_dump_json().encode()
        if len(data) > self._pair_max_bytes:
            return "too_large"
        agrees = verdict.same or teacher.error is not None
        self._writer.put(AGREEMENTS if agrees else DISAGREEMENTS, trace.id, data)
        return "pair"

    async def _answers(self, trace: Trace, route: RouteRuntime, shadow: Shadow) -> tuple[ArmAnswer, ArmAnswer]:
        """The teacher's answer and the student's, of which one at least is there."""
        assert trace.served is not None
        served = recorded_answer(trace.served)
        if trace.failure is not None and trace.arm == "teacher":  # the student was asked and failed: that is its answer
            return served, failed_answer(route.student.name, trace.failure)
        if trace.arm == "teacher":
            return served, _escalated(trace) or await shadow.ask("student")
        return await shadow.ask("teacher"), served

    def _judged(self, trace: Trace, verdict: VerdictRecord, shadow: Shadow) -> None:
        if verdict.kind == "comparator_failed":
            self._tell(trace, verdict)
        if shadow.asked_judge:
            failed = verdict.kind == "comparator_failed"
            result = "failed" if failed else "inconsistent" if verdict.kind == "ambiguous" else "verdict"
            self._metrics.judge_calls.labels(result).inc()

    def _tell(self, trace: Trace, verdict: VerdictRecord) -> None:
        """Why a comparator could not compare: once a minute, as every audit may say the same."""
        now = time.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + TELL_EVERY_S
            log.warning("comparator '%s' failed for %s: %s", verdict.comparator, trace.id, verdict.diff)

    def _show(
        self, trace: Trace, route: RouteRuntime, verdict: VerdictRecord, teacher: ArmAnswer, told: Triage | None
    ) -> None:
        self._metrics.comparisons.labels(route.name, _label(verdict, teacher)).inc()
        if not verdict.same and teacher.error is None:
            self._metrics.disagreements.labels(route.name, verdict.kind).inc()
        if told is not None:
            self._metrics.triage.labels(route.name, told.label).inc()
        self._compare_costs(trace, route, teacher)

    def _compare_costs(self, trace: Trace, route: RouteRuntime, teacher: ArmAnswer) -> None:
        """Where the student served: what the teacher cost, beside what the student's usage costs at its prices.

        The ratio of the two sums corrects the teacher-only estimate, which takes the student's usage for the teacher's:
        of the uniform sample, because targeted pairs are not like the rest.
        """
        served = trace.served
        if trace.arm != "student" or trace.sample != "audit" or served is None:
            return
        if teacher.error is not None or teacher.estimated:
            return
        estimate = route.teacher.prices_at(trace.wall).cost(served.charge.usage)
        self._metrics.pair_teacher_cost.labels(route.name).inc(teacher.cost_nano_usd / NANO_PER_USD)
        self._metrics.pair_teacher_estimate.labels(route.name).inc(estimate / NANO_PER_USD)


@dataclass(slots=True)
class Compared:
    """Both answers, the verdict, and what the teacher said when it was asked again."""

    teacher: ArmAnswer
    student: ArmAnswer
    verdict: VerdictRecord
    second: ArmAnswer | None = None
    second_verdict: VerdictRecord | None = None
    second_student: VerdictRecord | None = None


class Comparison:
    """The route's comparator, for the answers to one request; without its prompt where decoding that takes too long."""

    def __init__(self, trace: Trace, route: RouteRuntime, shadow: Shadow, *, with_prompt: bool) -> None:
        assert trace.target.runtime is not None
        left_out = () if with_prompt else (PROMPT_FIELD[trace.request.endpoint],)
        self.request = {name: trace.request.value(name) for name in trace.request.fields if name not in left_out}
        self._comparators = trace.target.runtime.comparators
        self._name = route.config.audit.comparator
        self._services = Services(shadow.judge, frozenset({route.teacher.name, route.student.name}))

    async def of(self, teacher: ArmAnswer, student: ArmAnswer) -> VerdictRecord:
        verdict = await self._comparators.compare(
            self._name, self.request, _answer(teacher), _answer(student), self._services
        )
        return verdict_record(verdict)


def _harm(verdict: VerdictRecord | None) -> float | None:
    """None where nobody knows."""
    return None if verdict is None or verdict.kind in UNDECIDED else float(verdict.harm)


def _unclear(told: Triage | None) -> bool:
    """Whether only a second draw could tell whose mistake it was."""
    return told is not None and told.basis == "none"


def _label(verdict: VerdictRecord, teacher: ArmAnswer) -> str:
    """A teacher that failed says nothing about the student."""
    if teacher.error is not None:
        return "teacher_failed"
    return "agree" if verdict.same else "disagree"


def _escalated(trace: Trace) -> ArmAnswer | None:
    """The student's answer that the gate refused, if it was read to its end."""
    call = trace.escalated
    if call is None or not call.whole:
        return None
    return recorded_answer(call)


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
