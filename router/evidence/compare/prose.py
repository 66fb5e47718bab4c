"""Texts in sentences: cheap checks first, and a judge for what they leave open.

Clearly the same: the words that say something are the same, in the same order (`words.plainly_same`), or the same
bullet points in another order, where the request speaks of none. Clearly broken: another language, a fraction of the
length, a loop, a refusal on one side, or one sentence with another number, name or negation. What is neither goes to
the judge; without one it counts as a harmful difference, because a paraphrase and a mistake look alike from here. The
cheap checks are symmetric: they do not know which side is right.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from policies.gate.refusals import declines
from router.evidence.compare.base import Answer, Comparator, Services, Verdict, agree, differ, side_by_side
from router.evidence.compare.requests import wants_order
from router.evidence.compare.text import normalise
from router.evidence.compare.words import COMPARED, Words, plainly_same, similarity
from router.language import other_language

Finding = Literal["same", "broken", "unclear"]

ALMOST = 0.85  # similarity from which two texts are one text with a change
MUCH_SHORTER = 0.2
LONG = 40  # words from which the length says something
LOOP = 12  # words in a row that a text repeats
LOOP_SHARE = 0.5
_POINT = re.compile(r"^[ \t]*[-*•][ \t]+(?P<text>.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Checked:
    """What the cheap checks found, why, and how similar the texts are."""

    finding: Finding
    why: str
    score: float


@dataclass(frozen=True, slots=True)
class Prose:
    judge: Comparator | None = None
    name: str = "prose"
    version: ClassVar[int] = 2

    def applies(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> bool:
        return not (teacher.called or student.called)

    async def compare(
        self, request: Mapping[str, Any], teacher: Answer, student: Answer, services: Services
    ) -> Verdict:
        found = await asyncio.to_thread(check, teacher.text, student.text)
        if found.finding == "same":
            return agree(self)
        if not wants_order(request) and await asyncio.to_thread(_same_points, teacher.text, student.text):
            return agree(self)
        if found.finding == "unclear" and self.judge is not None:
            return await self.judge.compare(request, teacher, student, services)
        told = f"{found.why}; {side_by_side(teacher.text, student.text)}"
        return differ(self, "text", told, found.score)


def check(teacher: str, student: str) -> Checked:
    """The cheap checks, in bounded time."""
    if normalise(teacher) == normalise(student):
        return Checked("same", "", 1.0)
    theirs, ours = Words(teacher), Words(student)
    score = similarity(theirs, ours)
    for why in (
        other_language(teacher, student),
        _refusal(teacher, student),
        _length(theirs, ours),
        _loop(theirs, ours),
        _one_change(theirs, ours, score),
    ):
        if why:
            return Checked("broken", why, score)
    if plainly_same(theirs, ours):
        return Checked("same", "", 1.0)
    return Checked("unclear", "not plainly the same", score)


def _same_points(teacher: str, student: str) -> bool:
    """The same bullet points in another order, and the same words around them; numbered points have an order."""
    theirs, ours = (sorted(normalise(point) for point in _POINT.findall(text)) for text in (teacher, student))
    return (
        len(theirs) > 1
        and theirs == ours
        and normalise(_POINT.sub("•", teacher)) == normalise(_POINT.sub("•", student))
    )


def _refusal(teacher: str, student: str) -> str | None:
    sides = declines(teacher), declines(student)
    return None if sides[0] == sides[1] else f"only the {'teacher' if sides[0] else 'student'} declines"


def _length(theirs: Words, ours: Words) -> str | None:
    shorter, longer = sorted((len(theirs), len(ours)))
    if longer < LONG or shorter >= longer * MUCH_SHORTER:
        return None
    return f"{len(theirs)} words and {len(ours)} words"


def _loop(theirs: Words, ours: Words) -> str | None:
    """A side that mostly repeats itself, where the other does not."""
    sides = _repeats(theirs.folded), _repeats(ours.folded)
    return None if sides[0] == sides[1] else f"the {'teacher' if sides[0] else 'student'} repeats itself"


def _repeats(every_word: list[str]) -> bool:
    words = every_word[:COMPARED]
    runs = Counter(tuple(words[start : start + LOOP]) for start in range(len(words) - LOOP + 1))
    again = sum(count - 1 for count in runs.values())
    return len(words) >= 3 * LOOP and again > LOOP_SHARE * len(words)


def _one_change(theirs: Words, ours: Words, score: float) -> str | None:
    """Almost one text, but with another number, name or negation: that is no other wording."""
    if score < ALMOST:
        return None
    if theirs.numbers != ours.numbers:
        return f"other numbers: {_only(theirs.numbers, ours.numbers)}"
    if theirs.negations != ours.negations:
        return "a negation on one side"
    if theirs.names and ours.names and theirs.names != ours.names:
        return f"other names: {_only(Counter(theirs.names), Counter(ours.names))}"
    return None


def _only(theirs: Counter[str], ours: Counter[str]) -> str:
    sides = [", ".join(sorted(left)[:3])[:60] or "none" for left in (theirs - ours, ours - theirs)]
    return f"{sides[0]} and {sides[1]}"
