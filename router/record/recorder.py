"""Writes what is left of one finished request: counters, histograms and the decision row."""

from __future__ import annotations

import time
from collections.abc import Sequence

from router.auth import Caller
from router.complaints import POLICY_ERROR
from router.errors import RouterError
from router.evidence.streams import DECISIONS
from router.evidence.writer import EvidenceWriter
from router.exchange import Trace
from router.ledger.bill import Bill, Charge
from router.ledger.ledger import Ledger
from router.ledger.pricing import NANO_PER_USD, Usage
from router.record.metrics import Basis, Metrics
from router.record.row import VERSION, DecisionRow, RowCharge, encode_row
from router.request import Endpoint


class Recorder:
    """One per process. Never waits: the row goes into the writer's queue."""

    def __init__(self, metrics: Metrics, writer: EvidenceWriter, ledger: Ledger) -> None:
        self._metrics = metrics
        self._writer = writer
        self._ledger = ledger

    def finished(self, trace: Trace) -> None:
        """Metrics and the row of one request, once its charges are settled."""
        trace.total_s = time.perf_counter() - trace.started
        route = trace.route.name if trace.route else ""
        tenant = trace.request.caller.tenant
        model = trace.model.name if trace.model else ""
        self._metrics.count(route, tenant, model, trace.outcome, trace.reason)
        for charge in trace.bill.charges:
            self.charge(route, tenant, charge)
        self._timings(trace, route, tenant, model)
        teacher_only = teacher_only_nano(trace)
        if teacher_only:
            self._metrics.served(route, tenant, model).teacher_only[_basis(trace)](teacher_only / NANO_PER_USD)
        self._write(_row(trace, teacher_only))

    def refused(self, decision_id: str, endpoint: Endpoint, caller: Caller, error: RouterError) -> None:
        """The row of a request by a known caller that went no further."""
        row = DecisionRow(VERSION, decision_id, round(time.time(), 3), endpoint, tn=caller.tenant, k=caller.name)
        row.r, row.o, row.st = error.error_code or error.type, "rejected", error.status
        self._write(row)

    def shadow(self, trace: Trace, bill: Bill) -> None:
        """The row of an audit's background calls: their money, under the id of the request they belong to."""
        self._write(_shadow_row(trace, bill))

    def _write(self, row: DecisionRow) -> None:
        self._ledger.tally(row)
        self._writer.put(DECISIONS, row.id, encode_row(row))

    def charge(self, route: str, tenant: str, charge: Charge) -> None:
        """Tokens and money of one settled call, a client's or a shadow's."""
        series = self._metrics.charged(route, tenant, charge.model)
        usage = charge.usage
        series.input(usage.input_tokens)
        series.output(usage.output_tokens)
        if usage.cached_tokens:
            series.cached(usage.cached_tokens)
        if usage.reasoning_tokens:
            series.reasoning(usage.reasoning_tokens)
        if usage.image_tokens or usage.audio_input_tokens or usage.audio_output_tokens:
            self._media(route, tenant, charge.model, usage)
        if charge.cost_nano:
            self._metrics.cost(route, tenant, charge.model, charge.origin, charge.cost_nano / NANO_PER_USD)
        if charge.prices.per_hour:
            self._metrics.machine(charge.model).attribute(charge.cost_nano)
        if charge.estimated and charge.origin == "serve" and not charge.prices.free:
            self._metrics.usage_missing.labels(charge.model).inc()

    def _media(self, route: str, tenant: str, model: str, usage: Usage) -> None:
        self._metrics.tokens(route, tenant, model, "image_input", usage.image_tokens)
        self._metrics.tokens(route, tenant, model, "audio_input", usage.audio_input_tokens)
        self._metrics.tokens(route, tenant, model, "audio_output", usage.audio_output_tokens)

    def _timings(self, trace: Trace, route: str, tenant: str, model: str) -> None:
        series = self._metrics.served(route, tenant, model)
        series.request_s(trace.total_s)
        series.decision_s(trace.decided_s)
        series.overhead_s(max(0.0, trace.total_s - trace.upstream_s))
        if trace.attempts.failures and trace.model:
            self._metrics.retries.labels(model).inc(len(trace.attempts.failures))
        if trace.fell_back:
            self._metrics.fallbacks.labels(route, model).inc()
        if POLICY_ERROR in trace.guards:
            self._metrics.policy_errors.labels(route).inc()
        if trace.first_byte_s is not None and trace.served:
            series.first_token_s(trace.first_byte_s)
            tokens = trace.served.usage.output_tokens if trace.served.usage else trace.served.reader.produced
            if tokens > 1:
                series.per_token_s((trace.total_s - trace.first_byte_s) / (tokens - 1))


