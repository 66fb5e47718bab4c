"""`distill-router advise`: from the pairs of one route to a student share, its loss bound and the YAML to set."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from policies.advise import Advice, Pair, Point, advise
from policies.calibration import fit
from policies.cascade import CascadeConfig
from router.errors import ConfigError
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
    advice = advise([_pair(record) for record in records], requests_per_day(evidence, route), max_loss, confidence)
    policy = policy_block(advice.recommended, records) if advice.recommended else None
    if as_json:
        return json.dumps(asdict(advice) | {"route": route, "policy": policy}, indent=2, default=str)
    return _text(route, advice, policy)


def usable_pairs(evidence: Evidence, settings: Settings, route: str) -> list[PairRecord]:
    """The route's pairs on its current student, without those whose teacher failed: they say nothing of the student."""
    student = settings.config.routes[route].student
    return [
        record
        for record in evidence.pairs()
        if record.route == route and record.student.model == student and record.teacher.error is None
    ]


def requests_per_day(evidence: Evidence, route: str) -> float:
    """The route's traffic, extrapolated from its decision rows."""
    times = [row.t for row in evidence.rows() if row.rt == route and row.o != "shadow"]
    if len(times) < 2:
        return 0.0
    return len(times) * SECONDS_PER_DAY / max(max(times) - min(times), 1.0)


def policy_block(point: Point, records: list[PairRecord]) -> dict[str, Any]:
    """The `policy:` block that takes the decisions of `point`."""
    if point.kind == "split" or point.threshold is None:
        return {"kind": "split", "student_share": round(point.student_share, 4)}
    scored = [record for record in records if record.student.mean_logprob is not None]
    scores = [record.student.mean_logprob for record in scored if record.student.mean_logprob is not None]
    if len(scores) >= MIN_FIT_PAIRS:
        calibration = fit(scores, [record.verdict.harm for record in scored], [_weight(record) for record in scored])
        # A flat stretch would put scores on both sides of the threshold at one probability: tilt it a little.
        points = [
            [round(score, 6), round(wrong - i * 1e-6, 7)]
            for i, (score, wrong) in enumerate(zip(calibration.scores, calibration.wrong, strict=True))
        ]
        block = {"kind": "cascade", "escalate_at": 0.5, "calibration": points}
        if (exact := _at_threshold(block, point.threshold, scores)) is not None:
            return exact
    return _step(point.threshold)


def _at_threshold(block: dict[str, Any], threshold: float, scores: list[float]) -> dict[str, Any] | None:
    """`block` at the operating point that accepts scores from `threshold` on; None if no such point exists."""
    gate = CascadeConfig.model_validate(block).build().gate  # type: ignore[attr-defined]  # a Cascade has one
    below = [gate.p_wrong(score) for score in scores if score < threshold]
    accepted = gate.p_wrong(threshold)
    escalate_at = (min(below) + accepted) / 2 if below else min(1.0, accepted + 1e-6)
    if not accepted < escalate_at or (below and not min(below) >= escalate_at):
        return None
    return block | {"escalate_at": escalate_at}


def _step(threshold: float) -> dict[str, Any]:
    """A calibration that only knows the threshold."""
    return {
        "kind": "cascade",
        "escalate_at": 0.5,
        "calibration": [[round(threshold - 1e-6, 7), 1.0], [round(threshold, 7), 0.0]],
    }


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


def _text(route: str, advice: Advice, policy: dict[str, Any] | None) -> str:
    point = advice.recommended
    head = f"Route {route}: {advice.pairs_used} pairs."
    if point is None or policy is None:
        more = _more(advice.pairs_needed)
        return f"{head}\nNothing is certified at a loss of at most {advice.max_loss:.2%}: {advice.reason}\n{more}"
    sign = "saves" if point.savings_usd_per_day >= 0 else "costs"
    low, high = point.savings_interval_usd_per_day.low, point.savings_interval_usd_per_day.high
    lines = [
        head,
        f"The student on {point.student_share:.1%} of this traffic {sign} ${abs(point.savings_usd_per_day):,.2f} a day "
        f"[{low:,.2f}, {high:,.2f}] at a loss of at most {point.loss_upper_bound:.2%} ({advice.confidence:.0%}; "
        f"seen: {point.loss_estimate:.2%}).",
        "",
        "Set:",
        yaml.safe_dump({"routes": {route: {"mode": "route", "policy": policy}}}, sort_keys=False).rstrip(),
        "",
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
