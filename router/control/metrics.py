"""What the controllers do, as metrics. Every worker reads the same states, so that the latest word counts."""

from __future__ import annotations

import math
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from policies.certify.records import ALARMS, FloorStatus, Phase
from router.record.metrics import PREFIX

PHASES: tuple[str, ...] = get_args(Phase)
NO_FIGURE = math.nan


class ControlSeries:
    """Registered with the other series of a gateway."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str, mode: str = "livemostrecent") -> Gauge:
            return Gauge(PREFIX + name, text, labels, registry=registry, multiprocess_mode=mode)  # type: ignore[arg-type]

        def counter(name: str, text: str) -> Counter:
            return Counter(PREFIX + name, text, registry=registry)

        self._threshold = gauge(
            "threshold", "The teacher answers from this expected loss on, by controller.", "route", "controller"
        )
        self._price = gauge("pace_price", "Expected loss that a USD for the teacher must save.", "route")
        self._phase = gauge("floor_phase", "1 for the phase that a floor is in.", "route", "phase")
        self._alarms = gauge("floor_alarms", "Alarms of a floor so far.", "route", "alarm")
        self._audits = gauge("floor_audits", "Audited pairs that a floor has seen.", "route")
        self._rate = gauge("floor_audit_rate", "Share of requests that a floor wants audited.", "route")
        self._loss = gauge("floor_loss", "Estimated loss over all traffic of a floor's route.", "route")
        self._bound = gauge("floor_loss_upper_bound", "At most: the loss over all traffic.", "route")
        self._uncovered = gauge(
            "floor_uncovered", "Requests outside of a floor that the student had: no audit could tell of them.", "route"
        )
        self._share = gauge("floor_student_share", "Share of a floor's requests that the student had.", "route")
        self._age = gauge(
            "control_state_age_seconds", "Since when nobody renewed a route's state.", "route", mode="livemax"
        )
        self.leads = gauge("control_leader", "1 while a process runs the controllers.", mode="livesum")
        self.dropped = counter("control_shipments_dropped", "Counts that waited for Redis for too long.")
        self.lost = counter("control_shipments_lost", "Counts that never reached the controllers.")
        self.unreadable = counter("control_shipments_unreadable", "Counts that could not be read.")

    def show_pace(self, route: str, price: float | None) -> None:
        """What has been published of a route's pace."""
        self._price.labels(route).set(NO_FIGURE if price is None else price)

    def show_now(self, route: str, threshold: float | None, floor: float | None, age_s: float) -> None:
        """What requests are held against, and how old what was published is."""
        for controller, value in (("threshold", threshold), ("floor", floor)):
            self._threshold.labels(route, controller).set(NO_FIGURE if value is None else value)
        self._age.labels(route).set(age_s)

    def forget(self, route: str) -> None:
        """A route that is no longer controlled: what was last known of it must alarm nobody."""
        self.forget_floor(route)
        self._threshold.labels(route, "threshold").set(NO_FIGURE)
        self._price.labels(route).set(NO_FIGURE)
        self._age.labels(route).set(0)

    def forget_floor(self, route: str) -> None:
        """A route that has no floor any more."""
        self._threshold.labels(route, "floor").set(NO_FIGURE)
        for phase in PHASES:
            self._phase.labels(route, phase).set(0)
        for gauge in (self._loss, self._bound, self._share):
            gauge.labels(route).set(NO_FIGURE)
        for kind in ALARMS:
            self._alarms.labels(route, kind).set(0)
        for gauge in (self._audits, self._rate, self._uncovered):
            gauge.labels(route).set(0)

    def show_floor(self, route: str, status: FloorStatus) -> None:
        """What has been published of a route's floor."""
        for phase in PHASES:
            self._phase.labels(route, phase).set(int(phase == status.phase))
        for kind in ALARMS:
            self._alarms.labels(route, kind).set(status.rung.get(kind, 0))
        self._audits.labels(route).set(status.audits)
        self._uncovered.labels(route).set(status.uncovered)
        self._rate.labels(route).set(status.audit_rate)
        self._loss.labels(route).set(status.loss_estimate)
        self._bound.labels(route).set(status.upper_bound)
        self._share.labels(route).set(status.student_share)
