"""`difficulty`: the expected loss of a request, before anybody answers it, decides who does.

A trained estimator gives the expected loss of serving the student; controllers hold it against a threshold, a budget's
pace and a certified floor. The estimator is read from its slot at each decision: a promotion takes effect at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from policies.base import Arm, Controls, Decision, Live, Policy, RequestView, require_point
from policies.control.compose import choose
from policies.control.settings import LearnedConfig
from policies.learn.trained import Slot, Slots


@dataclass(frozen=True, slots=True)
class Difficulty:
    config_version: str
    slot: Slot
    threshold: float | None
    untrained: Decision
    paced: bool
    kind: str = "difficulty"

    @property
    def version(self) -> str:
        return f"{self.config_version}+{self.scorer or 'none'}"

    @property
    def scorer(self) -> str:
        trained = self.slot.current
        return trained.version if trained else ""

    async def decide(self, request: RequestView, live: Live) -> Decision:
        trained = self.slot.current
        if trained is None:
            return self.untrained
        pace_usd, floor = live.pace_usd, live.floor  # of this estimator: another may be promoted while one waits
        query = request.query(live.route)
        if self.slot.encode is not None and trained.encoder:
            query = replace(query, vector=await self.slot.encode(query.encoded))
        score = trained.score(query)
        choice = choose(
            score.loss,
            live.extra_cost_usd(request),
            threshold=self.threshold,
            pace_usd=(pace_usd or 0.0) if self.paced else None,
            floor=floor,
            kept=live.kept(request),
        )
        return Decision(
            choice.arm,
            f"difficulty:{choice.reason}",
            1.0 if choice.arm == "teacher" else 0.0,
            score=score,
            threshold=choice.threshold,
            switch_cost_usd=choice.switch_cost_usd,
        )

    def at(self, point: float) -> Policy:
        require_point(point)
        return replace(self, threshold=point, config_version=f"{self.config_version}@{point:g}")


class DifficultyConfig(LearnedConfig):
    """`{kind: difficulty, threshold: 0.2}`; at least one of threshold, pace and floor must decide."""

    point: ClassVar[str | None] = "threshold"
    kind: Literal["difficulty"]
    threshold: float | None = Field(
        default=None, ge=0, le=1, description="the teacher answers from this expected loss on; route@X overrides it"
    )
    untrained: Arm = Field(default="teacher", description="who answers while nothing is trained")

    @model_validator(mode="after")
    def _decides(self) -> DifficultyConfig:
        if self.threshold is None and self.pace is None and self.floor is None:
            raise ValueError("nothing decides: give a threshold, a pace or a floor")
        if self.floor is not None and self.untrained == "student":
            raise ValueError("a floor certifies nothing before something is trained: `untrained` must be teacher")
        return self

    def controls(self) -> Controls:
        return Controls(self.threshold, self.pace, self.floor, sticks=True)

    def trained_for(self, route: str) -> str:
        return self.slot_name(route)

    def build(self, route: str, slots: Slots) -> Policy:
        return Difficulty(
            self.version(),
            slots.named(self.trained_for(route)),
            self.threshold,
            Decision(self.untrained, "difficulty:untrained", 1.0 if self.untrained == "teacher" else 0.0),
            paced=self.pace is not None,
        )
