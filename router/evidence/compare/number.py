"""Numeric answers: the final number of each answer, equal within a tolerance; the rest of the text does not count.

50% is 0.5, units of one dimension are converted, and a unit or percent sign left out on one side agrees with any.
Where the request asks for an estimate, one number may be the other rounded to two digits or more. Where it asks for
number words or Roman numerals, digits are another answer.
Where an answer has no final number, both are compared as text. Reading the numbers is in `quantity`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from router.evidence.compare.base import Answer, Verdict, agree, differ, side_by_side
from router.evidence.compare.quantity import Tolerance, concludes, equal, final_number, is_number, nearly
from router.evidence.compare.requests import wants_exact_form, wishes
from router.evidence.compare.text import normalise

_ESTIMATE = re.compile(r"\b(?:roughly|approximate(?:ly)?|estimate[ds]?|ballpark|ungefähr|environ)\b", re.IGNORECASE)
_ROUNDED = re.compile(r"\b(?:round(?:ed)?|decimals?|significant|nearest)\b", re.IGNORECASE)
_WORDED = re.compile(r"\b(?:roman|in words|written out|words? for|letters|convert\w*|translat\w*)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Number:
    tolerance: Tolerance = field(default_factory=Tolerance)
    name: str = "number"
    version: ClassVar[int] = 3

    def applies(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> bool:
        """One answer is little more than a number, or both end in a marked result; whoever gave which."""
        if teacher.called or student.called:
            return False
        if is_number(teacher.text) or is_number(student.text):
            return True
        return concludes(teacher.text) and concludes(student.text)

    def compare(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> Verdict:
        same = self._equal(request, teacher.text, student.text)
        return agree(self) if same else differ(self, "number", side_by_side(teacher.text, student.text))

    def _equal(self, request: Mapping[str, Any], teacher: str, student: str) -> bool:
        theirs, ours = final_number(teacher), final_number(student)
        if theirs is None or ours is None:
            return normalise(teacher) == normalise(student)
        if _in_words(teacher) != _in_words(student) and (wants_exact_form(request) or _WORDED.search(wishes(request))):
            return False
        if equal(theirs, ours, self.tolerance):
            return True
        asked = wishes(request)
        return _ESTIMATE.search(asked) is not None and _ROUNDED.search(asked) is None and nearly(theirs, ours)


def _in_words(text: str) -> bool:
    return re.search(r"\d", text) is None
