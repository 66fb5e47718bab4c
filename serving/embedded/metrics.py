"""What the engine counts about itself, in a registry of its own."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving.embedded.sequence import Delta

_TTFT_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class EngineMetrics:
    """The engine's series; label values come from the code alone."""

    def __init__(self, *, running: Callable[[], float], waiting: Callable[[], float]) -> None:
        prefix = "distill_router_embedded"
        self._registry = CollectorRegistry()
        self.requests = Counter(
            f"{prefix}_requests", "HTTP requests answered.", ["endpoint", "status"], registry=self._registry
        )
        tokens = Counter(f"{prefix}_tokens", "Tokens read and written.", ["kind"], registry=self._registry)
        self.prompt_tokens = tokens.labels("prompt")
        self._completion_tokens = tokens.labels("completion")
        self._time_to_first_token = Histogram(
            f"{prefix}_time_to_first_token_seconds",
            "From the admission of a sequence to its first token, the wait in the queue included.",
            buckets=_TTFT_BUCKETS_S,
            registry=self._registry,
        )
        Gauge(f"{prefix}_sequences_running", "Sequences in the batch.", registry=self._registry).set_function(running)
        Gauge(f"{prefix}_sequences_waiting", "Sequences in the queue.", registry=self._registry).set_function(waiting)

    def observe(self, delta: Delta) -> None:
        """Count a piece of an answer."""
        self._completion_tokens.inc(delta.token_count)
        if delta.time_to_first_token_s is not None:
            self._time_to_first_token.observe(delta.time_to_first_token_s)

    def render(self) -> bytes:
        """The text of GET /metrics."""
        return generate_latest(self._registry)
