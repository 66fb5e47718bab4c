"""All floors and paces of a gateway, in the one process that runs them. Pure: no Redis, no clock.

Fed with shipments in the order of the stream, each counted once whatever arrives twice; `step` lets the controllers
look at what came; `dump` is everything that another process needs to go on.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from policies.certify.bins import NOVELTY_BINS, SCORE_BINS
from policies.certify.floor import Floor
from policies.certify.records import Audited, Scored
from policies.control.pace import Pace, Spending
from router.control.events import RouteCounts, Shipment
from router.control.live import LiveRoute
from router.control.plan import Plan
from router.control.published import Published

log = logging.getLogger("distill_router.control")

FORMAT: Final = 1
MOST_LOSS: Final = 2.0  # stands for every threshold above 1, where the student serves everything
WORKER_KEPT_S: Final = 3600.0  # a worker that was not heard of for so long is forgotten
VERSIONS_KEPT: Final = 3  # floors of versions that were in use before: one that comes back goes on where it was
VERSION_KEPT_S: Final = 86_400.0


@dataclass(slots=True)
class _Counted:
    """Of one route and version, since the last step."""

    requests: int = 0
    scores: list[int] = field(default_factory=lambda: [0] * SCORE_BINS)
    student: list[int] = field(default_factory=lambda: [0] * SCORE_BINS)
    novelties: list[int] = field(default_factory=lambda: [0] * NOVELTY_BINS)
    audits: list[Audited] = field(default_factory=list)

    def add(self, counts: RouteCounts) -> None:
        self.requests += counts.requests
        for into, cells in (
            (self.scores, counts.scores),
            (self.student, counts.student),
            (self.novelties, counts.novelties),
        ):
            for at, count in cells:
                if not 0 <= at < len(into):
                    raise ValueError(f"bin {at} of a histogram that has {len(into)}")
                into[at] += count
        self.audits += counts.audits


@dataclass(slots=True)
class _Versioned:
    """A floor, and when it was last the one in use."""

    floor: Floor
    used_s: float


@dataclass(slots=True)
class _Worth:
    """What a pace looks at, since the last step: by bin requests and USD, and the USD that were taken."""

    cells: dict[int, list[float]] = field(default_factory=dict)
    taken_usd: float = 0.0

    def add(self, counts: RouteCounts) -> None:
        for at, count, cost in counts.worth:
            self._add(at, count, cost)
        self.taken_usd += counts.taken_usd

    def merge(self, other: _Worth) -> None:
        for at, (count, cost) in other.cells.items():
            self._add(at, count, cost)
        self.taken_usd += other.taken_usd

    def _add(self, at: int, count: float, cost: float) -> None:
        cell = self.cells.setdefault(at, [0.0, 0.0])
        cell[0] += count
        cell[1] += cost


class Controllers:
    """`lost`: shipments that never arrived, as their numbers say, since the beginning."""

    def __init__(self) -> None:
        self.lost = 0
        self._workers: dict[str, tuple[int, float]] = {}  # number of the last shipment, and when it came
        self._floors: dict[str, dict[str, _Versioned]] = {}
        self._paces: dict[str, Pace] = {}
        self._counted: dict[tuple[str, str], _Counted] = {}
        self._worth: dict[str, _Worth] = {}

    def take(self, shipment: Shipment, now_s: float) -> None:
        """Count a shipment, unless it was counted before. ValueError for one of other bins."""
        last, _ = self._workers.get(shipment.worker, (shipment.number - 1, now_s))
        if shipment.number <= last:
            return
        self._workers[shipment.worker] = shipment.number, now_s
        self.lost += shipment.number - last - 1
        for counts in shipment.counts:
            self._add(counts)

    def step(self, plan: Plan, spendings: Mapping[str, Spending], now_s: float) -> None:
        """Let the controllers of the plan look at what came; those that are no longer in it are forgotten.

        `spendings`: of the plan's budgets as far as they are known; a pace without one waits.
        """
        self._keep_planned(plan, now_s)
        for route, live in plan.routes.items():
            if live.floor_settings is not None:
                self._step_floor(route, live, now_s)
        for name, spending in spendings.items():
            self._step_pace(plan, name, spending, now_s)
        self._counted.clear()

    def published(self, plan: Plan, now_s: float) -> dict[str, Published]:
        """What workers are to follow, by route."""
        return {route: self._published(route, live, plan, now_s) for route, live in plan.routes.items()}

    def dump(self) -> bytes:
        """What `load` reads; to be called between a step and the next `take`."""
        state = {
            "format": FORMAT,
            "lost": self.lost,
            "workers": self._workers,
            "floors": {
                route: {version: [each.used_s, each.floor.dump()] for version, each in floors.items()}
                for route, floors in self._floors.items()
            },
            "paces": {name: pace.dump() for name, pace in self._paces.items()},
        }
        return zlib.compress(msgspec.json.encode(state), 1)

    @classmethod
    def load(cls, plan: Plan, data: bytes) -> Controllers:
        """As dumped, as far as the plan still has it; a controller whose state cannot be read begins anew.

        Raises ValueError where nothing can be read.
        """
        try:
            state: dict[str, Any] = msgspec.json.decode(zlib.decompress(data))
        except zlib.error as error:
            raise ValueError(f"the state of the controllers is damaged: {error}") from None
        if state.get("format") != FORMAT:
            raise ValueError(f"a state of format {state.get('format')!r}; this version reads {FORMAT}")
        controllers = cls()
        controllers.lost = state["lost"]
        controllers._workers = {worker: (number, at) for worker, (number, at) in state["workers"].items()}
        for route, live in plan.routes.items():
            controllers._load_floors(route, live, state["floors"].get(route, {}))
        for name, budget in plan.budgets.items():
            if name in state["paces"]:
                controllers._load_pace(name, budget.target_usd or 0.0, state["paces"][name])
        return controllers

    def _add(self, counts: RouteCounts) -> None:
        self._counted.setdefault((counts.route, counts.version), _Counted()).add(counts)
        self._worth.setdefault(counts.route, _Worth()).add(counts)

    def _keep_planned(self, plan: Plan, now_s: float) -> None:
        floors = {route for route, live in plan.routes.items() if live.floor_settings is not None}
        self._floors = {route: floors_ for route, floors_ in self._floors.items() if route in floors}
        self._paces = {name: pace for name, pace in self._paces.items() if name in plan.budgets}
        self._worth = {route: worth for route, worth in self._worth.items() if route in plan.paces}
        self._workers = {
            worker: (number, at) for worker, (number, at) in self._workers.items() if now_s - at < WORKER_KEPT_S
        }

    def _step_floor(self, route: str, live: LiveRoute, now_s: float) -> None:
        floor = self._floor(route, live, now_s)
        counted = self._counted.get((route, live.version))
        if counted is None:
            return
        if counted.requests:
            floor.scored(Scored(counted.scores, counted.novelties, counted.student), now_s)
        if counted.audits:
            floor.audited(sorted(counted.audits, key=lambda pair: pair.time_s))

    def _floor(self, route: str, live: LiveRoute, now_s: float) -> Floor:
        """The floor of the version in use; a new version has one of its own."""
        versions, settings = self._floors.setdefault(route, {}), live.floor_settings
        assert settings is not None
        known = versions.get(live.version)
        if known is None:
            known = versions[live.version] = _Versioned(Floor(settings), now_s)
            calibration = live.calibration()
            if calibration is not None:
                known.floor.start(calibration, now_s)
        elif known.floor.settings != settings:
            known.floor = _resettled(route, known.floor, live)
        known.used_s = now_s
        for version in sorted(versions, key=lambda name: versions[name].used_s)[:-VERSIONS_KEPT]:
            del versions[version]
        for version in [name for name, each in versions.items() if now_s - each.used_s > VERSION_KEPT_S]:
            del versions[version]
        return known.floor

    def _step_pace(self, plan: Plan, name: str, spending: Spending, now_s: float) -> None:
        target_usd = plan.budgets[name].target_usd
        assert target_usd is not None
        pace = self._paces.setdefault(name, Pace(target_usd))
        pace.target_usd = target_usd
        worth = _Worth()
        for route in [route for route, budget in plan.paces.items() if budget == name]:
            worth.merge(self._worth.pop(route, _Worth()))
        pace.observe(now_s, spending, worth.cells, worth.taken_usd)

    def _published(self, route: str, live: LiveRoute, plan: Plan, now_s: float) -> Published:
        budget = plan.paces.get(route)
        pace = self._paces.get(budget) if budget else None
        pace_usd = pace.price if pace else None
        known = self._floors.get(route, {}).get(live.version)
        if known is None:
            return Published(now_s, live.version, budget=budget, pace_usd=pace_usd)
        status = known.floor.status()
        threshold = min(MOST_LOSS, status.threshold)
        return Published(now_s, live.version, threshold, status.audit_rate, status, budget, pace_usd)

    def _load_floors(self, route: str, live: LiveRoute, versions: Mapping[str, Any]) -> None:
        settings = live.floor_settings
        if settings is None:
            return
        for version, (used_s, state) in versions.items():
            try:
                floor = Floor.load(settings, state)
            except (ValueError, KeyError, TypeError) as error:
                log.warning("the floor of route '%s' is calibrated anew, its state cannot be read: %s", route, error)
            else:
                self._floors.setdefault(route, {})[version] = _Versioned(floor, used_s)

    def _load_pace(self, name: str, target_usd: float, state: Mapping[str, Any]) -> None:
        try:
            self._paces[name] = Pace.load(target_usd, state)
        except (ValueError, KeyError, TypeError) as error:
            log.warning("the pace of budget '%s' begins anew, its state cannot be read: %s", name, error)


def _resettled(route: str, floor: Floor, live: LiveRoute) -> Floor:
    """What it learned, under the settings of a reload; calibrated anew where these do not fit."""
    assert live.floor_settings is not None
    try:
        return Floor.load(live.floor_settings, floor.dump())
    except ValueError as error:
        log.warning("the floor of route '%s' is calibrated anew, its settings changed: %s", route, error)
        return Floor(live.floor_settings)
