"""What the student keeps of the teacher, live: counted by every worker, summed in Redis, shown as metrics.

A worker counts each request once, in the cell of its day, route, student version, kind and length. Five times a second
it writes what has come since as additions to a hash of the day; the writer makes them exactly once. Every worker reads
the sums of all of them and shows the same figures, so that they survive restarts and nobody has to be asked.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import msgspec
import redis.asyncio as aioredis

from policies.retention import Figures, Rate, Sums, Tracker, figures
from router.evidence.redis import Unreachable
from router.evidence.streams import SUMS, SUMS_SHARD, shard_key
from router.evidence.writer import EvidenceWriter
from router.evidence_settings import Retention
from router.exchange import Trace
from router.record.metrics import Metrics
from router.runtime import RouteRuntime
from router.tasks import end

log = logging.getLogger("distill_router.retention")

SHIP_S = 0.2
SHOW_EVERY = 25  # shipments
DAY_S = 86_400
SHORT_BYTES, MEDIUM_BYTES = 1_000, 8_000
ALL = "all"
KINDS = ("tools", "json", "text")
LENGTHS = ("short", "medium", "long")
SLICES = (ALL, *(f"kind:{kind}" for kind in KINDS), *(f"length:{length}" for length in LENGTHS))
LOSS, NOISE, EXCLUDED = "loss", "noise", "excluded"
SHIPMENTS = "shipments"  # how many records made up the sums of a day
NO_FIGURE = math.nan

Cell = tuple[int, str, str, str, str]  # day since 1970, route, student version, kind, length
Fields = dict[str, float]
RouteVersion = tuple[str, str]
ByVersion = dict[RouteVersion, dict[str, tuple[Sums, Sums]]]
Excluded = dict[RouteVersion, Counter[str]]


@dataclass(slots=True)
class Counted:
    """The two sequences of a cell; `changed` since they were shipped."""

    loss: Tracker = field(default_factory=Tracker)
    noise: Tracker = field(default_factory=Tracker)
    changed: bool = False


class LiveRetention:
    """One per process. `redis` None: the figures are of this process alone."""

    def __init__(
        self, config: Retention, writer: EvidenceWriter, redis: aioredis.Redis | None, metrics: Metrics
    ) -> None:
        self._config = config
        self._writer = writer
        self._redis = redis
        self._metrics = metrics
        self._cells: dict[Cell, Counted] = {}
        self._excluded: Counter[tuple[int, str, str, str]] = Counter()
        self._own: dict[int, Fields] = {}
        self._shipped = 0
        self._versions: Mapping[str, str] = {}
        self._task: asyncio.Task[None] | None = None

    # --- the request path

    def excluded(self, trace: Trace, route: RouteRuntime, reason: str) -> None:
        """A request that counts for no figure."""
        self._metrics.excluded.labels(route.name, reason).inc()
        self._excluded[int(trace.wall) // DAY_S, route.name, route.student.version, reason] += 1

    def answered(self, trace: Trace, route: RouteRuntime, *, noise_drawn: bool) -> None:
        """A request that counts. `noise_drawn`: if it is compared, the teacher is asked twice."""
        served = trace.arm == "student"
        counted = self._counted(trace, route)
        probability = trace.probability
        again = probability * route.config.audit.second_draw
        counted.loss.seen(probability, served)
        counted.noise.seen(again, served)
        if served and trace.sample is not None:
            counted.loss.drawn(probability)
            if noise_drawn:
                counted.noise.drawn(again)

    def broke(self, trace: Trace, route: RouteRuntime) -> None:
        """The student answered, and its answer was an error or broke off: a loss that nobody needs to look at."""
        counted = self._counted(trace, route)
        counted.loss.seen(1.0, True)
        counted.loss.drawn(1.0)
        counted.loss.resolved(1.0, 1.0)

    def compared(self, trace: Trace, route: RouteRuntime, harm: float | None) -> None:
        """A drawn request has its verdict; None: the teacher failed, and nobody will know."""
        if trace.arm == "student":
            counted = self._counted(trace, route)
            _resolve(counted.loss, trace.probability, harm)

    def redrawn(self, trace: Trace, route: RouteRuntime, harm: float | None) -> None:
        """A uniformly drawn second answer has its verdict against the teacher's first."""
        if trace.arm == "student":
            counted = self._counted(trace, route)
            _resolve(counted.noise, trace.probability * route.config.audit.second_draw, harm)

    def _counted(self, trace: Trace, route: RouteRuntime) -> Counted:
        cell = self._cell(trace, route)
        counted = self._cells.get(cell)
        if counted is None:
            counted = self._cells[cell] = Counted()
        counted.changed = True
        return counted

    def _cell(self, trace: Trace, route: RouteRuntime) -> Cell:
        request = trace.request
        needs, size = request.needs, request.prompt_bytes
        kind = "text" if not needs else "tools" if "tools" in needs else "json" if "json_schema" in needs else "text"
        length = "short" if size < SHORT_BYTES else "medium" if size < MEDIUM_BYTES else "long"
        return int(trace.wall) // DAY_S, route.name, route.student.version, kind, length

    # --- behind it

    def configure(self, versions: Mapping[str, str]) -> None:
        """The student versions in use, by route."""
        for gone in set(self._versions) - set(versions):
            self._forget(gone)
        self._versions = dict(versions)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="retention")

    async def close(self) -> None:
        """Ship what is counted."""
        if self._task:
            await end([self._task])
        self.ship()
        if self._redis:
            await self._redis.aclose()

    async def _run(self) -> None:
        while True:
            try:
                if self._shipped % SHOW_EVERY == 0:
                    await self.refresh()
                self.ship()
            except Unreachable as error:
                log.warning("Redis does not say what was counted, the figures of retention stay: %s", error)
            except Exception:  # the edge of a background task
                log.exception("the figures of retention stay")
            self._shipped += 1
            await asyncio.sleep(SHIP_S)

    def ship(self) -> None:
        """Give the writer what was counted since the last time."""
        today = int(time.time()) // DAY_S
        by_day: dict[int, Fields] = {}
        for cell, counted in list(self._cells.items()):
            if cell[0] < today - 1:  # whatever was drawn then has timed out
                del self._cells[cell]
            if not counted.changed:
                continue
            counted.changed = False
            fields = by_day.setdefault(cell[0], {})
            for name, tracker in ((LOSS, counted.loss), (NOISE, counted.noise)):
                prefix = "|".join((*cell[1:], name))
                fields |= {f"{prefix}|{what}": value for what, value in tracker.take().to_fields().items()}
        for (day, route, version, reason), count in self._excluded.items():
            by_day.setdefault(day, {})["|".join((route, version, EXCLUDED, reason))] = float(count)
        self._excluded.clear()
        for day, fields in by_day.items():
            if fields:
                self._ship_day(day, fields, today)

    def _ship_day(self, day: int, fields: Fields, today: int) -> None:
        if self._redis is None:
            own = self._own.setdefault(day, {})
            for name, value in fields.items():
                own[name] = own.get(name, 0.0) + value
            self._own = {kept: own for kept, own in self._own.items() if kept > today - self._config.window_days}
            return
        record = {"k": day_key(day), "f": fields | {SHIPMENTS: 1.0}}
        self._writer.put(SUMS, "", msgspec.json.encode(record))

    async def refresh(self) -> None:
        """Read what all workers have counted and show the figures. Raises what the client raises for no answer."""
        days = window(time.time(), self._config.window_days)
        if self._redis is None:
            stored = [self._own.get(day, {}) for day in days]
        else:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for day in days:
                    pipeline.hgetall(shard_key(SUMS_SHARD, day_key(day)))
                stored = [decoded(reply) for reply in await pipeline.execute()]
        shown = await asyncio.to_thread(self._figures, stored, dict(self._versions))
        for (route, name), found in shown.items():
            if route in self._versions:  # still: a reload may have come meanwhile
                self._set(route, name, found)

    def _figures(self, stored: Iterable[Fields], versions: Mapping[str, str]) -> dict[tuple[str, str], Figures]:
        """Of every slice of the versions in use, counted or not: a figure must not outlive its days."""
        by_version, _ = add_up(stored)
        nothing = (Sums(), Sums())
        return {
            (route, name): figures(
                *by_version.get(place, {}).get(name, nothing),
                confidence=self._config.confidence,
                min_pairs=self._config.min_pairs,
            )
            for route, place in ((place[0], place) for place in versions.items())
            for name in SLICES
        }

    def _set(self, route: str, name: str, found: Figures) -> None:
        m, of = self._metrics, (route, name)
        m.retention_pairs.labels(*of).set(found.pairs)
        m.effective_pairs.labels(*of).set(found.effective_pairs)
        loss = found.route_loss if found.enough else None
        kept = found.student_retention if found.enough else None
        for gauge, value in (
            (m.route_loss, _estimate(loss)),
            (m.route_loss_low, loss.interval.low if loss else NO_FIGURE),
            (m.route_loss_high, loss.interval.high if loss else NO_FIGURE),
            (m.retention, _estimate(kept)),
            (m.retention_low, kept.interval.low if kept else NO_FIGURE),
            (m.retention_high, kept.interval.high if kept else NO_FIGURE),
        ):
            gauge.labels(*of).set(value)
        if name == ALL:
            normalised = found.normalised_retention if found.enough else None
            m.noise.labels(route).set(_estimate(found.teacher_noise))
            m.normalised.labels(route).set(_estimate(normalised))
            m.normalised_low.labels(route).set(normalised.interval.low if normalised else NO_FIGURE)

    def _forget(self, route: str) -> None:
        empty = figures(Sums(), Sums(), confidence=self._config.confidence, min_pairs=self._config.min_pairs)
        for name in SLICES:
            self._set(route, name, empty)
        self._metrics.keep_probability.labels(route).set(1)


