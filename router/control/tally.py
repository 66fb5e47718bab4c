"""What one worker counted of a route since it last told: histograms of scores, audited pairs, and costs by worth.

Adding is for the request path: a few list and dictionary operations. All is bounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from policies.base import Arm
from policies.certify.bins import NOVELTY_BINS, SCORE_BINS, novelty_bin, score_bin
from policies.certify.records import Audited
from policies.control.pace import worth_bin

MOST_AUDITS = 2_000  # between two tellings


@dataclass(slots=True)
class Tally:
    """Of one route and one version of what scores and answers there.

    `worth`: by `worth_bin` of the requests that the teacher is wanted for if it is worth the price of a pace, how many,
    and what the teacher costs more for them (USD); `taken_usd`: the same of those that are worth it. `uncovered`:
    requests that the student served where no audit could tell, counted in no histogram.
    """

    version: str
    requests: int = 0
    scores: list[int] = field(default_factory=lambda: [0] * SCORE_BINS)
    student: list[int] = field(default_factory=lambda: [0] * SCORE_BINS)
    novelties: list[int] = field(default_factory=lambda: [0] * NOVELTY_BINS)
    audits: list[Audited] = field(default_factory=list)
    worth: dict[int, list[float]] = field(default_factory=dict)
    taken_usd: float = 0.0
    uncovered: int = 0

    def decided(self, loss: float, novelty: float, arm: Arm, times: int = 1) -> None:
        """A request that was scored, and who answered it; `times`: requests that it stands for."""
        at = score_bin(loss)
        self.requests += times
        self.scores[at] += times
        self.novelties[novelty_bin(novelty)] += times
        if arm == "student":
            self.student[at] += times

    def priced(self, loss: float, extra_cost_usd: float, pace_usd: float, times: int = 1) -> None:
        """A request that the teacher is wanted for if it is worth the price of a USD."""
        cost_usd = max(0.0, extra_cost_usd)
        cell = self.worth.setdefault(worth_bin(loss, extra_cost_usd), [0, 0.0])
        cell[0] += times
        cell[1] += times * cost_usd
        if loss >= pace_usd * cost_usd:
            self.taken_usd += times * cost_usd

    def audited(self, pair: Audited) -> None:
        """A pair of the uniform sample has its verdict; what does not fit is as if it had not come back."""
        if len(self.audits) < MOST_AUDITS and math.isfinite(pair.score):
            self.audits.append(pair)

    @property
    def empty(self) -> bool:
        return not (self.requests or self.audits or self.worth or self.uncovered)
