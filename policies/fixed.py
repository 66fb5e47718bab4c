"""`fixed`: always the same arm. The baseline and the kill switch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from policies.base import Arm, Decision, Live, Policy, PolicyConfig, RequestView, no_operating_point
from policies.learn.trained import Slots


@dataclass(frozen=True, slots=True)
class Fixed:
    decision: Decision
    version: str
    kind: str = "fixed"
    scorer: str = ""

    async def decide(self, request: RequestView, live: Live) -> Decision:
        return self.decision

    def at(self, point: float) -> Policy:
        raise no_operating_point(self.kind)


class FixedConfig(PolicyConfig):
    """`{kind: fixed, model: teacher}`."""

    kind: Literal["fixed"]
    model: Arm

    def build(self, route: str, slots: Slots) -> Policy:
        return Fixed(Decision(self.model, "fixed", 1.0 if self.model == "teacher" else 0.0), self.version())
