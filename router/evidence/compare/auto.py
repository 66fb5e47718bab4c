"""The comparator that chooses: the first of its alternatives that applies decides, and is named in the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from router.evidence.compare.base import Answer, Comparator, Verdict


class Auto:
    name: ClassVar[str] = "auto"
    version: ClassVar[int] = 1

    def __init__(self, alternatives: Sequence[Comparator], default: Comparator) -> None:
        self._alternatives = tuple(alternatives)
        self._default = default

    def applies(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> bool:
        return True

    def compare(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> Verdict:
        return self.choose(request, teacher, student).compare(request, teacher, student)

    def choose(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> Comparator:
        fitting = (each for each in self._alternatives if each.applies(request, teacher, student))
        return next(fitting, self._default)
