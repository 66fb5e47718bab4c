"""Writes what is left of one finished request: counters, histograms and the decision row."""

from __future__ import annotations

import time

from router.evidence.writer import DECISIONS, EvidenceWriter
from router.exchange import Trace
from router.ledger.bill import Charge
from router.ledger.pricing import NANO_PER_USD, Usage
from router.record.metrics import Metrics
from router.record.row import VERSION, DecisionRow, encode_row


class Recorder:
    """One per process. Never waits: the row goes into the writer's queue."""

    def __init__(self, metrics: Metrics, writer: EvidenceWriter) -> None:
        self._metrics = metrics
        self._writer = writer

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
            self._metrics.served(route, tenant, model).teacher_only(teacher_only / NANO_PER_USD)
        self._writer.put(DECISIONS, encode_row(_row(trace, teacher_only)))

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
        if charge.cost_nano:
            self._metrics.cost(route, tenant, charge.model, charge.origin, charge.cost_nano / NANO_PER_USD)
        if charge.estimated and charge.origin == "serve" and not charge.prices.free:
            self._metrics.usage_missing.labels(charge.model).inc()

    def _timings(self, trace: Trace, route: str, tenant: str, model: str) -> None:
        series = self._metrics.served(route, tenant, model)
        series.request_s(trace.total_s)
        series.decision_s(trace.decided_s)
        series.overhead_s(max(0.0, trace.total_s - trace.upstream_s))
        if trace.attempts.failures and trace.model:
            self._metrics.retries.labels(model).inc(len(trace.attempts.failures))
        if trace.fell_back:
            self._metrics.fallbacks.labels(route, model).inc()
        if trace.first_byte_s is not None and trace.served:
            series.first_token_s(trace.first_byte_s)
            tokens = trace.served.usage.output_tokens if trace.served.usage else trace.served.reader.produced
            if tokens > 1:
                series.per_token_s((trace.total_s - trace.first_byte_s) / (tokens - 1))


def teacher_only_nano(trace: Trace) -> int:
    """What the teacher alone would have cost for this request: its own cost, or the served usage at its prices.

    Zero for requests that no route decided, or that no model answered. That the teacher would have needed as many
    tokens as the student is an assumption.
    """
    route, call = trace.route, trace.served
    if route is None or call is None or trace.outcome in ("rejected", "failed"):
        return 0
    usage = next((charge.usage for charge in reversed(trace.bill.charges) if charge.model == call.model.name), None)
    return route.teacher.prices.cost(usage) if usage else 0


def _row(trace: Trace, teacher_only: int) -> DecisionRow:
    request, policy, tokens = trace.request, trace.target.policy, _tokens(trace)
    return DecisionRow(
        VERSION,
        trace.id,
        round(trace.wall, 3),
        request.endpoint,
        rt=trace.route.name if trace.route else "",
        tn=request.caller.tenant,
        k=request.caller.name,
        po=policy.kind if policy else "",
        pv=policy.version if policy else "",
        f=(request.prompt_bytes, sorted(request.needs)),
        s=None if trace.score is None else (round(trace.score, 4), _rounded(trace.p_wrong)),
        g=trace.guards,
        p=round(trace.teacher_probability, 6),
        a=trace.arm[0] if trace.arm else "",
        m=trace.model.name if trace.model else "",
        r=trace.reason,
        tok=(tokens.input_tokens, tokens.cached_tokens, tokens.output_tokens, tokens.reasoning_tokens),
        c=trace.bill.by_origin(),
        to=teacher_only,
        e=int(any(charge.estimated for charge in trace.bill.charges)),
        o=trace.outcome,
        st=trace.status,
        ms=round(trace.total_s * 1e3, 2),
        tt=None if trace.first_byte_s is None else round(trace.first_byte_s * 1e3, 2),
        au=trace.audit_probability if trace.audited else 0.0,
        fo=int(trace.target.forced),
        fb=int(trace.fell_back),
        n=len(trace.attempts.failures),
    )


def shadow_row(trace: Trace, charge: Charge) -> bytes:
    """The row of a background call: its money, under the id of the request it belongs to."""
    usage = charge.usage
    row = DecisionRow(
        VERSION,
        f"{trace.id}.shadow",
        round(time.time(), 3),
        trace.request.endpoint,
        rt=trace.route.name if trace.route else "",
        tn=trace.request.caller.tenant,
        k=trace.request.caller.name,
        m=charge.model,
        r="shadow",
        tok=(usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.reasoning_tokens),
        c={charge.origin: charge.cost_nano},
        e=int(charge.estimated),
        o="shadow",
    )
    return encode_row(row)


def _tokens(trace: Trace) -> Usage:
    usages = [charge.usage for charge in trace.bill.charges]
    return Usage(
        sum(usage.input_tokens for usage in usages),
        sum(usage.output_tokens for usage in usages),
        sum(usage.cached_tokens for usage in usages),
        sum(usage.reasoning_tokens for usage in usages),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
