"""The money of one request: every upstream call is a charge, settled exactly once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from router.ledger.lease import Hold
from router.ledger.pricing import PriceList, Usage

Origin = Literal["serve", "escalation", "gate", "shadow", "judge", "retry", "cancelled"]

NO_USAGE = Usage(0, 0)


@dataclass(slots=True)
class Charge:
    """One call to `model`, at the prices that were valid when it began. Open until `settle`; then `cost_nano` is final.

    `estimated`: the usage was not reported. `hold`: what budgets reserved for it, given back on settling.
    """

    model: str
    prices: PriceList
    hold: Hold | None = None
    origin: Origin = "serve"
    usage: Usage = NO_USAGE
    estimated: bool = False
    cost_nano: int = 0
    settled: bool = False

    def settle(self, origin: Origin, usage: Usage, *, estimated: bool = False) -> None:
        """Price the call. Raises RuntimeError when it was settled before."""
        if self.settled:
            raise RuntimeError(f"a call to '{self.model}' was settled twice")
        self.settled = True
        self.origin = origin
        self.usage = usage
        self.estimated = estimated
        self.cost_nano = self.prices.cost(usage)
        if self.hold is not None:
            self.hold.settle(self.cost_nano)


@dataclass(slots=True)
class Bill:
    """All charges of one request."""

    charges: list[Charge] = field(default_factory=list)

    def open(self, model: str, prices: PriceList, hold: Hold | None = None) -> Charge:
        """Begin a call; whoever opens it settles it, whatever the way out."""
        charge = Charge(model, prices, hold)
        self.charges.append(charge)
        return charge

    @property
    def total_nano(self) -> int:
        return sum(charge.cost_nano for charge in self.charges)

    def by_origin(self) -> dict[str, int]:
        """Nano-dollars by origin; origins that cost nothing are left out."""
        sums: dict[str, int] = {}
        for charge in self.charges:
            if charge.cost_nano:
                sums[charge.origin] = sums.get(charge.origin, 0) + charge.cost_nano
        return sums
