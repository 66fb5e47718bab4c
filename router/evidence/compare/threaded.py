"""A comparator that only computes, off the event loop: a long answer takes milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from router.evidence.compare.base import Answer, PureComparator, Services, Verdict


@dataclass(frozen=True, slots=True)
class Threaded:
    pure: PureComparator

    @property
    def name(self) -> str:
        return self.pure.name

    @property
    def version(self) -> int:
        return self.pure.version

    def applies(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> bool:
        return self.pure.applies(request, teacher, student)

    async def compare(
        self, request: Mapping[str, Any], teacher: Answer, student: Answer, services: Services
    ) -> Verdict:
        return await asyncio.to_thread(self.pure.compare, request, teacher, student)
