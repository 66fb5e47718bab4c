"""A route as it stands at this moment: what the controllers published, what answers cost, who a conversation had last.

`Board` is what a process knows of a route; it outlives reloads. `LiveRoute` is a configured route's view of it, the
`Live` that policies read. Reading and counting wait for nothing; `router.control.control` does the I/O behind them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from policies.base import Arm, RequestView
from policies.certify.records import Audited, Calibration
from policies.certify.settings import FloorSettings
from policies.control.stickiness import Kept, StickySettings, lost_cache_usd
from router.control.conversations import Conversations
from router.control.expected import Expected
from router.control.tally import Tally
from router.ledger.pricing import NANO_PER_USD, PriceList, Usage
from router.settings import Model

MOST_VERSIONS = 8  # tallies kept at once; more than two only where something promotes without end


class Priced(Protocol):
    """What is looked at of a model."""

    @property
    def version(self) -> str:
        """Changes when its answers may."""

    @property
    def prices(self) -> PriceList:
        """Those that are valid now."""

    @property
    def config(self) -> Model:
        """As it is configured."""


@dataclass(frozen=True, slots=True)
class State:
    """What was published of a route. `version`: of what the floor is about; `phase` '' and None: no floor, no pace.

    `audit_rate`: the least share of requests that the floor wants audited.
    """

    version: str = ""
    floor: float | None = None
    phase: str = ""
    audit_rate: float = 0.0
    pace_usd: float | None = None


@dataclass(slots=True)
class Board:
    """What this process knows of one route. `seen_at`: when the state was last found renewed (monotonic seconds)."""

    route: str
    state: State = State()
    seen_at: float = float("-inf")
    tallies: dict[str, Tally] = field(default_factory=dict)
    expected: dict[str, Expected] = field(default_factory=dict)

    def tally(self, version: str) -> Tally | None:
        """Where to count for a version; None where too many versions wait to be told."""
        tally = self.tallies.get(version)
        if tally is None and len(self.tallies) < MOST_VERSIONS:
            tally = self.tallies[version] = Tally(version)
        return tally

    def take(self) -> list[Tally]:
        """What was counted since the last `take`."""
        taken, self.tallies = self.tallies, {}
        return [tally for tally in taken.values() if not tally.empty]

    def expects(self, model: Priced) -> Expected:
        """What is expected of a model's answers on this route, by its version."""
        expected = self.expected.get(model.version)
        if expected is None:
            expected = self.expected[model.version] = Expected(model.config.bytes_per_token)
        return expected


class Boards:
    """All boards of the process, by route."""

    def __init__(self) -> None:
        self._boards: dict[str, Board] = {}

    def named(self, route: str) -> Board:
        """The board of a route, made at the first call."""
        return self._boards.setdefault(route, Board(route))

    def all(self) -> list[Board]:
        return list(self._boards.values())


