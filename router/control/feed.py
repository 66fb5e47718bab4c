"""What finished requests and comparisons tell a route's controllers, and the memory of its conversations."""

from __future__ import annotations

from policies.certify.records import Audited
from policies.learn.trained import Score
from router.evidence.records import ArmAnswer
from router.exchange import Trace
from router.gate.seen import seen, worst
from router.runtime import RouteRuntime


def answered(trace: Trace) -> None:
    """A request has its answer: what that took, and, where it was scored and counts, who gave it."""
    route, arm = trace.route, trace.arm
    if route is None or arm is None or trace.outcome != "ok":
        return
    usage = trace.served.usage if trace.served else None
    if usage is not None:
        route.live.answered(trace.request, arm, usage)
    if trace.excluded is None and trace.loss is not None and trace.decision is not None:
        gated = trace.decision.gate is not None
        own = trace.target.policy is route.policy  # not an operating point that the client chose
        route.live.decided(
            trace.request, trace.scored_by, trace.loss, trace.novelty or 0.0, arm, gated=gated, paced=own
        )


def compared(
    trace: Trace, route: RouteRuntime, student: ArmAnswer | None, harm: float | None, shadow: Score | None = None
) -> None:
    """A request of the uniform audit has its verdict; `harm` None: nobody could tell, which counts as harm.

    Where the teacher answered before a gate could look, the student's answer is scored now, and stands for those of its
    kind that nobody scored: else a floor that gives everything to the teacher would never hear of scores. `student`
    None: it broke.
    """
    if trace.sample != "audit" or trace.audit_probability <= 0 or route.live.floor_settings is None:
        return
    score = _score(trace, route, student, shadow)
    if score is None:
        return
    if trace.loss is None:
        arm, probability = trace.arm or "student", trace.audit_probability
        route.live.decided(
            trace.request, trace.scored_by, score.loss, score.novelty, arm, gated=True, probability=probability
        )
    route.live.audited(
        trace.scored_by,
        Audited(
            score=score.loss,
            novelty=score.novelty,
            harm=1.0 if harm is None else harm,
            probability=trace.audit_probability,
            time_s=trace.wall,
            student=(trace.arm or "student") == "student",
        ),
    )


def _score(trace: Trace, route: RouteRuntime, student: ArmAnswer | None, shadow: Score | None) -> Score | None:
    if trace.loss is not None:
        return Score(trace.loss, trace.novelty or 0.0)
    gate = trace.decision.gate if trace.decision else None
    if gate is None:
        return None
    if student is None or student.error is not None:
        return Score(1.0)
    if shadow is None and trace.arm == "student" and trace.served is not None:  # a spent budget: no gate was asked
        return worst(gate, trace.request, route.name, seen(trace.served, gate.needs)) or Score(1.0)
    return shadow
