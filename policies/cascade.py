"""`cascade`: the student answers; a gate looks at the answer and accepts it, or asks the teacher.

`gate: logprob` scores an answer by the mean log-probability of its first `score_tokens` tokens (Gupta et al. 2024,
"Language Model Cascades", arXiv 2404.10136). Calibration points turn it into P(student wrong), between points
linearly; without points P(wrong) = 1 - exp(score), which is what the model itself believes and is known to be
over-confident. `gate: learned` asks a trained estimator, and the log-probabilities until one is promoted. `gate:
checks` looks at nothing but what further answers and the user's own checks say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import exp
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from policies.base import Controls, Decision, GateNeeds, Live, Policy, RequestView, require_point
from policies.calibration import Calibration
from policies.control.compose import Choice, choose
from policies.control.settings import ControlledConfig, LearnedConfig
from policies.gate.agreement import Agreement, with_agreement
from policies.gate.answer import Signals, StudentAnswer
from policies.gate.asks import Asks
from policies.gate.checks import AnyCheck, CheckName
from policies.gate.holdback import beginning
from policies.learn.trained import Score, Slot, Slots, Trained
from policies.query import Query

SCORE_TOKENS = 64

Number = Annotated[float, Field(allow_inf_nan=False)]
Points = tuple[tuple[Number, Number], ...]


@dataclass(frozen=True, slots=True)
class CascadeGate:
    """Escalates from `escalate_at` on, within the route's pace (if `paced`) and floor.

    `trained`: what scores an answer; without it its log-probabilities do, by `calibration`, or else as the model itself
    believes. `needs.tokens` 0: they are not looked at.
    """

    escalate_at: float
    needs: GateNeeds
    calibration: Calibration | None = None
    asks: Asks = field(default_factory=Asks)
    trained: Trained | None = None
    paced: bool = False

    @property
    def reads_request(self) -> bool:
        return self.trained is not None

    def score(self, query: Query, answer: StudentAnswer) -> Score | None:
        if not all(answer.checks.values()):
            return Score(1.0)
        if self.trained is not None:
            return self.trained.score(query, beginning(self.needs, answer))
        p_wrong = self._p_wrong(answer.signals)
        agrees = self.asks.agreement is not None
        if agrees and answer.agreement is not None:
            return Score(with_agreement(p_wrong, answer.agreement, answer.samples))
        if p_wrong is not None:
            return Score(p_wrong)
        only_checks = self.needs.tokens == 0 and not agrees
        return Score(0.0) if only_checks else None

    def choose(self, loss: float, live: Live, teacher_cost_usd: float) -> Choice:
        return choose(
            loss,
            teacher_cost_usd,
            threshold=self.escalate_at,
            pace_usd=(live.pace_usd or 0.0) if self.paced else None,
            floor=live.floor,
        )

    def _p_wrong(self, signals: Signals | None) -> float | None:
        if signals is None or self.needs.tokens == 0:
            return None
        if self.calibration is None:
            return 1.0 - exp(min(0.0, signals.mean))
        return self.calibration.p_wrong(signals.mean)


@dataclass(frozen=True, slots=True)
class Cascade:
    """`untrained`: its gate as it is before anything is in the `slot`; without a slot it learns nothing.

    `untrained_scorer`: the version of how that gate scores.
    """

    config_version: str
    untrained: CascadeGate
    untrained_scorer: str
    slot: Slot | None = None
    kind: str = "cascade"

    @property
    def trained(self) -> Trained | None:
        """What scores answers; not one that has learned from whole answers where only their beginning is seen."""
        trained = self.slot.current if self.slot else None
        if trained is None or not (self.untrained.needs.whole or trained.after == "sentence"):
            return None
        return trained

    @property
    def version(self) -> str:
        if self.slot is None:
            return self.config_version
        trained = self.trained
        return f"{self.config_version}+{trained.version if trained else 'none'}"

    @property
    def scorer(self) -> str:
        trained = self.trained
        if trained is None:
            return self.untrained_scorer
        return f"{trained.version}-{self.untrained_scorer}" if self.untrained.asks else trained.version

    @property
    def gate(self) -> CascadeGate:
        """The gate in force."""
        trained = self.trained
        return self.untrained if trained is None else replace(self.untrained, trained=trained)

    async def decide(self, request: RequestView, live: Live) -> Decision:
        """Where the floor certifies nothing the student is not even asked; the gate still says what it would say."""
        if live.floor is not None and live.floor <= 0:
            return Decision("teacher", "floor", 1.0, self.gate, threshold=0.0)
        return Decision("student", "cascade", 0.0, self.gate)

    def at(self, point: float) -> Policy:
        require_point(point)
        moved = replace(self.untrained, escalate_at=point)
        return replace(self, untrained=moved, config_version=f"{self.config_version}@{point:g}")


class CascadeConfig(LearnedConfig):
    """`{kind: cascade, escalate_at: 0.3, calibration: [[-1.0, 0.9], [-0.01, 0.02]]}`.

    `calibration`: pairs of mean log-probability (nats, rising) and P(student wrong) (falling).
    """

    point: ClassVar[str | None] = "escalate_at"
    kind: Literal["cascade"]
    gate: Literal["logprob", "learned", "checks"] = Field(default="logprob", description="what scores an answer")
    escalate_at: float = Field(
        default=0.5, ge=0, le=1, description="the teacher is asked from this P(wrong), or expected loss, on"
    )
    score_tokens: int = Field(default=SCORE_TOKENS, ge=1, description="whose log-probabilities are looked at")
    calibration: Points = ()
    decide_after: Literal["tokens", "sentence", "answer"] | None = Field(
        default=None,
        description="how much of an answer a stream is held back for: score_tokens tokens (default with `gate: "
        "logprob`), the first sentence if that comes earlier, or all of it (default elsewhere)",
    )
    agreement: Agreement | None = Field(default=None, description="further answers that this one is compared with")
    checks: dict[CheckName, AnyCheck] = Field(default={}, description="an answer that fails one goes to the teacher")

    @field_validator("calibration")
    @classmethod
    def _usable(cls, points: Points) -> Points:
        _calibration(points)
        return points

    @model_validator(mode="after")
    def _makes_sense(self) -> CascadeConfig:
        problem = next((text for holds, text in self._problems() if holds), None)
        if problem:
            raise ValueError(problem)
        return self

    def _problems(self) -> tuple[tuple[object, str], ...]:
        early = self.decide_after in ("tokens", "sentence")
        learned = self.gate == "learned"
        return (
            (
                early and self.asks(),
                f"agreement and checks look at the whole answer: decide_after cannot be {self.decide_after}",
            ),
            (
                self.gate == "checks" and not self.asks(),
                "gate: checks has nothing to go by: give agreement or checks",
            ),
            (
                self.gate == "checks" and early,
                f"gate: checks looks at the whole answer: decide_after cannot be {self.decide_after}",
            ),
            (
                learned and self.decide_after == "tokens",
                "a learned gate reads the text: decide_after is `answer`, or `sentence`",
            ),
            (
                learned and self.score_tokens != SCORE_TOKENS,
                f"a learned gate is trained on the first {SCORE_TOKENS} tokens: leave score_tokens out",
            ),
            (not learned and (self.trained or self.file), "`trained` and `file` belong to gate: learned"),
        )

    def controls(self) -> Controls:
        return Controls(self.escalate_at, self.pace, self.floor)

    def asks(self) -> Asks:
        return Asks(self.agreement, MappingProxyType(dict(self.checks)))

    def trained_for(self, route: str) -> str | None:
        return self.slot_name(route) if self.gate == "learned" else None

    def training_options(self) -> Mapping[str, Any]:
        return {"after": "sentence"} if self.decide_after == "sentence" else {}

    def build(self, route: str, slots: Slots) -> Policy:
        trained = self.trained_for(route)
        gate = CascadeGate(
            self.escalate_at,
            self.needs,
            _calibration(self.calibration),
            self.asks(),
            paced=self.pace is not None,
        )
        scorer = self.version(without=("escalate_at", *ControlledConfig.model_fields))
        return Cascade(self.version(), gate, scorer, slots.named(trained) if trained else None)

    @property
    def needs(self) -> GateNeeds:
        """What its gate looks at."""
        early = "tokens" if self.gate == "logprob" else "answer"
        after = "answer" if self.asks() else self.decide_after or early
        return GateNeeds(
            tokens=0 if self.gate == "checks" else self.score_tokens,
            sentence=after == "sentence",
            whole=after == "answer",
            entropies=self.gate == "learned" and after == "answer",
        )


def _calibration(points: Points) -> Calibration | None:
    """Raises ValueError where the points are no calibration."""
    return Calibration(tuple(score for score, _ in points), tuple(p for _, p in points)) if points else None
