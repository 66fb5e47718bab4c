"""The vector of one request while its decision waits: in time, or not at all. Nothing here fails a request."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from policies.bounds import Floats
from policies.learn.encoder import Encoder
from policies.query import Vector
from router.trained.encoders import EncodingFailed

log = logging.getLogger("distill_router.trained")

AT_ONCE = 8


class LiveEncoder:
    """More than `AT_ONCE` at a time do not wait in a queue: they are decided without a vector."""

    def __init__(self, encoder: Encoder, timeout_s: float) -> None:
        self._encoder = encoder
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="encoder")
        self._running = 0
        self._told = False

    async def vector(self, text: str) -> Vector | None:
        """None where it does not come in time."""
        if self._running >= AT_ONCE:
            self._tell(f"more than {AT_ONCE} requests at a time wait for it")
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                # Shielded: a call that is late ends by itself, and holds its place until then.
                vectors = await asyncio.shield(self._begin(text))
        except TimeoutError:
            self._tell(f"no vector within {self._timeout_s:g} s")
            return None
        except EncodingFailed as error:
            self._tell(str(error))
            return None
        self._told = False
        return Vector(self._encoder.name, tuple(vectors[0].tolist()))

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

    def _tell(self, why: str) -> None:
        if not self._told:
            self._told = True
            log.warning("encoder %s: %s; decisions are made without it until it answers", self._encoder.name, why)
