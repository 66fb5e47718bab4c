"""The pace of a budget: what a USD for the teacher must save, so that the money lasts through its window and is used.

The problem of a window is a knapsack: of requests with expected loss l and extra cost c, give the teacher those that
save most, for B dollars. Its dual is min over the price v >= 0 of v B + sum (l - v c)+, so that the teacher answers
where l >= v c. Online the price follows what is left (dual ascent; Balseiro and Gur 2019, "Learning in repeated
auctions with budgets"; Balseiro, Lu and Mirrokni 2020, "Dual mirror descent for online allocation problems"): each step
moves it to where the gradient of the dual of the rest of the window vanishes, money left = expected cost of the
requests to come that are worth the price. Those to come are as many as `Traffic` forecasts, and like those of the
recent past. A price that was too low has left too little money, which raises it: errors of the forecasts correct
themselves.

It does not know models or requests, only a histogram of their worth l/c; what is spent beside its own decisions
(audits, other routes, the student) it takes from the difference between what was spent and what it expected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp, floor, log2
from typing import Any, Final

import numpy as np

from policies.bounds import Floats
from policies.control.traffic import DAY_S, Traffic

BINS_PER_OCTAVE: Final = 16
OCTAVES: Final = 40  # worth from 2^-40 to 2^40 a USD; what is beyond counts as the end
MOST_PRICE: Final = 2.0 ** (OCTAVES + 1)  # nothing that costs anything is worth it
LEAST_MEMORY: Final = 500.0  # requests that the sample remembers at least
ASIDE_MEMORY: Final = 1_000.0  # requests over which spending beside the price is averaged
QUIET_S: Final = 60.0  # what is spent later than this after a request has nothing to do with it
NEGLIGIBLE: Final = 1e-6  # of a request: not worth keeping
FORMAT: Final = 1
_MIDDLE: Final = OCTAVES * BINS_PER_OCTAVE
_BINS: Final = 2 * _MIDDLE + 1

Worth = Mapping[int, Sequence[float]]


def worth_bin(loss: float, extra_cost_usd: float) -> int:
    """The bin of the loss that a USD for the teacher saves, even in its logarithm; the highest where it is free."""
    if extra_cost_usd <= 0.0:
        return _MIDDLE
    if loss <= 0.0:
        return -_MIDDLE
    return max(-_MIDDLE, min(_MIDDLE, floor(log2(loss / extra_cost_usd) * BINS_PER_OCTAVE)))


@dataclass(frozen=True, slots=True)
class Spending:
    """Of the budget's current window, from `start_s` to `end_s` (Unix seconds): what was spent in it so far."""

    start_s: float
    end_s: float
    spent_usd: float


