"""What the configuration of every policy shares that holds an expected loss against controllers."""

from __future__ import annotations

from pydantic import Field

from policies.base import PolicyConfig
from policies.certify.floor import FloorSettings


class ControlledConfig(PolicyConfig):
    """`pace`: the teacher's share follows the money; `floor`: the student's share stays where its loss is certified."""

    pace: str | None = Field(
        default=None, min_length=1, description="a budget with target_usd: the teacher's share keeps pace with it"
    )
    floor: FloorSettings | None = Field(default=None, description="the certified bound on the loss over all traffic")
