"""The loss of everything that was served so far, estimated from the audits, and how much more may be lost.

The student served S requests; of those, audits with known probabilities p saw losses x. With w = 1/p the total is
estimated by Hájek's ratio S · sum w x / sum w. It errs by the draws alone, with a variance of about
sum (1 - p) w² x²: nothing is assumed of drift, of the score, or of how requests resemble each other. What is not
known: a draw whose result never comes counts as if its loss were that of the others.

Against it stands what the promise allows, alpha times all requests. What remains, less a reserve of some standard
deviations, is the slack. It is kept up to a limit, so that a quiet month does not pay for a bad day.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from policies.bounds import Floats

SOONEST = 1_000  # requests; before, the growth of the noise is taken as it is then


@dataclass(slots=True)
class Ledger:
    """Sums since the start. `weight` of the served audits, `lost` with their losses, `noise` their variance."""

    requests: int = 0
    served: int = 0
    audits: int = 0
    weight: float = 0.0
    lost: float = 0.0
    noise: float = 0.0
    forfeited: float = 0.0

    def count(self, requests: int, served: int) -> None:
        """Requests that were decided, and how many of them the student served."""
        self.requests += requests
        self.served += served

    def audited(self, harms: Floats, probabilities: Floats) -> None:
        """Audits of requests that the student served; shapes (n,)."""
        weights = 1 / probabilities
        self.audits += len(harms)
        self.weight += float(weights.sum())
        self.lost += float(weights @ harms)
        self.noise += float((1 - probabilities) @ (weights * harms) ** 2)

    @property
    def loss(self) -> float:
        """The estimated total."""
        return self.served * self.lost / self.weight if self.weight > 0 else 0.0

    def deviation(self, probability: float) -> float:
        """Its standard deviation, as if one more harmful audit at the usual `probability` had been seen."""
        return math.sqrt(self.noise + (1 - probability) / probability**2)

    def settle(self, alpha: float, reserve: float, limit: float) -> float:
        """The slack in units of loss, at most `limit`; what is beyond is forfeited for good."""
        slack = alpha * self.requests - self.forfeited - self.loss - reserve
        if slack > limit:
            self.forfeited += slack - limit
            return limit
        return slack

    def allowed(self, alpha: float, deviations: float, probability: float, horizon: float, kept: float) -> float:
        """The loss per request to aim at now, at least 0: alpha, less what the reserve grows by a request, plus the
        slack over `horizon` requests. What `kept` requests may lose is the most that is kept as slack.

        The reserve, `deviations` standard deviations, grows like the square root of the requests t: reserve / 2t each.
        """
        reserve = deviations * self.deviation(probability)
        slack = self.settle(alpha, reserve, alpha * kept)
        wanted = alpha - reserve / (2 * max(self.requests, SOONEST)) + slack / horizon
        return max(0.0, wanted)

    def upper_bound(self, deviations: float, probability: float) -> float:
        """Of the loss per request so far; 1.0 before the first request."""
        if self.requests == 0:
            return 1.0
        return min(1.0, (self.loss + deviations * self.deviation(probability)) / self.requests)

    def dump(self) -> dict[str, Any]:
        return asdict(self)
