"""Outcome classes: what ended an answer before its content could be compared. Handled once, before any comparator.

In order: error (the call failed), refusal, empty, truncated (one side hit its token limit; where both did, what there
is of the answers is compared). A refusal is OpenAI's `refusal` field, a content filter, or a clear refusal as opening,
in English, German, French, Spanish, Italian, Portuguese, Dutch, Chinese or Japanese.

A teacher that failed leaves nothing that the student could have lost, and neither does one that is empty or was cut
off beside a student that is complete; unless the request provides for an empty answer, or the student's is much shorter
than what there is of the teacher's. A teacher that refuses may be right to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from policies.gate.refusals import declines
from router.evidence.compare.base import Answer, Kind, Verdict, readable, shorten
from router.evidence.compare.requests import wishes

NAME = "outcome"
VERSION = 3
MUCH_SHORTER = 0.2  # of the characters of an answer that was cut off
_EMPTY_WANTED = re.compile(
    r"\b(?:empty|blank|nothing|silent|no (?:output|answer|text|reply|response)"
    r"|(?:do not|don't) (?:answer|reply|respond))\b"
    r"|\b(?:leer\w*|nichts|rien|vide|nada|vac[ií]\w*)\b",
    re.IGNORECASE,
)


def outcome_verdict(
    teacher: Answer, student: Answer, request: Mapping[str, Any] = MappingProxyType({})
) -> Verdict | None:
    """The verdict of the first outcome class that holds for either side; None where the content decides."""
    for kind, holds in _CLASSES:
        on_teacher, on_student = holds(teacher), holds(student)
        if on_teacher and on_student:
            return None if kind == "truncated" else _verdict(kind, same=True, harm=False, diff="")
        if on_teacher or on_student:
            harm = not (on_teacher and _nothing_lost(kind, teacher, student, request))
            return _verdict(kind, same=False, harm=harm, diff=_diff(kind, teacher, student, on_teacher))
    return None


def _nothing_lost(kind: Kind, teacher: Answer, student: Answer, request: Mapping[str, Any]) -> bool:
    """The class stands on the teacher's side alone."""
    if kind == "error":
        return True
    if kind == "empty":
        return not _is_truncated(student) and _EMPTY_WANTED.search(wishes(request)) is None
    return kind == "truncated" and len(student.text) >= MUCH_SHORTER * len(teacher.text)


def is_refusal(answer: Answer) -> bool:
    if answer.refusal is not None or answer.finish_reason == "content_filter":
        return True
    return not answer.tool_calls and declines(answer.text)


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
