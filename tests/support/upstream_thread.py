"""A scripted upstream in a thread of its own, for tests that wait for processes."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

from tests.support import transcripts
from tests.support.scripted import ScriptedUpstream
from tests.support.steps import EVENT_STREAM, Reply, Step
from tests.support.wire import Exchange, framed, render_head

T = TypeVar("T")


class UpstreamThread:
    """A context manager around a `ScriptedUpstream`, whose steps are set before the requests come."""

    def __init__(self, default: Step | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted upstream")
        self.upstream = ScriptedUpstream(default=default or Reply("from upstream"))

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self.upstream.start())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.upstream.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        return self.upstream.url

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class HeldStream:
    """A step: a chat stream that stops after its first words until `go` is set."""

    def __init__(self) -> None:
        self.go = threading.Event()

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.send(render_head(200, EVENT_STREAM))
        chunks = list(transcripts.chat_chunks(Reply("one two three four"), exchange.request.json))
        for place, chunk in enumerate(chunks):
            if place == 2:
                await asyncio.to_thread(self.go.wait)
            await exchange.send(framed(b"data: " + json.dumps(chunk).encode() + b"\n\n"))
        await exchange.send(framed(b"data: [DONE]\n\n") + framed(b""))
