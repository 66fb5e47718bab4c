"""`distill-router advise`: from the pairs of one route to a student share, its loss bound and the YAML to set."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from policies.advise import Advice, Pair, Point, advise
from policies.guards import MISFITS
from router.cli.advised_policy import policy_block
from router.errors import ConfigError
from router.evidence.read import Evidence
from router.evidence.records import PairRecord
from router.ledger.pricing import NANO_PER_USD
from router.settings import Route, Settings, load
from router.upstream.model import model_version

SECONDS_PER_DAY = 86_400
MIN_WINDOW_S = 86_400


def run_advise(config_path: Path, route: str, max_loss: float, confidence: float, *, as_json: bool) -> str:
    """The advice as text or JSON. Raises ConfigError for an unknown route or an unreachable Redis."""
    settings = load(config_path, upstream_keys=False)
    if route not in settings.config.routes:
        raise ConfigError(f"unknown route '{route}'; known: {', '.join(settings.config.routes)}")
    evidence = Evidence(settings)
    records = usable_pairs(evidence, settings, route)
    traffic = traffic_of(evidence, route)
    advice = advise([_pair(record) for record in records], traffic.fitting_per_day, max_loss, confidence)
    policy = policy_block(advice.recommended, records) if advice.recommended else None
    audits_usd = audits_usd_per_day(advice.recommended, records, traffic, settings.config.routes[route])
    if as_json:
        extra = {"route": route, "policy": policy, "traffic": asdict(traffic), "audits_usd_per_day": audits_usd}
        return json.dumps(asdict(advice) | extra, indent=2, default=str)
    block = _route_block(settings.config.routes[route], policy) if policy else None
    return _text(route, advice, block, traffic, audits_usd)


def usable_pairs(evidence: Evidence, settings: Settings, route: str) -> list[PairRecord]:
    """The route's pairs on its current student, without those whose teacher failed: they say nothing of the student.

    Nor those of a time without uniform audits: targeted pairs alone are not like the rest.
    """
    config = settings.config.routes[route]
    version = model_version(config.student, settings.config.models[config.student])
    return [
        record
        for record in evidence.pairs()
        if record.route == route
        and (record.teacher.model, record.student.model) == (config.teacher, config.student)
        and record.student_version == version
        and record.audit_probability > 0
        and record.teacher.error is None
    ]


@dataclass(frozen=True, slots=True)
class Traffic:
    """A route's requests by its decision rows. `fitting`: those that the student could have been asked."""

    fitting: int
    other: int
    window_s: float

    @property
    def fitting_per_day(self) -> float:
        return self.fitting * SECONDS_PER_DAY / self.window_s


def traffic_of(evidence: Evidence, route: str) -> Traffic:
    """Forced requests are left out: they are no traffic that a policy could route."""
    rows = [row for row in evidence.rows() if row.rt == route and row.o != "shadow" and not row.fo]
    fitting = sum(MISFITS.isdisjoint(row.g) for row in rows)
    times = [row.t for row in rows] or [0.0]
    return Traffic(fitting, len(rows) - fitting, max(max(times) - min(times), 1.0))


def audits_usd_per_day(point: Point | None, records: list[PairRecord], traffic: Traffic, route: Route) -> float:
    """What asking the teacher about a share of the student's answers will cost; 0 without a recommendation."""
    if point is None or not records:
        return 0.0
    weights = [1 / record.probability for record in records]
    spent = [record.teacher.cost_nano_usd / NANO_PER_USD for record in records]
    teacher_usd = sum(w * usd for w, usd in zip(weights, spent, strict=True)) / sum(weights)
    return route.audit.rate * point.student_share * traffic.fitting_per_day * teacher_usd


def _route_block(route: Route, policy: dict[str, Any]) -> dict[str, Any]:
    return route.model_dump(mode="json", exclude_unset=True) | {"mode": "route", "policy": policy}


def _caution(traffic: Traffic) -> list[str]:
    if traffic.window_s >= MIN_WINDOW_S:
        return []
    return [f"Careful: all figures a day are drawn out from {_duration(traffic.window_s)} of traffic."]


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _pair(record: PairRecord) -> Pair:
    return Pair(
        record.student.mean_logprob,
        record.verdict.harm,
        record.probability,
        record.teacher.cost_nano_usd / NANO_PER_USD,
        record.student.cost_nano_usd / NANO_PER_USD,
    )


def _text(route: str, advice: Advice, block: dict[str, Any] | None, traffic: Traffic, audits_usd: float) -> str:
    point = advice.recommended
    head = (
        f"Route {route}: {advice.pairs_used} pairs; in {_duration(traffic.window_s)} {traffic.fitting} requests that "
        f"fit the student, {traffic.other} that do not and stay with the teacher."
    )
    if point is None or block is None:
        more = _more(advice.pairs_needed)
        return f"{head}\nNothing is certified at a loss of at most {advice.max_loss:.2%}: {advice.reason}\n{more}"
    sign = "saves" if point.savings_usd_per_day >= 0 else "costs"
    low, high = point.savings_interval_usd_per_day.low, point.savings_interval_usd_per_day.high
    lines = [
        head,
        f"The student on {point.student_share:.1%} of this traffic {sign} "
        f"${abs(point.savings_usd_per_day):,.2f} a day [{low:,.2f}, {high:,.2f}] at a loss of at most "
        f"{point.loss_upper_bound:.2%} ({advice.confidence:.0%}; seen: {point.loss_estimate:.2%}).",
        f"Auditing at the rate of this route costs about ${audits_usd:,.2f} a day of that.",
        *_caution(traffic),
        "",
        "Set this route (what else you had said of it is kept):",
        yaml.safe_dump({"routes": {route: block}}, sort_keys=False, default_flow_style=None).rstrip(),
        "",
        f"The {advice.confidence:.0%} is for one look at a sample whose size was not chosen by looking.",
        "Other losses, each at that confidence by itself:",
    ]
    for row in advice.frontier:
        if row.point is None:
            lines.append(f"  at most {row.max_loss:>4.0%}: {_more(row.pairs_needed)}")
        else:
            lines.append(
                f"  at most {row.max_loss:>4.0%}: student on {row.point.student_share:.1%}, "
                f"${row.point.savings_usd_per_day:,.2f} a day"
            )
    return "\n".join(lines)


def _more(pairs_needed: int | None) -> str:
    return f"About {pairs_needed} more pairs are needed." if pairs_needed else "More pairs alone would not help."
