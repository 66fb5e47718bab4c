"""Whose mistake a disagreement is: every rule of the table, in its order, and what must hold whatever was seen."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.evidence.records import ArmAnswer, VerdictRecord
from router.evidence.triage import triage

FULL = ArmAnswer(model="m", text="the answer is 4", finish_reason="stop")
CALL = ArmAnswer(model="m", tool_calls=[{"name": "f", "arguments": "{}"}], finish_reason="tool_calls")
FAILED = ArmAnswer(model="m", error="status 500")
EMPTY = ArmAnswer(model="m", finish_reason="stop")
CUT = ArmAnswer(model="m", text="the ans", finish_reason="length")
REFUSED = ArmAnswer(model="m", text="I'm sorry, but I can't help with that.", finish_reason="stop")


def verdict(**more: Any) -> VerdictRecord:
    """A harmful difference of texts that nobody judged."""
    base: dict[str, Any] = {"same": False, "score": 0.0, "harm": True, "kind": "text", "diff": "", "comparator": "text"}
    return VerdictRecord(**{**base, "version": 1, **more})


def checks(teacher: bool, student: bool) -> dict[str, bool]:
    return {"teacher_valid": teacher, "student_valid": student}


DIFFERS = verdict()
SAME = verdict(same=True, score=1.0, harm=False, kind="agree")
HARMLESS = verdict(harm=False)
FOR_TEACHER = verdict(preferred="teacher", judged=True, kind="judge")
FOR_STUDENT = verdict(preferred="student", judged=True, kind="judge", harm=False)
TIE = verdict(preferred="tie", judged=True, kind="judge")
TESTED = verdict(preferred="teacher", kind="code")
TESTED_FOR_STUDENT = verdict(preferred="student", kind="code", harm=False)
TORN = verdict(kind="ambiguous", judged=True)
NO_VERDICT = verdict(kind="comparator_failed")
NO_DRAW = verdict(kind="error", harm=False)

TABLE: list[tuple[str, VerdictRecord, ArmAnswer, ArmAnswer, VerdictRecord | None, VerdictRecord | None, str]] = [
    ("agreement", SAME, FULL, FULL, DIFFERS, DIFFERS, ""),
    ("two refusals", verdict(same=True, kind="refusal", harm=False), REFUSED, REFUSED, None, None, ""),
    ("student failed", DIFFERS, FULL, FAILED, None, None, "student_wrong outcome"),
    ("student empty", DIFFERS, FULL, EMPTY, None, None, "student_wrong outcome"),
    ("student cut off", DIFFERS, FULL, CUT, None, None, "student_wrong outcome"),
    ("student refused", DIFFERS, FULL, REFUSED, None, None, "student_wrong outcome"),
    ("student refused a tool call", DIFFERS, CALL, REFUSED, None, None, "student_wrong outcome"),
    ("student refused, teacher firm", DIFFERS, FULL, REFUSED, SAME, DIFFERS, "student_wrong outcome"),
    ("student refused, second draw too", DIFFERS, FULL, REFUSED, DIFFERS, SAME, "equivalent second_draw"),
    ("student cut off, second draw too", DIFFERS, FULL, CUT, DIFFERS, SAME, "student_wrong outcome"),
    ("an outcome outweighs checks", verdict(checks=checks(False, True)), FULL, FAILED, None, None,
     "student_wrong outcome"),
    ("teacher failed", verdict(kind="error", harm=False), FAILED, FULL, None, None, "teacher_wrong outcome"),
    ("teacher empty", DIFFERS, EMPTY, FULL, SAME, DIFFERS, "teacher_wrong outcome"),
    ("teacher cut off", DIFFERS, CUT, CALL, None, None, "teacher_wrong outcome"),
    ("both without an answer", DIFFERS, FAILED, CUT, None, None, "ambiguous outcome"),
    ("one refused, one empty", DIFFERS, REFUSED, EMPTY, SAME, DIFFERS, "ambiguous outcome"),
    ("both cut off", DIFFERS, CUT, CUT, None, None, "ambiguous none"),
    ("both cut off, teacher firm", DIFFERS, CUT, CUT, SAME, DIFFERS, "student_wrong second_draw"),
    ("only the teacher refused", DIFFERS, REFUSED, FULL, None, None, "ambiguous none"),
    ("teacher refused twice", DIFFERS, REFUSED, FULL, verdict(same=True, harm=False, kind="refusal"), DIFFERS,
     "student_wrong second_draw"),
    ("teacher refused once", DIFFERS, REFUSED, FULL, verdict(kind="refusal"), SAME, "equivalent second_draw"),
    ("teacher refused, judge", FOR_STUDENT, REFUSED, FULL, None, None, "teacher_wrong judge"),
    ("student breaks the schema", verdict(checks=checks(True, False), preferred="teacher"), FULL, FULL, None, None,
     "student_wrong checks"),
    ("teacher breaks it", verdict(checks=checks(False, True), preferred="student", harm=False), FULL, FULL, None, None,
     "teacher_wrong checks"),
    ("both break it", verdict(checks=checks(False, False)), FULL, FULL, None, None, "ambiguous checks"),
    ("checks outweigh the second draw", verdict(checks=checks(False, True)), FULL, FULL, SAME, DIFFERS,
     "teacher_wrong checks"),
    ("valid is not right", verdict(checks=checks(True, True)), FULL, FULL, SAME, DIFFERS, "student_wrong second_draw"),
    ("half a check is none", verdict(checks={"student_valid": False}), FULL, FULL, None, None, "ambiguous none"),
    ("harmless", HARMLESS, FULL, FULL, None, None, "equivalent checks"),
    ("harmless, said a judge", verdict(harm=False, judged=True), FULL, FULL, SAME, DIFFERS, "equivalent judge"),
    ("a tie", TIE, FULL, FULL, SAME, DIFFERS, "equivalent judge"),
    ("tests for the student", TESTED_FOR_STUDENT, FULL, FULL, None, None, "teacher_wrong checks"),
    ("judge for the student", FOR_STUDENT, FULL, FULL, SAME, DIFFERS, "teacher_wrong judge"),
    ("judge for the student, second draw too", FOR_STUDENT, FULL, FULL, DIFFERS, SAME, "teacher_wrong judge"),
    ("judge for the teacher", FOR_TEACHER, FULL, FULL, None, None, "student_wrong judge"),
    ("judge for the teacher, which is torn", FOR_TEACHER, FULL, FULL, DIFFERS, DIFFERS, "student_wrong judge"),
    ("judge for the teacher, second draw against", FOR_TEACHER, FULL, FULL, DIFFERS, SAME, "equivalent second_draw"),
    ("tests for the teacher", TESTED, FULL, FULL, None, None, "student_wrong checks"),
    ("a torn judge", TORN, FULL, FULL, SAME, DIFFERS, "ambiguous judge"),
    ("a torn judge, second draw agrees", TORN, FULL, FULL, SAME, SAME, "equivalent second_draw"),
    ("no verdict", NO_VERDICT, FULL, FULL, SAME, DIFFERS, "ambiguous none"),
    ("the teacher is firm", DIFFERS, FULL, FULL, SAME, DIFFERS, "student_wrong second_draw"),
    ("firm but for harmless words", DIFFERS, FULL, FULL, HARMLESS, DIFFERS, "student_wrong second_draw"),
    ("the teacher is not firm", DIFFERS, FULL, FULL, DIFFERS, DIFFERS, "ambiguous second_draw"),
    ("it once said what the student says", DIFFERS, FULL, FULL, DIFFERS, SAME, "equivalent second_draw"),
    ("nearly the student's words", DIFFERS, FULL, FULL, DIFFERS, HARMLESS, "equivalent second_draw"),
    ("a chain of agreement", DIFFERS, FULL, FULL, SAME, SAME, "equivalent second_draw"),
    ("a worse second draw is no agreement", DIFFERS, FULL, FULL, DIFFERS, FOR_STUDENT, "ambiguous second_draw"),
    ("the second draw failed", DIFFERS, FULL, FULL, NO_DRAW, NO_DRAW, "ambiguous none"),
    ("the second draw is empty", DIFFERS, FULL, FULL, verdict(kind="empty"), DIFFERS, "ambiguous none"),
    ("the second draw was cut off", DIFFERS, FULL, FULL, verdict(kind="truncated"), SAME, "ambiguous none"),
    ("the second draw could not be compared", DIFFERS, FULL, FULL, NO_VERDICT, NO_VERDICT, "ambiguous none"),
    ("nothing known", DIFFERS, FULL, FULL, None, None, "ambiguous none"),
]  # fmt: skip


@pytest.mark.parametrize(("seen", "teacher", "student", "second", "student_second", "told"),
                         [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])  # fmt: skip
def test_the_first_rule_that_speaks_decides(
    seen: VerdictRecord,
    teacher: ArmAnswer,
    student: ArmAnswer,
    second: VerdictRecord | None,
    student_second: VerdictRecord | None,
    told: str,
) -> None:
    found = triage(seen, teacher, student, second, student_second)
    assert (f"{found.label} {found.basis}" if found else "") == told


ANSWERS = st.sampled_from([FULL, CALL, FAILED, EMPTY, CUT, REFUSED])
VERDICTS = st.builds(
    verdict,
    same=st.booleans(),
    harm=st.booleans(),
    kind=st.sampled_from(["agree", "text", "json", "judge", "ambiguous", "comparator_failed", "error", "refusal"]),
    preferred=st.sampled_from([None, "teacher", "student", "tie"]),
    judged=st.booleans(),
    checks=st.dictionaries(st.sampled_from(["teacher_valid", "student_valid", "other"]), st.booleans()),
)
MAYBE = st.none() | VERDICTS


@given(VERDICTS, ANSWERS, ANSWERS, MAYBE, MAYBE)
def test_it_tells_of_every_disagreement_and_of_no_agreement(
    seen: VerdictRecord,
    teacher: ArmAnswer,
    student: ArmAnswer,
    second: VerdictRecord | None,
    third: VerdictRecord | None,
) -> None:
    assert (triage(seen, teacher, student, second, third) is None) == seen.same


@given(VERDICTS, ANSWERS, ANSWERS, MAYBE, MAYBE)
def test_nothing_is_learnt_from_a_teacher_that_gave_no_answer_or_a_worse_one(
    seen: VerdictRecord,
    teacher: ArmAnswer,
    student: ArmAnswer,
    second: VerdictRecord | None,
    third: VerdictRecord | None,
) -> None:
    found = triage(seen, teacher, student, second, third)
    if found and found.label == "student_wrong":
        assert teacher not in (FAILED, EMPTY)
        assert teacher is not CUT or student is CUT
        if found.basis != "outcome" and seen.checks.get("student_valid") is not False:
            assert seen.harm and seen.preferred not in ("student", "tie")


@given(VERDICTS, ANSWERS, ANSWERS, MAYBE, MAYBE)
def test_a_second_draw_is_named_only_where_there_was_one(
    seen: VerdictRecord,
    teacher: ArmAnswer,
    student: ArmAnswer,
    second: VerdictRecord | None,
    third: VerdictRecord | None,
) -> None:
    found = triage(seen, teacher, student, second, third)
    assert found is None or found.basis != "second_draw" or second is not None
    assert found is None or found.basis != "human"


@given(VERDICTS, ANSWERS, ANSWERS)
def test_a_second_draw_that_failed_changes_nothing(seen: VerdictRecord, teacher: ArmAnswer, student: ArmAnswer) -> None:
    assert triage(seen, teacher, student, NO_DRAW, NO_DRAW) == triage(seen, teacher, student)
