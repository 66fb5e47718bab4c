"""Whose mistake a disagreement is, told from what a machine can know when the pair is written. Pure.

The first rule that speaks decides:

| what is known                                                           | label         | basis        |
|-------------------------------------------------------------------------|---------------|--------------|
| the student failed, was cut off, empty or refused; the teacher answered | student_wrong | outcome      |
| the teacher failed, was cut off or empty; the student answered          | teacher_wrong | outcome      |
| neither brought a full answer                                           | ambiguous     | outcome      |
| only the student's answer breaks its schema, parser or tests            | student_wrong | checks       |
| only the teacher's does                                                 | teacher_wrong | checks       |
| both do                                                                 | ambiguous     | checks       |
| the difference does no harm, or is a tie                                | equivalent    | judge/checks |
| a judge (or a test) prefers the student's answer                        | teacher_wrong | judge/checks |
| the teacher's second draw says what the student said                    | equivalent    | second_draw  |
| the comparison brought no verdict                                       | ambiguous     | judge/none   |
| a judge (or a test) prefers the teacher's answer                        | student_wrong | judge/checks |
| the teacher's second draw says what its first one said                  | student_wrong | second_draw  |
| … says something else again                                             | ambiguous     | second_draw  |
| nothing else                                                            | ambiguous     | none         |

A second draw that agrees with the student outweighs a judge for the teacher, and excuses a refusal: what the teacher
itself says every other time must not be trained away. A teacher that refuses where the student answers may be right to:
only a judge, or its second draw, can tell. A second draw that failed, or that could not be compared, says nothing. What
a person says comes later and counts more than all of this; it is not known here.
"""

from __future__ import annotations

from typing import Literal

from policies.base import Arm
from router.evidence.compare.base import Answer, ToolCall
from router.evidence.compare.outcomes import outcome_verdict
from router.evidence.records import ArmAnswer, Triage, TriageLabel, VerdictRecord

# Verdicts that say nothing about the answers: nobody could tell.
UNDECIDED = frozenset({"ambiguous", "comparator_failed"})
NO_SECOND_DRAW = UNDECIDED | {"error", "empty", "truncated"}
_COMPLETE = Answer(text="an answer", finish_reason="stop")


def triage(
    verdict: VerdictRecord,
    teacher: ArmAnswer,
    student: ArmAnswer,
    second_verdict: VerdictRecord | None = None,
    second_student: VerdictRecord | None = None,
) -> Triage | None:
    """None where the answers agree. `second_verdict`: the teacher's second draw against its first answer;
    `second_student`: the student's answer against the second draw."""
    if verdict.same:
        return None
    agreed = _by_agreement_with_second(second_verdict, second_student)
    return (
        _by_outcome(_outcome(teacher), _outcome(student), agreed)
        or _by_checks(verdict)
        or _harmless(verdict)
        or _preferred(verdict, "student", "teacher_wrong")
        or agreed
        or _undecided(verdict)
        or _preferred(verdict, "teacher", "student_wrong")
        or _by_second_draw(second_verdict)
        or Triage(label="ambiguous", basis="none")
    )


def _outcome(answer: ArmAnswer) -> str | None:
    """The class of an answer that is none: error, refusal, empty, truncated. Beside a full answer it stands out."""
    calls = tuple(ToolCall(call.get("name", ""), call.get("arguments", "")) for call in answer.tool_calls)
    seen = Answer(answer.text, calls, answer.finish_reason, answer.refusal, answer.error)
    found = outcome_verdict(_COMPLETE, seen)
    return found.kind if found else None


def _by_outcome(teacher: str | None, student: str | None, agreed: Triage | None) -> Triage | None:
    if teacher is None and student is None:
        return None
    if teacher is None:
        if student == "refusal" and agreed:
            return None
        return Triage(label="student_wrong", basis="outcome")
    if student is not None:
        # Two texts that were both cut off at the limit were compared as far as they go.
        return None if teacher == student == "truncated" else Triage(label="ambiguous", basis="outcome")
    return None if teacher == "refusal" else Triage(label="teacher_wrong", basis="outcome")


def _by_checks(verdict: VerdictRecord) -> Triage | None:
    teacher, student = verdict.checks.get("teacher_valid"), verdict.checks.get("student_valid")
    if teacher is None or student is None or (teacher and student):
        return None
    if teacher or student:
        return Triage(label="student_wrong" if teacher else "teacher_wrong", basis="checks")
    return Triage(label="ambiguous", basis="checks")


def _harmless(verdict: VerdictRecord) -> Triage | None:
    return Triage(label="equivalent", basis=_word_of(verdict)) if _interchangeable(verdict) else None


def _preferred(verdict: VerdictRecord, arm: Arm, label: TriageLabel) -> Triage | None:
    return Triage(label=label, basis=_word_of(verdict)) if verdict.preferred == arm else None


def _by_agreement_with_second(second: VerdictRecord | None, student: VerdictRecord | None) -> Triage | None:
    if second is None or student is None or second.kind in NO_SECOND_DRAW or not _interchangeable(student):
        return None
    return Triage(label="equivalent", basis="second_draw")


def _undecided(verdict: VerdictRecord) -> Triage | None:
    if verdict.kind not in UNDECIDED:
        return None
    return Triage(label="ambiguous", basis="judge" if verdict.judged else "none")


def _by_second_draw(second: VerdictRecord | None) -> Triage | None:
    if second is None or second.kind in NO_SECOND_DRAW:
        return None
    return Triage(label="student_wrong" if _interchangeable(second) else "ambiguous", basis="second_draw")


def _interchangeable(verdict: VerdictRecord) -> bool:
    """Either answer will do. A difference that does no harm because the student's is the better one is not that."""
    if verdict.kind in UNDECIDED:
        return False
    return verdict.same or verdict.preferred == "tie" or (not verdict.harm and verdict.preferred != "student")


def _word_of(verdict: VerdictRecord) -> Literal["judge", "checks"]:
    return "judge" if verdict.judged else "checks"