def teacher_only_nano(trace: Trace) -> int:
    """What the teacher alone would have cost for this request: its own cost, or the served usage at its prices.

    Zero for requests that no route decided, or that no model answered. A client that hung up early would have hung up
    on the teacher too: what was spent counts. That the teacher would have needed as many tokens as the student is an
    assumption.
    """
    route, charges = trace.route, trace.bill.charges
    if route is None or not charges or trace.outcome in ("rejected", "failed"):
        return 0
    answered = trace.served.charge if trace.served else _last_answer(charges)
    own = answered.model == route.teacher.name
    prices = answered.prices if own else route.teacher.prices_at(trace.wall)
    return prices.cost(answered.usage)


def _last_answer(charges: Sequence[Charge]) -> Charge:
    """Of calls for the answer itself, not for a gate's questions."""
    return next((charge for charge in reversed(charges) if charge.origin != "gate"), charges[-1])


def _basis(trace: Trace) -> Basis:
    """Whose usage `teacher_only_nano` priced: the teacher's own, or the student's in its place."""
    model = trace.served.model.name if trace.served else _last_answer(trace.bill.charges).model
    return "measured" if trace.route and model == trace.route.teacher.name else "estimated"


def _row(trace: Trace, teacher_only: int) -> DecisionRow:
    request, policy = trace.request, trace.target.policy
    return DecisionRow(
        VERSION,
        trace.id,
        round(trace.wall, 3),
        request.endpoint,
        rt=trace.route.name if trace.route else "",
        tn=request.caller.tenant,
        k=request.caller.name,
        po=policy.kind if policy else "",
        pv=trace.policy_version or (policy.version if policy else ""),
        f=(request.prompt_bytes, sorted(request.needs)),
        s=None if trace.score is None and trace.p_wrong is None else (_rounded(trace.score), _rounded(trace.p_wrong)),
        q=_estimate(trace),
        th=_rounded(trace.threshold),
        sw=round((trace.switch_cost_usd or 0.0) * NANO_PER_USD),
        g=trace.guards,
        p=round(trace.teacher_probability, 6),
        a=trace.arm[0] if trace.arm else "",
        m=trace.model.name if trace.model else "",
        r=trace.reason,
        ch=_charges(trace.bill),
        to=teacher_only,
        o=trace.outcome,
        st=trace.status,
        ms=round(trace.total_s * 1e3, 2),
        tt=None if trace.first_byte_s is None else round(trace.first_byte_s * 1e3, 2),
        au=round(trace.probability, 6) if trace.sample else 0.0,
        sv=trace.route.student.version if trace.route else "",
        ns=int(trace.no_store),
        fo=int(trace.target.forced),
        fb=int(trace.fell_back),
        n=len(trace.attempts.failures),
    )


def _shadow_row(trace: Trace, bill: Bill) -> DecisionRow:
    return DecisionRow(
        VERSION,
        f"{trace.id}.shadow",
        round(time.time(), 3),
        trace.request.endpoint,
        rt=trace.route.name if trace.route else "",
        tn=trace.request.caller.tenant,
        k=trace.request.caller.name,
        m=bill.charges[0].model,
        r="shadow",
        ch=_charges(bill),
        o="shadow",
    )


def _charges(bill: Bill) -> list[RowCharge]:
    return [
        RowCharge(
            charge.origin,
            charge.model,
            charge.cost_nano,
            charge.usage.input_tokens,
            charge.usage.cached_tokens,
            charge.usage.output_tokens,
            charge.usage.reasoning_tokens,
            int(charge.estimated),
        )
        for charge in bill.charges
    ]


def _estimate(trace: Trace) -> tuple[float, float] | None:
    """Left out where it is P(wrong) again."""
    if trace.loss is None or (trace.p_wrong is not None and not trace.novelty):
        return None
    return round(trace.loss, 4), round(trace.novelty or 0.0, 4)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