class Pace:
    """The price of one budget. `observe` once a second or so, in the order of time; deterministic."""

    def __init__(self, target_usd: float) -> None:
        self.target_usd = target_usd
        self.price = 0.0  # expected loss per USD
        self._traffic = Traffic()
        self._counts: Floats = np.zeros(_BINS)
        self._costs: Floats = np.zeros(_BINS)
        self._aside_usd = 0.0  # spent beside what the price decides, per request
        self._aside_weight = 0.0
        self._accounted: Spending | None = None  # up to where `_aside_usd` has been told
        self._accounted_s = 0.0
        self._carry = 0.0  # of a bin's share that was not taken yet

    def observe(self, now_s: float, spending: Spending, worth: Worth, taken_usd: float) -> None:
        """What came since the last call, of requests that the teacher is wanted for if it is worth the price.

        `worth`: by `worth_bin`, requests and what the teacher costs more for them (USD); `taken_usd`: the same of those
        that were worth it.
        """
        requests = float(sum(cell[0] for cell in worth.values()))
        self._traffic.observe(now_s, requests)
        if requests:
            self._sample(worth, requests, spending)
        self._account(now_s, requests, spending, taken_usd)
        self.price = self._priced(now_s, spending)

    def dump(self) -> dict[str, Any]:
        """Everything that `load` needs, as JSON values."""
        kept = np.flatnonzero(self._counts > NEGLIGIBLE)
        return {
            "format": FORMAT,
            "price": self.price,
            "traffic": self._traffic.dump(),
            "bins": kept.tolist(),
            "counts": self._counts[kept].tolist(),
            "costs": self._costs[kept].tolist(),
            "aside": [self._aside_usd, self._aside_weight],
            "accounted": asdict(self._accounted) if self._accounted else None,
            "accounted_s": self._accounted_s,
            "carry": self._carry,
        }

    @classmethod
    def load(cls, target_usd: float, state: Mapping[str, Any]) -> Pace:
        """The pace that was dumped, towards a target that may be another. ValueError on the state of another format."""
        if state.get("format") != FORMAT:
            raise ValueError(f"a pace's state of format {state.get('format')!r}; this version reads {FORMAT}")
        pace = cls(target_usd)
        pace.price = state["price"]
        pace._traffic = Traffic.load(state["traffic"])
        pace._counts[state["bins"]] = state["counts"]
        pace._costs[state["bins"]] = state["costs"]
        pace._aside_usd, pace._aside_weight = state["aside"]
        pace._carry = state["carry"]
        pace._accounted_s = state["accounted_s"]
        pace._accounted = Spending(**state["accounted"]) if state["accounted"] else None
        return pace

    def _sample(self, worth: Worth, requests: float, spending: Spending) -> None:
        """Requests of about a window are remembered, of a long one those of a day."""
        window_s = min(DAY_S, spending.end_s - spending.start_s)
        fade = exp(-requests / max(LEAST_MEMORY, self._traffic.mean_rate * window_s))
        self._counts *= fade
        self._costs *= fade
        for at, (count, cost) in worth.items():
            self._counts[at + _MIDDLE] += count
            self._costs[at + _MIDDLE] += cost

    def _account(self, now_s: float, requests: float, spending: Spending, taken_usd: float) -> None:
        """What was spent beside, for each request; a call is settled a while before or after it is told of."""
        seen = self._accounted
        if seen is not None and seen.start_s == spending.start_s:
            if not requests and now_s - self._accounted_s < QUIET_S:
                return
            if requests:
                self._aside_weight = min(self._aside_weight + requests, ASIDE_MEMORY)
                beside = (spending.spent_usd - seen.spent_usd - taken_usd) / requests
                self._aside_usd += min(1.0, requests / self._aside_weight) * (beside - self._aside_usd)
        self._accounted, self._accounted_s = spending, now_s

    def _priced(self, now_s: float, spending: Spending) -> float:
        left = self.target_usd - spending.spent_usd
        if left <= 0.0:
            return MOST_PRICE
        coming = self._traffic.forecast(now_s, spending.end_s)
        known = float(self._counts.sum())
        if known <= NEGLIGIBLE or coming <= NEGLIGIBLE:
            return 0.0
        return self._edge(*_bin_at(self._costs / known, left / coming - self._aside_usd))

    def _edge(self, at: int, share: float) -> float:
        """A price at the lower edge of a bin as often as its `share` says, else at the upper one.

        Requests that are all worth the same lie at one point of the bin: a price inside of it would take all or none.
        """
        self._carry += share
        taken = self._carry >= 1.0
        self._carry -= taken
        return min(MOST_PRICE, 2.0 ** ((at + (not taken)) / BINS_PER_OCTAVE)) if at > -_MIDDLE or not taken else 0.0


def _bin_at(costs: Floats, each_usd: float) -> tuple[int, float]:
    """Taking all requests above a bin, and this share of it, costs `each_usd` on average; `costs`: per request."""
    if each_usd <= 0.0:
        return BINS_PER_OCTAVE * (OCTAVES + 1), 0.0
    best_first = costs[::-1]
    above = np.cumsum(best_first)
    if above[-1] <= each_usd:
        return -_MIDDLE, 1.0
    at = int(np.searchsorted(above, each_usd, side="right"))
    before = float(above[at - 1]) if at else 0.0
    return _MIDDLE - at, (each_usd - before) / float(best_first[at])
