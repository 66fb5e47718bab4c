"""Outcome classes: what ended an answer before its content could be compared. Handled once, before any comparator.

In order: error (the call failed), refusal, empty, truncated (one side hit its token limit; where both did, what there
is of the answers is compared). A refusal is OpenAI's `refusal` field, a content filter, or a clear refusal as opening.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from router.evidence.compare.base import Answer, Kind, Verdict, readable, shorten

NAME = "outcome"
VERSION = 1
_APOLOGY = (
    r"(?:(?:i['’]?m|i am|we['’]?re|we are)?\s?(?:very |so |really )?(?:sorry|afraid)\b[^a-z]{0,3}(?:but |that )?)?"
)
_CANNOT = (
    r"(?:can['’]?t|cannot|can not|won['’]?t|will not"
    r"|(?:am|['’]m|are|['’]re) (?:not able|unable) to|(?:am|['’]m) not going to)"
)
_ACT = (
    r"(?:help|assist|comply|fulfil+|provide|create|generate|answer|do (?:that|this)|write|discuss|share|support|engage)"
)
_REFUSAL = re.compile(
    rf"\W{{0,3}}(?:as an ai\b.{{0,60}}?,\s)?{_APOLOGY}(?:i|we)\s?{_CANNOT}\s(?:be able to )?{_ACT}\b", re.IGNORECASE
)


def outcome_verdict(teacher: Answer, student: Answer) -> Verdict | None:
    """The verdict of the first outcome class that holds for either side; None where the content decides."""
    for kind, holds in _CLASSES:
        on_teacher, on_student = holds(teacher), holds(student)
        if on_teacher and on_student:
            return None if kind == "truncated" else _verdict(kind, same=True, harm=False, diff="")
        if on_teacher or on_student:
            # A teacher that failed leaves nothing that the student could have lost.
            harm = not (kind == "error" and on_teacher)
            return _verdict(kind, same=False, harm=harm, diff=_diff(kind, teacher, student, on_teacher))
    return None


def is_refusal(answer: Answer) -> bool:
    if answer.refusal is not None or answer.finish_reason == "content_filter":
        return True
    return not answer.tool_calls and _REFUSAL.match(answer.text[:300].lstrip()) is not None


def _is_error(answer: Answer) -> bool:
    return answer.error is not None


def _is_empty(answer: Answer) -> bool:
    return not answer.tool_calls and not answer.text.strip()


def _is_truncated(answer: Answer) -> bool:
    return answer.finish_reason == "length"


_CLASSES: tuple[tuple[Kind, Callable[[Answer], bool]], ...] = (
    ("error", _is_error),
    ("refusal", is_refusal),
    ("empty", _is_empty),
    ("truncated", _is_truncated),
)


def _verdict(kind: Kind, *, same: bool, harm: bool, diff: str) -> Verdict:
    score = 1.0 if same else 0.0
    return Verdict(same=same, score=score, harm=harm, kind=kind, diff=readable(diff), comparator=NAME, version=VERSION)


def _diff(kind: Kind, teacher: Answer, student: Answer, on_teacher: bool) -> str:
    marks = (kind if on_teacher else "complete", "complete" if on_teacher else kind)
    return f"teacher {marks[0]}: {_said(teacher)} student {marks[1]}: {_said(student)}"


def _said(answer: Answer) -> str:
    calls = ", ".join(call.name for call in answer.tool_calls[:3])
    return shorten(answer.error or answer.refusal or answer.text or calls)
