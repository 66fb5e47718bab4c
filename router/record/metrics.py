"""Every Prometheus series of the gateway. Labels come from configuration (route, model, tenant), never from a client.

With several workers prometheus-client keeps the values in memory-mapped files (`PROMETHEUS_MULTIPROC_DIR`, set by
`serve` before anything is imported) and `exposition` adds them up. Children are resolved once and kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from policies.base import Policy
from router.ledger.pricing import NANO_PER_USD

PREFIX = "distill_router_"
SHORT_S = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25)
LONG_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180, 600)
DROP_REASONS = ("queue_full", "spool_full", "spool_oldest", "writer_error", "unknown_stream", "damaged", "crash")
JUDGE_RESULTS = ("verdict", "inconsistent", "failed")
TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
Basis = Literal["measured", "estimated"]


@dataclass(slots=True)
class RouteSeries:
    """The children for one (route, tenant, model) that every request touches."""

    request_s: Callable[[float], None]
    decision_s: Callable[[float], None]
    overhead_s: Callable[[float], None]
    first_token_s: Callable[[float], None]
    per_token_s: Callable[[float], None]
    teacher_only: dict[Basis, Callable[[float], None]]
    outcomes: dict[str, Callable[[float], None]] = field(default_factory=dict)
    reasons: dict[str, Callable[[float], None]] = field(default_factory=dict)


@dataclass(slots=True)
class ModelSeries:
    """The children for one (route, tenant, model) that a charge touches."""

    input: Callable[[float], None]
    cached: Callable[[float], None]
    output: Callable[[float], None]
    reasoning: Callable[[float], None]
    cost: dict[str, Callable[[float], None]] = field(default_factory=dict)


class MachineSeries:
    """The bill of a self-hosted model and what its calls were charged of it, in nano-USD; idle is the difference."""

    __slots__ = ("_attributed", "_billed", "_count", "_show")

    def __init__(self, count: Callable[[float], None], show: Callable[[float], None]) -> None:
        self._billed = self._attributed = 0
        self._count = count
        self._show = show
        show(0)

    def bill(self, nano: int) -> None:
        self._billed += nano
        self._count(nano / NANO_PER_USD)
        self._show((self._billed - self._attributed) / NANO_PER_USD)

    def attribute(self, nano: int) -> None:
        self._attributed += nano
        self._show((self._billed - self._attributed) / NANO_PER_USD)


class RouteInfo(Collector):
    """`route_info`: which models are a route's teacher and student, in the worker that answers the scrape.

    Not kept in files like the other series: prometheus-client cannot remove from a file what is no longer configured.
    """

    def __init__(self) -> None:
        self.routes: Mapping[str, tuple[str, str]] = {}

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            PREFIX + "route_info", "The models of a route; always 1.", labels=("route", "teacher", "student")
        )
        for route, (teacher, student) in self.routes.items():
            family.add_metric((route, teacher, student), 1)
        yield family


class PolicyInfo(Collector):
    """`policy_info`: which version of which policy decides on a route; as of `RouteInfo`."""

    def __init__(self) -> None:
        self.policies: Mapping[str, Policy] = {}

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            PREFIX + "policy_info", "The policy of a route; always 1.", labels=("route", "policy", "version")
        )
        for route, policy in self.policies.items():
            family.add_metric((route, policy.kind, policy.version), 1)
        yield family


class Metrics:
    """Registers the series in a registry of its own, so that two gateways in one process do not collide."""

    def __init__(self, multiprocess_dir: Path | None = None) -> None:
        self._dir = multiprocess_dir
        self.registry = CollectorRegistry()
        self._served: dict[tuple[str, str, str], RouteSeries] = {}
        self._charged: dict[tuple[str, str, str], ModelSeries] = {}
        self._machines: dict[str, MachineSeries] = {}
        served = ("route", "tenant", "model")
        self._requests = self._counter("requests", "Requests by how they ended.", (*served, "outcome"))
        self._decisions = self._counter("decisions", "Decisions by reason.", ("route", "model", "reason"))
        self._request_s = self._histogram("request_seconds", "Whole requests.", ("route", "model"), LONG_S)
        self._decision_s = self._histogram("decision_seconds", "Guards and policy.", ("route",), SHORT_S)
        self._overhead_s = self._histogram(
            "overhead_seconds", "Requests less the wait for models.", ("route",), SHORT_S
        )
        self._first_s = self._histogram("time_to_first_token_seconds", "Streams.", ("route", "model"), LONG_S)
        self._per_s = self._histogram("time_per_output_token_seconds", "Streams.", ("route", "model"), TOKEN_S)
        self._tokens = self._counter("tokens", "Tokens of all calls by kind.", (*served, "kind"))
        self._cost = self._counter("cost_usd", "Everything spent, by origin.", (*served, "origin"))
        self._teacher_only = self._counter(
            "teacher_only_cost_usd",
            "The teacher alone: measured where it answered, else the student's usage at the teacher's prices.",
            ("route", "tenant", "basis"),
        )
        self.pair_teacher_cost = self._counter(
            "pair_teacher_cost_usd", "Audited pairs that the student served: what the teacher really cost.", ("route",)
        )
        self.pair_teacher_estimate = self._counter(
            "pair_teacher_estimate_usd", "The same pairs: the student's usage at the teacher's prices.", ("route",)
        )
        self.usage_missing = self._counter("usage_missing", "Answers of a priced model without usage.", ("model",))
        self.retries = self._counter("upstream_retries", "Failed tries before an answer.", ("model",))
        self.fallbacks = self._counter("fallbacks", "Answers of the other arm after a failure.", ("route", "model"))
        self.policy_errors = self._counter(
            "policy_errors", "Requests that the teacher got because the policy or its gate failed.", ("route",)
        )
        self._evidence_series()
        self._retention_series()
        self.reloads = self._counter("config_reloads", "Configuration reloads by result.", ("result",))
        self.reload_ok = self._gauge("config_last_reload_successful", "1 or 0.", (), "livemin")
        self.healthy = self._gauge(
            "upstream_healthy", "1 when the health check passes.", ("model", "replica"), "livemin"
        )
        self.circuit_open = self._gauge("circuit_open", "1 while a circuit is open.", ("model", "replica"), "livemax")
        self.in_flight = self._gauge("in_flight", "Calls to a model in flight.", ("model",), "livesum")
        self._gpu_bill = self._counter("gpu_bill_usd", "What self-hosted models cost by the hour.", ("model",))
        # Of all workers, ended ones too: each counts its own part of the bill and of the charges.
        self._idle = self._gauge("idle_cost_usd", "The GPU bill less what calls were charged.", ("model",), "sum")
        self._ledger_series()
        self.rate_limited = self._counter("rate_limited", "Refused by a rate limit.", ("tenant", "kind"))
        self.keys_skipped = self._counter("key_records_skipped", "API keys in Redis that cannot be used.", ())
        # Not a live gauge: what a worker that has ended counted stays in the sums.
        self.start_time = self._gauge("start_time_seconds", "When the first worker started (Unix time).", (), "min")
        self.start_time.set(time.time())  # at once: the least of all workers is shown, and unset is 0
        self._route_info, self._policy_info = RouteInfo(), PolicyInfo()
        for info in (self._route_info, self._policy_info):
            self.registry.register(info)
        self._start_at_zero()

    def _ledger_series(self) -> None:
        """Budgets: what Redis says is the same for every worker, so the latest word counts."""
        of, word = ("budget", "member"), "livemostrecent"
        self.budget_limit = self._gauge("budget_limit_usd", "The hard limit.", of, word)
        self.budget_target = self._gauge("budget_target_usd", "What pacing aims at.", of, word)
        self.budget_spent = self._gauge("budget_spent_usd", "Settled in the current window.", of, word)
        self.budget_reserved = self._gauge("budget_reserved_usd", "Leased by living workers, not settled.", of, word)
        self.budget_presumed = self._gauge(
            "budget_presumed_spent_usd", "Leased by workers that died, and not proven unspent.", of, word
        )
        self.budget_window_end = self._gauge(
            "budget_window_end_timestamp_seconds", "When the calendar window ends (Unix time).", of, word
        )
        self.budget_window = self._gauge(
            "budget_window_seconds", "Length of the current window: what an even pace is counted in.", of, word
        )
        self.budget_settled = self._counter(
            "budget_settled_usd", "Settled over all windows; unlike the gauge it never falls.", of
        )
        self.budget_exhausted = self._counter(
            "budget_exhausted", "Calls that a budget did not pay for, by what was done.", ("budget", "action")
        )
        self.budget_overshoot = self._counter(
            "budget_overshoot_usd", "Spent beyond what could be bounded before the call.", ("budget",)
        )
        self.budget_waived = self._counter(
            "budget_waived_usd", "Reserved without a lease while Redis was away (on_redis_loss: allow).", ("budget",)
        )
        self.ledger_up = self._gauge("ledger_up", "1 while Redis answers the ledger.", (), "livemin")
        self.ledger_syncs = self._counter("ledger_syncs", "Talks with Redis about money.", ("result",))

    def _evidence_series(self) -> None:
        """Records on their way, and what comparisons found."""
        self.records_produced = self._counter("records_produced", "Records that were to be kept.", ("stream",))
        self.records_dropped = self._counter("records_dropped", "Records lost, by reason.", ("reason",))
        self.records_written = self._counter("records_written", "Records that reached Redis.", ("stream",))
        self.records_spooled = self._counter("records_spooled", "Records that Redis did not take at once.", ("stream",))
        self.audits = self._counter(
            "audits", "Requests drawn for a comparison, why, and what came of it.", ("route", "sample", "result")
        )
        self.comparisons = self._counter("comparisons", "Audited pairs by verdict.", ("route", "verdict"))
        self.disagreements = self._counter("disagreements", "Disagreeing pairs by kind.", ("route", "kind"))
        self.triage = self._counter("triage", "Disagreements by whose mistake they are.", ("route", "label"))
        self.judge_calls = self._counter("judge_calls", "Comparisons by a judge, by what came of them.", ("result",))
        self.queue = self._gauge("evidence_queue_records", "Records waiting to be written.", (), "livesum")
        self.spool_bytes = self._gauge("evidence_spool_bytes", "What the spool folder holds.", (), "livemostrecent")
        self.spool_oldest = self._gauge(
            "evidence_spool_oldest_seconds", "Age of the oldest record that Redis does not have yet.", (), "livemax"
        )
        self.archive_lag = self._gauge(
            "archive_lag_records", "Records in Redis that no archive has taken.", ("stream",), "livemostrecent"
        )
        self.stream_bytes = self._gauge(
            "evidence_stream_bytes", "Memory that Redis gives to a stream.", ("stream",), "livemostrecent"
        )

    def _retention_series(self) -> None:
        """What the student keeps of the teacher; every worker reads the same sums, so the latest word counts."""
        of, word = ("route", "slice"), "livemostrecent"
        loss, kept = "share of requests that the student answered harmfully", "share of its answers that are no loss"
        self.route_loss = self._gauge("route_loss", f"Estimated {loss}.", of, word)
        self.route_loss_low = self._gauge("route_loss_lower_bound", f"At least: {loss}.", of, word)
        self.route_loss_high = self._gauge("route_loss_upper_bound", f"At most: {loss}.", of, word)
        self.retention = self._gauge("student_retention", f"Where the student answered, estimated {kept}.", of, word)
        self.retention_low = self._gauge("student_retention_lower_bound", f"At least: {kept}.", of, word)
        self.retention_high = self._gauge("student_retention_upper_bound", f"At most: {kept}.", of, word)
        self.normalised = self._gauge(
            "student_retention_normalised", "Retention over what the teacher keeps of itself.", ("route",), word
        )
        self.normalised_low = self._gauge("student_retention_normalised_lower_bound", "At least.", ("route",), word)
        self.noise = self._gauge("teacher_noise", "How often the teacher contradicts itself.", ("route",), word)
        self.retention_pairs = self._gauge("retention_pairs", "Pairs behind the figures.", of, word)
        self.effective_pairs = self._gauge(
            "retention_effective_pairs", "Equally weighted pairs worth as much (Kish).", of, word
        )
        self.excluded = self._counter(
            "retention_excluded", "Requests that count for no figure, and why.", ("route", "reason")
        )
        self.keep_probability = self._gauge(
            "audit_keep_probability", "Share of the configured audits that there is room for.", ("route",), "livemin"
        )

    def _start_at_zero(self) -> None:
        """Series whose first increment must not be missed by a `rate()`."""
        for reason in DROP_REASONS:
            self.records_dropped.labels(reason)
        for result in JUDGE_RESULTS:
            self.judge_calls.labels(result)
        for result in ("ok", "refused"):
            self.reloads.labels(result)

    def configured(
        self,
        models: Iterable[str],
        routes: Mapping[str, tuple[str, str]],
        budgets: Mapping[str, Iterable[str]] = MappingProxyType({}),
        policies: Mapping[str, Policy] = MappingProxyType({}),
    ) -> None:
        """What is in effect from now on: models, routes with teacher and student, budgets with their actions, policies.

        Counters that an alert or a ratio reads start at zero, so that their first increment is not missed.
        """
        self._route_info.routes, self._policy_info.policies = dict(routes), dict(policies)
        for model in models:
            self.usage_missing.labels(model)
            self.retries.labels(model)
        for route, arms in routes.items():
            self.pair_teacher_cost.labels(route)
            self.pair_teacher_estimate.labels(route)
            self.policy_errors.labels(route)
            for model in arms:
                self.fallbacks.labels(route, model)
        for budget, actions in budgets.items():
            self.budget_overshoot.labels(budget)
            self.budget_waived.labels(budget)
            for action in actions:
                self.budget_exhausted.labels(budget, action)

    def served(self, route: str, tenant: str, model: str) -> RouteSeries:
        key = (route, tenant, model)
        series = self._served.get(key)
        if series is None:
            series = self._served[key] = RouteSeries(
                self._request_s.labels(route, model).observe,
                self._decision_s.labels(route).observe,
                self._overhead_s.labels(route).observe,
                self._first_s.labels(route, model).observe,
                self._per_s.labels(route, model).observe,
                {
                    "measured": self._teacher_only.labels(route, tenant, "measured").inc,
                    "estimated": self._teacher_only.labels(route, tenant, "estimated").inc,
                },
            )
        return series

    def count(self, route: str, tenant: str, model: str, outcome: str, reason: str) -> None:
        """One request and its decision."""
        series = self.served(route, tenant, model)
        inc = series.outcomes.get(outcome)
        if inc is None:
            inc = series.outcomes[outcome] = self._requests.labels(route, tenant, model, outcome).inc
        inc(1)
        inc = series.reasons.get(reason)
        if inc is None:
            inc = series.reasons[reason] = self._decisions.labels(route, model, reason).inc
        inc(1)

    def charged(self, route: str, tenant: str, model: str) -> ModelSeries:
        key = (route, tenant, model)
        series = self._charged.get(key)
        if series is None:
            series = self._charged[key] = ModelSeries(
                input=self._tokens.labels(*key, "input").inc,
                cached=self._tokens.labels(*key, "cached_input").inc,
                output=self._tokens.labels(*key, "output").inc,
                reasoning=self._tokens.labels(*key, "reasoning").inc,
            )
        return series

    def tokens(self, route: str, tenant: str, model: str, kind: str, count: int) -> None:
        """Tokens of a kind that few calls have."""
        if count:
            self._tokens.labels(route, tenant, model, kind).inc(count)

    def machine(self, model: str) -> MachineSeries:
        """The series of a model that is priced by the GPU-hour."""
        series = self._machines.get(model)
        if series is None:
            series = self._machines[model] = MachineSeries(
                self._gpu_bill.labels(model).inc, self._idle.labels(model).set
            )
        return series

    def cost(self, route: str, tenant: str, model: str, origin: str, usd: float) -> None:
        """Money spent on one call."""
        series = self.charged(route, tenant, model)
        inc = series.cost.get(origin)
        if inc is None:
            inc = series.cost[origin] = self._cost.labels(route, tenant, model, origin).inc
        inc(usd)

    def forget_models(self, replicas: Mapping[str, Iterable[str]]) -> None:
        """Models that are no longer configured, with their replicas: what was last known of them must not stay.

        prometheus-client cannot remove a series that lives in a file, so that workers set it to what alarms nobody.
        """
        for model, names in replicas.items():
            self._forget(self.in_flight, (model,), 0)
            for name in names:
                self._forget(self.healthy, (model, name), 1)
                self._forget(self.circuit_open, (model, name), 0)

    def forget_budget(self, budget: str, member: str) -> None:
        """A budget that is no longer configured: a limit of 0, of which nothing is spent, alarms nobody."""
        for gauge in (
            self.budget_limit,
            self.budget_target,
            self.budget_spent,
            self.budget_reserved,
            self.budget_presumed,
            self.budget_window,
            self.budget_window_end,
        ):
            self._forget(gauge, (budget, member), 0)

    def _forget(self, gauge: Gauge, labels: tuple[str, ...], calm: float) -> None:
        if self._dir is None:
            gauge.remove(*labels)
        else:
            gauge.labels(*labels).set(calm)

    def exposition(self) -> bytes:
        """The text format of all workers."""
        if self._dir is None:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        for info in (self._route_info, self._policy_info):
            registry.register(info)
        MultiProcessCollector(registry, path=str(self._dir))  # type: ignore[no-untyped-call]  # untyped there
        return generate_latest(registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(PREFIX + name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(PREFIX + name, text, labels, registry=self.registry, buckets=buckets)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...], mode: str) -> Gauge:
        return Gauge(PREFIX + name, text, labels, registry=self.registry, multiprocess_mode=mode)  # type: ignore[arg-type]
