"""A route as a policy reads it live, without anything behind it."""

from __future__ import annotations

from dataclasses import dataclass

from policies.base import RequestView
from policies.control.stickiness import Kept


@dataclass(frozen=True)
class StillRoute:
    """Nothing moves: the controllers say what they were made with. By default there are none, and all is free."""

    route: str = "auto"
    floor: float | None = None
    pace_usd: float | None = None
    extra_usd: float = 0.0
    teacher_usd: float = 0.0
    conversation: Kept | None = None

    def extra_cost_usd(self, request: RequestView) -> float:
        return self.extra_usd

    def teacher_cost_usd(self, request: RequestView) -> float:
        return self.teacher_usd

    def kept(self, request: RequestView) -> Kept | None:
        return self.conversation
