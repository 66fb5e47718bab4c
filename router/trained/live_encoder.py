"""The vector of one request while its decision waits: in time, or not at all. Nothing here fails a request."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from policies.bounds import Floats
from policies.learn.encoder import Encoder
from router.trained.encoders import EncodingFailed
from router.trained.metrics import TrainedMetrics

log = logging.getLogger("distill_router.trained")

AT_ONCE = 8


class LiveEncoder:
    """Of one route. More than `AT_ONCE` at a time do not wait in a queue: they are decided without a vector."""

    def __init__(self, route: str, encoder: Encoder, timeout_s: float, metrics: TrainedMetrics) -> None:
        self._route = route
        self._encoder = encoder
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix=f"encoder of {route}")
        self._running = 0
        self._told = False
        metrics.encodes(route)

    @property
    def name(self) -> str:
        """Of the encoder: a policy that was trained with another one has no use for these vectors."""
        return self._encoder.name

    async def vector(self, text: str) -> Floats | None:
        """Shape (dimension,); None where it does not come in time."""
        if self._running >= AT_ONCE:
            self._without("busy", "too many at a time")
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                # Shielded: a call that is late ends by itself, and holds its place until then.
                vectors = await asyncio.shield(self._begin(text))
        except TimeoutError:
            self._without("late", f"not there within {self._timeout_s:g} s")
            return None
        except EncodingFailed as error:
            self._without("failed", str(error))
            return None
        self._metrics.vectors.labels(self._route, "ok").inc()
        self._told = False
        return np.asarray(vectors[0])

    def close(self) -> None:
        """Does not wait for calls that run."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self, text: str) -> asyncio.Future[Floats]:
        self._running += 1
        call = asyncio.get_running_loop().run_in_executor(self._threads, self._encoder.encode, [text])
        call.add_done_callback(self._ended)
        return call

    def _ended(self, call: asyncio.Future[Floats]) -> None:
        self._running -= 1
        if not call.cancelled():
            call.exception()  # looked at, whether or not somebody still waits for it

    def _without(self, result: str, why: str) -> None:
        self._metrics.vectors.labels(self._route, result).inc()
        if not self._told:
            self._told = True
            log.warning("encoder of route %s: %s; decisions are made without it until it answers", self._route, why)
