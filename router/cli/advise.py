"""`distill-router advise`: from the pairs of one route to a student share, its loss bound and the YAML to set."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from policies.advise import Advice, Pair, Point, advise
from policies.calibration import fit
from policies.cascade import CascadeConfig
from policies.guards import MISFITS
from router.errors import ConfigError
from router.evidence.audit import SCORE_TOKENS
from router.evidence.read import Evidence
from router.evidence.records import PairRecord
from router.ledger.pricing import NANO_PER_USD
from router.settings import Settings, load

SECONDS_PER_DAY = 86_400
MIN_FIT_PAIRS = 16


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
    if as_json:
        extra = {"route": route, "policy": policy, "traffic": asdict(traffic)}
        return json.dumps(asdict(advice) | extra, indent=2, default=str)
    return _text(route, advice, policy, traffic)


def usable_pairs(evidence: Evidence, settings: Settings, route: str) -> list[PairRecord]:
    """The route's pairs on its current student, without those whose teacher failed: they say nothing of the student."""
    config = settings.config.routes[route]
    return [
        record
        for record in evidence.pairs()
        if record.route == route
        and (record.teacher.model, record.student.model) == (config.teacher, config.student)
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


def policy_block(point: Point, records: list[PairRecord]) -> dict[str, Any]:
    """The `policy:` block that takes the decisions of `point`."""
    if point.kind == "split" or point.threshold is None:
        return {"kind": "split", "student_share": round(point.student_share, 4)}
    scored = [record for record in records if record.student.mean_logprob is not None]
    scores = [record.student.mean_logprob for record in scored if record.student.mean_logprob is not None]
    if len(scores) >= MIN_FIT_PAIRS:
        calibration = fit(scores, [record.verdict.harm for record in scored], [_weight(record) for record in scored])
        # A flat stretch would put scores on both sides of the threshold at one probability: tilt it a little.
        # Scores are not rounded: those of a sure student lie so close together that they would coincide.
        points = [
            [score, wrong * (1 - i * 1e-6)]
            for i, (score, wrong) in enumerate(zip(calibration.scores, calibration.wrong, strict=True))
        ]
        block = {"kind": "cascade", "escalate_at": 0.5, "score_tokens": SCORE_TOKENS, "calibration": points}
        if (exact := _at_threshold(block, point.threshold, scores)) is not None:
            return exact
    return _step(point.threshold, scores)


def _at_threshold(block: dict[str, Any], threshold: float, scores: list[float]) -> dict[str, Any] | None:
    """`block` at the operating point that accepts scores from `threshold` on; None if no such point exists."""
    gate = CascadeConfig.model_validate(block).build().gate  # type: ignore[attr-defined]  # a Cascade has one
    below = [gate.p_wrong(score) for score in scores if score < threshold]
    accepted = gate.p_wrong(threshold)
    escalate_at = (min(below) + accepted) / 2 if below else min(1.0, accepted + 1e-6)
    if not accepted < escalate_at or (below and not min(below) >= escalate_at):
        return None
    return block | {"escalate_at": escalate_at}


def _step(threshold: float, scores: list[float]) -> dict[str, Any]:
    """A calibration that only knows the threshold: certain up to the next score below it."""
    below = max((score for score in scores if score < threshold), default=threshold - 1)
    points = [[below, 1.0], [threshold, 0.0]]
    return {"kind": "cascade", "escalate_at": 0.5, "score_tokens": SCORE_TOKENS, "calibration": points}


def _pair(record: PairRecord) -> Pair:
    return Pair(
        record.student.mean_logprob,
        record.verdict.harm,
        record.audit_probability,
        record.teacher.cost_nano_usd / NANO_PER_USD,
        record.student.cost_nano_usd / NANO_PER_USD,
    )


def _weight(record: PairRecord) -> float:
    return 1 / record.audit_probability


def _text(route: str, advice: Advice, policy: dict[str, Any] | None, traffic: Traffic) -> str:
    point = advice.recommended
    head = (
        f"Route {route}: {advice.pairs_used} pairs; in {traffic.window_s / 3600:.1f} h {traffic.fitting} requests that "
        f"fit the student, {traffic.other} that do not and stay with the teacher."
    )
    if point is None or policy is None:
        more = _more(advice.pairs_needed)
        return f"{head}\nNothing is certified at a loss of at most {advice.max_loss:.2%}: {advice.reason}\n{more}"
    sign = "saves" if point.savings_usd_per_day >= 0 else "costs"
    low, high = point.savings_interval_usd_per_day.low, point.savings_interval_usd_per_day.high
    lines = [
        head,
        f"The student on {point.student_share:.1%} of this traffic {sign} "
        f"${abs(point.savings_usd_per_day):,.2f} a day [{low:,.2f}, {high:,.2f}] at a loss of at most "
        f"{point.loss_upper_bound:.2%} ({advice.confidence:.0%}; seen: {point.loss_estimate:.2%}).",
        "",
        "Set:",
        yaml.safe_dump({"routes": {route: {"mode": "route", "policy": policy}}}, sort_keys=False).rstrip(),
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
