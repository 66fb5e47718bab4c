"""`fixed`: always the same arm. The baseline and the kill switch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from policies.base import Arm, Decision, Policy, PolicyConfig, RequestView, no_operating_point


@dataclass(frozen=True, slots=True)
class Fixed:
    decision: Decision
    version: str
    kind: str = "fixed"

    async def decide(self, request: RequestView) -> Decision:
        return self.decision

    def at(self, point: float) -> Policy:
        raise no_operating_point(self.kind)


class FixedConfig(PolicyConfig):
    """`{kind: fixed, model: teacher}`."""

    kind: Literal["fixed"]
    model: Arm

    def build(self) -> Policy:
        return Fixed(Decision(self.model, "fixed", 1.0 if self.model == "teacher" else 0.0), self.version())
