"""The series of trained policies. Labels come from configuration, and versions from promotions, which are few."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from router.record.metrics import PREFIX

LOADS = ("loaded", "bad")
TRAININGS = ("promoted", "candidate", "too_few", "failed")


class TrainedMetrics:
    """Registers them beside the others; once for each registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._workers = Gauge(
            PREFIX + "trained_policy_workers",
            "Workers that decide by this version of a trained policy.",
            ("policy", "version"),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.loads = Counter(
            PREFIX + "trained_policy_loads",
            "Versions of a trained policy that a worker took up, or could not.",
            ("policy", "result"),
            registry=registry,
        )
        self.trainings = Counter(
            PREFIX + "policy_trainings",
            "Scheduled trainings by what came of them.",
            ("policy", "result"),
            registry=registry,
        )

    def follows(self, policy: str) -> None:
        """Start the counters at zero, so that their first increment is not missed."""
        for result in LOADS:
            self.loads.labels(policy, result)

    def retrains(self, policy: str) -> None:
        for result in TRAININGS:
            self.trainings.labels(policy, result)

    def swapped(self, policy: str, before: str | None, now: str) -> None:
        """A worker decides by the version `now`, no longer by `before`."""
        if before is not None:
            self.left(policy, before)
        self._workers.labels(policy, now).set(1)
        self.loads.labels(policy, "loaded").inc()

    def left(self, policy: str, version: str) -> None:
        """A worker decides by the version no longer."""
        self._workers.labels(policy, version).set(0)
