"""The comparator that chooses: the first of its alternatives that applies decides, and is named in the verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from router.evidence.compare.base import Answer, Comparator, PureComparator, Services, Verdict


@dataclass(frozen=True, slots=True)
class Auto:
    """`alternatives`: what says whether a kind fits, and who then compares. The last resort is `default`."""

    alternatives: tuple[tuple[PureComparator, Comparator], ...]
    default: Comparator
    name: str = "auto"
    version: ClassVar[int] = 3

    def applies(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> bool:
        return True

    async def compare(
        self, request: Mapping[str, Any], teacher: Answer, student: Answer, services: Services
    ) -> Verdict:
        chosen = await asyncio.to_thread(self.choose, request, teacher, student)
        return await chosen.compare(request, teacher, student, services)

    def choose(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> Comparator:
        """Who compares these two."""
        fitting = (who for kind, who in self.alternatives if kind.applies(request, teacher, student))
        return next(fitting, self.default)
