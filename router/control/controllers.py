"""All floors and paces of a gateway, in the one process that runs them. Pure: no Redis, no clock.

Fed with shipments in the order of the stream, each counted once whatever arrives twice; `step` lets the controllers
look at what came; `dump` is everything that another process needs to go on. One that fails is logged, and stops nobody
else. A floor that failed is not published until it has counted something again: what nobody renews gives everything to
the teacher.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from policies.certify.bins import NOVELTY_BINS, SCORE_BINS
from policies.certify.floor import Floor
from policies.certify.records import Audited, Scored
from policies.certify.settings import FloorSettings
from policies.control.pace import Pace, Spending
from router.control.events import RouteCounts, Shipment
from router.control.live import LiveRoute
from router.control.plan import Plan
from router.control.published import Published

log = logging.getLogger("distill_router.control")

FORMAT: Final = 2
WORKER_KEPT_S: Final = 3600.0  # a worker that was not heard of for so long is forgotten
VERSIONS_KEPT: Final = 3  # floors of versions that were in use before: one that comes back goes on where it was
KEPT_S: Final = 86_400.0  # what is not in use, or in the configuration of another gateway, is kept for so long


@dataclass(slots=True)
class _Counted:
    """Of one route and version, since the last step."""

    requests: int = 0
    scores: list[int] = field(default_factory=lambda: [0] * SCORE_BINS)
    student: list[int] = field(default_factory=lambda: [0] * SCORE_BINS)
    novelties: list[int] = field(default_factory=lambda: [0] * NOVELTY_BINS)
    audits: list[Audited] = field(default_factory=list)
    uncovered: int = 0

    def add(self, counts: RouteCounts) -> None:
        self.requests += counts.requests
        self.uncovered += counts.uncovered
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

    def feed(self, floor: Floor, now_s: float) -> None:
        """Audits first: what has come back is not missed."""
        floor.audited(sorted(self.audits, key=lambda pair: pair.time_s))
        if self.requests or self.uncovered:
            floor.scored(Scored(self.scores, self.novelties, self.student, self.uncovered), now_s)


@dataclass(slots=True)
class _Versioned:
    """A floor, and when it was last the one in use."""

    floor: Floor
    used_s: float


@dataclass(slots=True)
class _Paced:
    """A budget's pace, and when the budget was last in a plan."""

    pace: Pace
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
        self._paces: dict[str, _Paced] = {}
        self._counted: dict[tuple[str, str], _Counted] = {}
        self._worth: dict[str, _Worth] = {}
        self._failing: set[str] = set()  # routes whose floor failed over what came last

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
        """Let the controllers of the plan look at what came; others wait for a gateway that has them.

        `spendings`: of the plan's budgets as far as they are known; a pace without one waits.
        """
        counted, self._counted = self._counted, {}
        for route, live in plan.routes.items():
            if live.floor_settings is not None:
                with _apart("floor of route", route, self._failing):
                    self._step_floors(route, live, counted, now_s)
        for name, spending in spendings.items():
            with _apart("pace of budget", name):
                self._step_pace(plan, name, spending, now_s)
        self._forget_unused(plan, now_s)

    def published(self, plan: Plan, now_s: float) -> dict[str, Published]:
        """What workers are to follow, by route."""
        found = {}
        for route, live in plan.routes.items():
            if live.floor_settings is not None and route in self._failing:
                continue
            with _apart("state of route", route):
                found[route] = self._published(route, live, plan, now_s)
        return found

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
            "paces": {
                name: [each.used_s, each.pace.target_usd, each.pace.dump()] for name, each in self._paces.items()
            },
        }
        return zlib.compress(msgspec.json.encode(state), 1)

    @classmethod
    def load(cls, plan: Plan, data: bytes) -> Controllers:
        """As dumped; a controller whose state cannot be read begins anew, and a floor from live audits alone.

        Raises ValueError where nothing can be read.
        """
        try:
            state: dict[str, Any] = msgspec.json.decode(zlib.decompress(data))
        except zlib.error as error:
            raise ValueError(f"the state of the controllers is damaged: {error}") from None
        if state.get("format") != FORMAT:
            raise ValueError(f"a state of format {state.get('format')!r}; this version reads {FORMAT}")
        controllers = cls()
        try:
            controllers._load(plan, state)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the state of the controllers is damaged: {error!r}") from None
        return controllers

    @classmethod
    def anew(cls, plan: Plan, now_s: float) -> Controllers:
        """Where what was known cannot be read: floors calibrate from live audits alone, whatever they had lost."""
        controllers = cls()
        for route, live in plan.routes.items():
            if live.floor_settings is not None:
                controllers._floors[route] = {live.version: _Versioned(Floor(live.floor_settings), now_s)}
        return controllers

    def _add(self, counts: RouteCounts) -> None:
        self._counted.setdefault((counts.route, counts.version), _Counted()).add(counts)
        self._worth.setdefault(counts.route, _Worth()).add(counts)

    def _forget_unused(self, plan: Plan, now_s: float) -> None:
        for versions in self._floors.values():
            for version in [name for name, each in versions.items() if now_s - each.used_s > KEPT_S]:
                del versions[version]
        self._floors = {route: versions for route, versions in self._floors.items() if versions}
        self._paces = {
            name: each for name, each in self._paces.items() if name in plan.budgets or now_s - each.used_s <= KEPT_S
        }
        self._worth = {route: worth for route, worth in self._worth.items() if route in plan.paces}
        self._workers = {
            worker: (number, at) for worker, (number, at) in self._workers.items() if now_s - at < WORKER_KEPT_S
        }

    def _step_floors(
        self, route: str, live: LiveRoute, counted: Mapping[tuple[str, str], _Counted], now_s: float
    ) -> None:
        """Of all versions that are known: other workers may still be at the last one."""
        self._use_floor(route, live, live.version, now_s)
        for version, known in self._floors[route].items():
            came = counted.get((route, version))
            if came is not None:
                came.feed(known.floor, now_s)
                self._failing.discard(route)

    def _use_floor(self, route: str, live: LiveRoute, version: str, now_s: float) -> None:
        """The version in use; a new one has a floor of its own."""
        versions, settings = self._floors.setdefault(route, {}), live.floor_settings
        assert settings is not None
        known = versions.get(version)
        if known is None:
            known = versions[version] = _Versioned(Floor(settings), now_s)
            calibration = live.calibration()
            if calibration is not None:
                known.floor.start(calibration, now_s)
        elif known.floor.settings != settings:
            known.floor = Floor.load(known.floor.dump(), settings)
        known.used_s = now_s
        for old in sorted(versions, key=lambda name: versions[name].used_s)[:-VERSIONS_KEPT]:
            del versions[old]

    def _step_pace(self, plan: Plan, name: str, spending: Spending, now_s: float) -> None:
        target_usd = plan.budgets[name].target_usd
        assert target_usd is not None
        paced = self._paces.setdefault(name, _Paced(Pace(target_usd), now_s))
        paced.used_s, paced.pace.target_usd = now_s, target_usd
        worth = _Worth()
        for route in [route for route, budget in plan.paces.items() if budget == name]:
            worth.merge(self._worth.pop(route, _Worth()))
        paced.pace.observe(now_s, spending, worth.cells, worth.taken_usd)

    def _published(self, route: str, live: LiveRoute, plan: Plan, now_s: float) -> Published:
        budget = plan.paces.get(route)
        paced = self._paces.get(budget) if budget else None
        pace_usd = paced.pace.price if paced else None
        version = live.version
        known = self._floors.get(route, {}).get(version) if live.floor_settings is not None else None
        if known is None:
            return Published(now_s, version, budget=budget, pace_usd=pace_usd)
        status = known.floor.status()
        return Published(now_s, version, status.threshold, status.audit_rate, status, budget, pace_usd)

    def _load(self, plan: Plan, state: Mapping[str, Any]) -> None:
        self.lost = state["lost"]
        self._workers = {worker: (number, at) for worker, (number, at) in state["workers"].items()}
        for route, versions in state["floors"].items():
            live = plan.routes.get(route)
            self._load_floors(route, live.floor_settings if live else None, versions)
        for name, (used_s, target_usd, pace) in state["paces"].items():
            self._load_pace(name, used_s, target_usd, pace)

    def _load_floors(self, route: str, settings: FloorSettings | None, versions: Mapping[str, Any]) -> None:
        """`settings`: None where the route is not in the plan; its floors keep those that they had."""
        for version, (used_s, state) in versions.items():
            try:
                floor = Floor.load(state, settings)
            except (ValueError, KeyError, TypeError) as error:
                log.warning("the floor of route '%s' is calibrated anew, its state cannot be read: %s", route, error)
                if settings is None:
                    continue
                floor = Floor(settings)  # not from its calibration pairs: live audits may have refuted them
            self._floors.setdefault(route, {})[version] = _Versioned(floor, used_s)

    def _load_pace(self, name: str, used_s: float, target_usd: float, state: Mapping[str, Any]) -> None:
        try:
            self._paces[name] = _Paced(Pace.load(target_usd, state), used_s)
        except (ValueError, KeyError, TypeError) as error:
            log.warning("the pace of budget '%s' begins anew, its state cannot be read: %s", name, error)


@contextmanager
def _apart(what: str, name: str, failing: set[str] | None = None) -> Iterator[None]:
    """A controller that fails is told of, and noted in `failing`; the others go on."""
    try:
        yield
    except Exception:
        log.exception("the %s '%s' fails, and is not brought up to date", what, name)
        if failing is not None:
            failing.add(name)