class LiveRoute:
    """One configured route. `scorer`: gives the version of what scores its requests now, and of nothing else.

    `threshold`: the policy's own; `floor`, `sticky`: None where they are not configured; `paced`: towards a budget.
    `calibration`: pairs from which the floor of a new scorer may start.
    """

    def __init__(
        self,
        board: Board,
        teacher: Priced,
        student: Priced,
        *,
        scorer: Callable[[], str] = lambda: "",
        threshold: float | None = None,
        floor: FloorSettings | None = None,
        paced: bool = False,
        sticky: StickySettings | None = None,
        conversations: Conversations | None = None,
        calibration: Callable[[], Calibration | None] = lambda: None,
    ) -> None:
        self.board = board
        self.route = board.route
        self.floor_settings = floor
        self._models: dict[Arm, Priced] = {"teacher": teacher, "student": student}
        self._expected: dict[Arm, Expected] = {arm: board.expects(model) for arm, model in self._models.items()}
        self._scorer = scorer
        self.threshold = threshold
        self._paced = paced
        self._sticky = sticky
        self._conversations = conversations
        self.calibration = calibration

    # --- what policies read

    @property
    def floor(self) -> float | None:
        settings = self.floor_settings
        if settings is None:
            return None
        state = self.board.state
        if state.floor is None or state.version != self.version or self.age_s > settings.stale_s:
            return 0.0
        return state.floor

    @property
    def pace_usd(self) -> float | None:
        """0 until the first price is known: budgets' hard limits still hold."""
        return (self.board.state.pace_usd or 0.0) if self._paced else None

    def extra_cost_usd(self, request: RequestView) -> float:
        return self._cost_usd("teacher", request) - self._cost_usd("student", request)

    def teacher_cost_usd(self, request: RequestView) -> float:
        return self._cost_usd("teacher", request)

    def kept(self, request: RequestView) -> Kept | None:
        sticky, conversations = self._sticky, self._conversations
        if sticky is None or conversations is None:
            return None
        known = conversations.recall(self.route, request.conversation(), time.time(), sticky.ttl_s)
        if known is None:
            return None
        prices = self._models[known.arm].prices
        cached = min(known.tokens, round(self._expected[known.arm].input_tokens(request.prompt_bytes)))
        lost = lost_cache_usd(cached, prices.input / NANO_PER_USD, prices.cached_input / NANO_PER_USD)
        return Kept(known.arm, lost, sticky.margin)

    # --- what the gateway reads and tells

    @property
    def version(self) -> str:
        """Of everything that a floor is about: what scores, and both models."""
        return f"{self._scorer()}/{self._models['teacher'].version}/{self._models['student'].version}"

    @property
    def age_s(self) -> float:
        """How old the published state is, by this worker's clock; infinite before the first."""
        return time.monotonic() - self.board.seen_at

    @property
    def audit_rate(self) -> float:
        """The least share of requests that the floor wants audited; 0 without a floor."""
        settings = self.floor_settings
        if settings is None or not self._scorer():
            return 0.0
        state = self.board.state
        if self.age_s > settings.stale_s:  # nobody watches how many the audits become
            return settings.audit_rate
        known = state.version == self.version and state.floor is not None
        return state.audit_rate if known else settings.shadow_rate

    def decided(
        self,
        request: RequestView,
        version: str,
        loss: float,
        novelty: float,
        arm: Arm,
        *,
        gated: bool = False,
        paced: bool = True,
        covered: bool = True,
        probability: float = 1.0,
    ) -> None:
        """A request that was scored by `version`, and who answered it; `gated`: after the student had answered.

        `probability` of having been scored at all: it stands for 1/probability requests like it. Not `covered`: no
        audit could tell of it, and it is outside of what the floor certifies.
        """
        if self.floor_settings is None and not self._paced:
            return
        tally = self.board.tally(version)
        if tally is None:
            return
        times = _times(probability)
        if covered:
            tally.decided(loss, novelty, arm, times)
        else:
            tally.uncovered += times
        pace_usd = self.pace_usd if paced else None
        if pace_usd is not None and (self.threshold is None or loss >= self.threshold):
            cost_usd = self.teacher_cost_usd(request) if gated else self.extra_cost_usd(request)
            tally.priced(loss, cost_usd, pace_usd, times)

    def uncovered(self, version: str) -> None:
        """A request that the student served unscored, and where no audit could tell."""
        tally = self.board.tally(version) if self.floor_settings is not None else None
        if tally is not None:
            tally.uncovered += 1

    def audited(self, version: str, pair: Audited) -> None:
        """A pair of the uniform audit has its verdict; `version`: what scored it."""
        tally = self.board.tally(version) if self.floor_settings is not None else None
        if tally is not None:
            tally.audited(pair)

    def answered(self, request: RequestView, arm: Arm, usage: Usage) -> None:
        """An arm has answered, and its upstream has said what it took."""
        self._expected[arm].learn(request.prompt_bytes, usage)
        if self._sticky is not None and self._conversations is not None:
            seen = usage.input_tokens + usage.output_tokens
            self._conversations.keep(self.route, request.conversation(), arm, seen, time.time())

    def _cost_usd(self, arm: Arm, request: RequestView) -> float:
        return self._expected[arm].cost_usd(self._models[arm].prices, request.prompt_bytes, request.output_tokens)


def _times(probability: float) -> int:
    """1/probability, as whole numbers that come to it on average."""
    return 1 if probability >= 1.0 else int(1.0 / probability + random.random())
