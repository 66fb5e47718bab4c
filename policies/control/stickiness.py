"""Stickiness: a conversation keeps its model unless another one is worth the prefix cache that leaving would lose.

The provider of the model that answered last has the conversation's prefix cached: its next request there costs
`(input price - cached input price) x cached tokens` less than the list prices say. Let c be what the teacher costs
beyond the student with both caches cold. Then the teacher costs c + k more than a student whose cache saves k, and
c - k more where it is the teacher's cache that saves k. A bar of b at c says that a unit of loss is worth c/b USD, so
that the bar becomes b (c + k)/c towards the teacher and b (c - k)/c back to the student.

Between the two bars nothing changes: a conversation does not flap. Where caches are not priced, k is at least `margin`
of c, so that a loss that wavers about the bar still does not move it. What it does not know: whether the provider
really kept the prefix, and what later turns will cost.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from policies.base import Arm

TOKENS_PER_PRICE = 1_000_000
MOST = 1e100  # times the extra cost: more is as good as any, and a bar of 0 stays 0


class StickySettings(BaseModel):
    """`sticky: {ttl_s: 300, margin: 0.1}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    ttl_s: float = Field(
        default=300, gt=0, le=86_400, allow_inf_nan=False, description="how long providers keep an unused prefix cached"
    )
    margin: float = Field(
        default=0.1, ge=0, le=1, description="least share of the extra cost that changing the model must be worth"
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """The model that a conversation has: its arm, and the USD that its warm cache saves on the next request.

    `margin`: of the extra cost, what a change must be worth at least.
    """

    arm: Arm
    switch_cost_usd: float
    margin: float = 0.0

    def factor(self, extra_cost_usd: float) -> float:
        """What the bar is multiplied by; `extra_cost_usd` is the teacher's beyond the student's, both caches cold."""
        warm = min(self.switch_cost_usd / extra_cost_usd, MOST) if extra_cost_usd > 0 else 0.0
        share = max(self.margin, warm)
        return 1.0 + share if self.arm == "student" else max(0.0, 1.0 - share)


def lost_cache_usd(cached_tokens: int, input_usd_per_mtok: float, cached_input_usd_per_mtok: float) -> float:
    """What a warm cache of so many tokens saves on one request; 0 where cached input is not cheaper."""
    return max(0.0, input_usd_per_mtok - cached_input_usd_per_mtok) * cached_tokens / TOKENS_PER_PRICE
