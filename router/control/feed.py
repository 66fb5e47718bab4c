"""What finished requests and comparisons tell a route's controllers, and the memory of its conversations."""

from __future__ import annotations

from policies.base import Arm
from policies.certify.records import Audited
from policies.learn.trained import Score
from router.evidence.records import ArmAnswer
from router.exchange import Trace
from router.runtime import RouteRuntime

FORCED = frozenset({"budget", "down", "fallback"})  # reasons: the teacher could not answer, whatever was wanted


def is_covered(trace: Trace) -> bool:
    """Whether an audit could tell what a floor's request loses: not where the student answered because nobody else
    could, without having been scored, or without a chance of being audited."""
    if trace.arm != "student" and not trace.student_broke:
        return True
    unscored = trace.loss is None and not trace.student_broke
    return not (_is_forced(trace) or unscored or trace.audit_probability <= 0)


def answered(trace: Trace) -> None:
    """A request has its answer: what that took, and, where it counts, who gave it. One that broke is the student's."""
    route = trace.route
    if route is None:
        return
    if trace.outcome == "ok" and trace.arm is not None and trace.served is not None and trace.served.usage is not None:
        route.live.answered(trace.request, trace.arm, trace.served.usage)
    arm = "student" if trace.student_broke else trace.arm if trace.outcome == "ok" else None
    if arm is None or trace.excluded is not None or trace.decision is None:
        return
    covered = is_covered(trace)
    if trace.loss is not None:
        gated = trace.decision.gate is not None
        own = trace.target.policy is route.policy  # not an operating point that the client chose
        route.live.decided(
            trace.request,
            trace.scored_by,
            trace.loss,
            trace.novelty or 0.0,
            arm,
            gated=gated,
            paced=own,
            covered=covered,
        )
    elif not covered:
        route.live.uncovered(trace.scored_by)


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
    if not is_covered(trace):
        return
    score = _score(trace, student, shadow)
    if score is None:
        return
    arm: Arm = "student" if trace.arm == "student" or trace.student_broke else "teacher"
    if trace.loss is None:
        probability = trace.audit_probability
        route.live.decided(
            trace.request, trace.scored_by, score.loss, score.novelty, arm, gated=True, probability=probability
        )
    route.live.audited(
        trace.scored_by,
        Audited(
            score=score.loss,
            harm=1.0 if harm is None else harm,
            probability=trace.audit_probability,
            time_s=trace.wall,
            student=arm == "student",
        ),
    )


def _is_forced(trace: Trace) -> bool:
    """Whether the student was asked because the teacher could not answer."""
    if trace.reason:
        return trace.reason.partition(":")[0] in FORCED
    return trace.fell_back or any(guard.startswith("budget:") for guard in trace.guards)  # nobody answered


def _score(trace: Trace, student: ArmAnswer | None, shadow: Score | None) -> Score | None:
    if trace.loss is not None:
        return Score(trace.loss, trace.novelty or 0.0)
    gate = trace.decision.gate if trace.decision else None
    if gate is None:
        return None
    if student is None or student.error is not None:
        return Score(1.0)
    return shadow
