"""From an expected loss to an arm: a threshold, a budget's pace, a certified floor and stickiness together.

Each controller is a bar that the expected loss is held against. Of those that limit the teacher, the strictest counts:
the threshold, and the pace's price times what the teacher costs more. The floor limits the student and wins over them:
from it on the teacher answers whatever it costs. Budgets' hard limits are not known here; they act when the call is
made, and win over everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from policies.base import Arm
from policies.control.stickiness import Kept

Reason = Literal["threshold", "pace", "floor", "sticky"]


@dataclass(frozen=True, slots=True)
class Choice:
    """The arm, the controller that said so, and the bar: the teacher answers from this loss on, 0: always.

    The bar may lie above 1, where no loss reaches it. `reason` "sticky": a new conversation had gone to the other arm.
    `switch_cost_usd`: what the warm cache of the conversation's model saves, lost by leaving it; None for a new one.
    """

    arm: Arm
    reason: Reason
    threshold: float
    switch_cost_usd: float | None = None


def choose(
    loss: float,
    extra_cost_usd: float,
    *,
    threshold: float | None = None,
    pace_usd: float | None = None,
    floor: float | None = None,
    kept: Kept | None = None,
) -> Choice:
    """Who answers a request with this expected loss (in [0, 1]), where the teacher costs `extra_cost_usd` more.

    `threshold`: the loss from which the teacher is wanted; `pace_usd`: the expected loss that a USD must save; `floor`:
    the loss from which the teacher is needed; None: not configured. Raises ValueError where all three are None.
    """
    bar, name = _limit(extra_cost_usd, threshold, pace_usd)
    if floor is not None and floor <= bar:
        bar, name = floor, "floor"
    elif bar == inf:
        raise ValueError("nothing decides: neither a threshold, nor a pace, nor a floor")
    if kept is None:
        return Choice("teacher" if loss >= bar else "student", name, bar)
    return _keeping(kept, loss, extra_cost_usd, bar, name, floor)


def _keeping(kept: Kept, loss: float, extra_cost_usd: float, plain: float, name: Reason, floor: float | None) -> Choice:
    """Between the conversation's bar and that of a new one the model stays; the floor's bar is never raised."""
    bar = plain * kept.factor(extra_cost_usd)
    if floor is not None:
        bar = min(bar, floor)
    stays = (loss >= bar) != (loss >= plain)
    return Choice("teacher" if loss >= bar else "student", "sticky" if stays else name, bar, kept.switch_cost_usd)


def _limit(extra_cost_usd: float, threshold: float | None, pace_usd: float | None) -> tuple[float, Reason]:
    """The strictest bar of those that limit the teacher; infinite without any."""
    priced = None if pace_usd is None else pace_usd * max(0.0, extra_cost_usd)
    if priced is not None and (threshold is None or priced > threshold):
        return priced, "pace"
    return (inf if threshold is None else threshold), "threshold"
