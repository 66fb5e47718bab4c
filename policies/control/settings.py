"""What the configurations of policies share that hold an expected loss against controllers, and that learn it."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from policies.base import Controls, PolicyConfig
from policies.certify.floor import FloorSettings
from policies.learn.trained import FILE


class ControlledConfig(PolicyConfig):
    """`pace`: the teacher's share follows the money; `floor`: the student's share stays where its loss is certified."""

    pace: str | None = Field(
        default=None, min_length=1, description="a budget with target_usd: the teacher's share keeps pace with it"
    )
    floor: FloorSettings | None = Field(default=None, description="the certified bound on the loss over all traffic")

    def controls(self) -> Controls:
        """Those of the block; a policy with a threshold of its own adds it."""
        return Controls(None, self.pace, self.floor)


class LearnedConfig(ControlledConfig):
    """`trained`, `file`: which trained policy scores; without them that of the route in the store."""

    trained: str | None = Field(
        default=None, min_length=1, description="name of the trained policy; default: ROUTE:KIND"
    )
    file: Path | None = Field(default=None, description="a trained policy's file, instead of one from the store")

    @model_validator(mode="after")
    def _one_of_both(self) -> LearnedConfig:
        if self.trained and self.file:
            raise ValueError("give `trained` or `file`, not both")
        return self

    def slot_name(self, route: str) -> str:
        """Of the slot that holds the trained policy."""
        return f"{FILE}{self.kind}:{self.file}" if self.file else self.trained or f"{route}:{self.kind}"
