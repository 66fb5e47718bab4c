"""Numeric answers: the final number of each answer, equal within a tolerance; the rest of the text does not count.

50% is 0.5, and a unit or percent sign left out on one side agrees with any. Where an answer has no final number, both
are compared as text. Reading the numbers is in `quantity`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from router.evidence.compare.base import Answer, Verdict, agree, differ, side_by_side
from router.evidence.compare.quantity import equal, final_number, is_number
from router.evidence.compare.text import normalise


class Number:
    name: ClassVar[str] = "number"
    version: ClassVar[int] = 1

    def applies(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> bool:
        """One answer is little more than a number; either, as the verdict must not depend on who gave it."""
        if teacher.called or student.called:
            return False
        return is_number(teacher.text) or is_number(student.text)

    def compare(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> Verdict:
        theirs, ours = final_number(teacher.text), final_number(student.text)
        if theirs is None or ours is None:
            same = normalise(teacher.text) == normalise(student.text)
        else:
            same = equal(theirs, ours)
        return agree(self) if same else differ(self, "number", side_by_side(teacher.text, student.text))