def window(now_s: float, days: int) -> range:
    """The last days up to today, as days since 1970 (UTC)."""
    today = int(now_s) // DAY_S
    return range(today - days + 1, today + 1)


def day_key(day: int) -> str:
    """The key of a day's sums, without its shard's part."""
    return f"retention:{date(1970, 1, 1) + timedelta(days=day)}"


def decoded(reply: Mapping[Any, Any]) -> Fields:
    """A hash as Redis gives it."""
    return {name.decode(): float(value) for name, value in reply.items()}


def add_up(stored: Iterable[Fields]) -> tuple[ByVersion, Excluded]:
    """The loss and the noise of every slice, and why requests were excluded. Raises ValueError on unknown fields."""
    cells: dict[tuple[str, str, str, str, str], Fields] = {}
    excluded: Excluded = {}
    for fields in stored:
        for name, value in fields.items():
            if name == SHIPMENTS:
                continue
            parts = name.split("|", 5)
            if parts[2] == EXCLUDED:
                reasons = excluded.setdefault((parts[0], parts[1]), Counter())
                reasons[parts[3]] += round(value)
                continue
            route, version, kind, length, sequence, what = parts
            sums = cells.setdefault((route, version, kind, length, sequence), {})
            sums[what] = sums.get(what, 0.0) + value
    found: ByVersion = {}
    for (route, version, kind, length, sequence), sums in cells.items():
        slices = found.setdefault((route, version), {name: (Sums(), Sums()) for name in SLICES})
        added = Sums.from_fields(sums)
        for name in (ALL, f"kind:{kind}", f"length:{length}"):
            loss, noise = slices[name]
            slices[name] = (loss + added, noise) if sequence == LOSS else (loss, noise + added)
    return found, excluded


def _resolve(tracker: Tracker, probability: float, harm: float | None) -> None:
    if harm is None:
        tracker.failed()
    else:
        tracker.resolved(probability, harm)


def _estimate(rate: Rate | None) -> float:
    return NO_FIGURE if rate is None or rate.estimate is None else rate.estimate
