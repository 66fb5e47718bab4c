"""The `policy:` block that takes exactly the decisions of an advised operating point."""

from __future__ import annotations

from typing import Any

from policies.advise import Point
from policies.calibration import Calibration, fit
from policies.cascade import SCORE_TOKENS
from router.evidence.records import PairRecord

MIN_FIT_PAIRS = 16
TILT = 1e-5

Points = list[tuple[float, float]]


def policy_block(point: Point, records: list[PairRecord]) -> dict[str, Any]:
    """The `policy:` block that takes the decisions of `point`."""
    if point.kind == "split" or point.threshold is None:
        return {"kind": "split", "student_share": round(point.student_share, 4)}
    scored = [record for record in records if record.student.mean_logprob is not None]
    scores = [record.student.mean_logprob for record in scored if record.student.mean_logprob is not None]
    if len(scores) >= MIN_FIT_PAIRS:
        calibration = fit(scores, [record.verdict.harm for record in scored], [_weight(record) for record in scored])
        curve = _tilted(_corners(list(zip(calibration.scores, calibration.wrong, strict=True))))
        for points in (_rounded(curve), curve):  # a sure student's scores may lie too close together to be rounded
            if (exact := _at_threshold(points, point.threshold, scores)) is not None:
                return exact
    return _step(point.threshold, scores)


def _corners(points: Points) -> Points:
    """The curve without the points inside its flat stretches."""
    inside = {i for i in range(1, len(points) - 1) if points[i - 1][1] == points[i][1] == points[i + 1][1]}
    return [point for i, point in enumerate(points) if i not in inside]


def _tilted(points: Points) -> Points:
    """Flat stretches would put scores on both sides of the threshold at one probability."""
    return [(score, wrong * (1 - i * TILT)) for i, (score, wrong) in enumerate(points)]


def _rounded(points: Points) -> Points:
    return [(float(f"{score:.6g}"), float(f"{wrong:.6g}")) for score, wrong in points]


def _at_threshold(points: Points, threshold: float, scores: list[float]) -> dict[str, Any] | None:
    """`block` at the operating point that accepts scores from `threshold` on; None if no such point exists."""
    try:
        calibration = Calibration(tuple(score for score, _ in points), tuple(wrong for _, wrong in points))
    except ValueError:
        return None  # rounded until two scores were one
    below = [calibration.p_wrong(score) for score in scores if score < threshold]
    accepted = calibration.p_wrong(threshold)
    escalate_at = (min(below) + accepted) / 2 if below else min(1.0, accepted + TILT)
    if not accepted < escalate_at or (below and not min(below) >= escalate_at):
        return None
    return _block(escalate_at, points)


def _step(threshold: float, scores: list[float]) -> dict[str, Any]:
    """A calibration that only knows the threshold: certain up to the next score below it."""
    below = max((score for score in scores if score < threshold), default=threshold - 1)
    return _block(0.5, [(below, 1.0), (threshold, 0.0)])


def _block(escalate_at: float, points: Points) -> dict[str, Any]:
    calibration = [list(point) for point in points]
    return {"kind": "cascade", "escalate_at": escalate_at, "score_tokens": SCORE_TOKENS, "calibration": calibration}


def _weight(record: PairRecord) -> float:
    return 1 / record.probability
