"""`cascade`: the student answers; a gate on its mean token log-probability accepts the answer or asks the teacher.

The gate's score is the mean log-probability of the answer's first `score_tokens` tokens (Gupta et al. 2024, "Language
Model Cascades", arXiv 2404.10136). Calibration points turn it into P(student wrong), between points linearly; without
points P(wrong) = 1 - exp(score), which is what the model itself believes and is known to be over-confident.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp
from typing import Annotated, Literal

from pydantic import Field, field_validator

from policies.base import Decision, Policy, PolicyConfig, RequestView
from policies.calibration import Calibration

Score = Annotated[float, Field(allow_inf_nan=False)]
Points = tuple[tuple[Score, Score], ...]


@dataclass(frozen=True, slots=True)
class LogprobGate:
    """Escalates from `escalate_at` on; without a calibration it believes the model's own probability."""

    escalate_at: float
    score_tokens: int
    calibration: Calibration | None

    def p_wrong(self, mean_logprob: float) -> float:
        if self.calibration is None:
            return 1.0 - exp(min(0.0, mean_logprob))
        return self.calibration.p_wrong(mean_logprob)

    def escalates(self, p_wrong: float) -> bool:
        return p_wrong >= self.escalate_at


@dataclass(frozen=True, slots=True)
class Cascade:
    gate: LogprobGate
    version: str
    decision: Decision
    kind: str = "cascade"

    async def decide(self, request: RequestView) -> Decision:
        return self.decision

    def at(self, point: float) -> Policy:
        if not 0 <= point <= 1:
            raise ValueError(f"operating point {point:g} is outside [0, 1]")
        return _cascade(replace(self.gate, escalate_at=point), f"{self.version}@{point:g}")


def _cascade(gate: LogprobGate, version: str) -> Cascade:
    return Cascade(gate, version, Decision("student", "cascade", 0.0, gate))


class CascadeConfig(PolicyConfig):
    """`{kind: cascade, escalate_at: 0.3, calibration: [[-1.0, 0.9], [-0.01, 0.02]]}`.

    `calibration`: pairs of mean log-probability (nats, rising) and P(student wrong) (falling).
    """

    kind: Literal["cascade"]
    escalate_at: float = Field(default=0.5, ge=0, le=1)
    score_tokens: int = Field(default=64, ge=1)
    calibration: Points = ()

    @field_validator("calibration")
    @classmethod
    def _usable(cls, points: Points) -> Points:
        _calibration(points)
        return points

    @property
    def threshold(self) -> float | None:
        return self.escalate_at

    def build(self) -> Policy:
        gate = LogprobGate(self.escalate_at, self.score_tokens, _calibration(self.calibration))
        return _cascade(gate, self.version())


def _calibration(points: Points) -> Calibration | None:
    """Raises ValueError where the points are no calibration."""
    return Calibration(tuple(score for score, _ in points), tuple(p for _, p in points)) if points else None
