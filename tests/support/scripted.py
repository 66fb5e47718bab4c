"""A scripted OpenAI-compatible upstream over real TCP, for faults and for features that tiny models lack.

    async with ScriptedUpstream() as up:
        up.script(Reply("hello"), failing(429, "slow down", headers={"retry-after": "2"}), HANG)
        ...  # point the gateway or a client at up.url

One step of the script answers one POST; when none is left, `up.default` does. GET /health and /v1/models are probes and
stay apart (`up.health`). A step is any `async (exchange) -> None`: `Reply`, `Status`, `Raw` or a test's own function.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Self

from tests.support import transcripts
from tests.support.steps import (
    CLOSE,
    CLOSE_AFTER_HEAD,
    GARBAGE,
    HANG,
    HANG_AFTER_HEAD,
    Fault,
    Held,
    Raw,
    Reply,
    Status,
    Step,
    Wire,
    failing,
    oversized_header,
    truncated_body,
    truncated_chunk,
)
from tests.support.transcripts import ToolCall, Usage
from tests.support.wire import ClientGone, Exchange, Link, Received, Served, read_request

__all__ = [
    "CLOSE",
    "CLOSE_AFTER_HEAD",
    "GARBAGE",
    "HANG",
    "HANG_AFTER_HEAD",
    "Exchange",
    "Fault",
    "Held",
    "Raw",
    "Received",
    "Reply",
    "ScriptedUpstream",
    "Served",
    "Status",
    "Step",
    "ToolCall",
    "Usage",
    "Wire",
    "failing",
    "oversized_header",
    "truncated_body",
    "truncated_chunk",
]


class ScriptedUpstream:
    """An async context manager. An exception in a step is raised again when the context ends.

    `requests` are the POSTs in order of arrival, `probes` the GETs. `client_gone` is set when a client closes a
    connection before its answer is complete; `request.aborted` says which. `health`, where set, answers the probes.
    """

    def __init__(self, *, default: Step | None = None, models: Sequence[str] = ("scripted",)) -> None:
        self.default: Step = default or Reply()
        self.health: Step | None = None
        self.models = tuple(models)
        self.requests: list[Received] = []
        self.probes: list[Received] = []
        self.client_gone = asyncio.Event()
        self.port = 0
        self._steps: deque[Step] = deque()
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._errors: list[BaseException] = []
        self._arrival = asyncio.Condition()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self.stop()
        if self._errors and kind is None:
            raise self._errors[0]

    @property
    def url(self) -> str:
        """The base URL, as `base_urls` has it."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def open_connections(self) -> int:
        return len(self._links)

    @property
    def served(self) -> list[Served]:
        """The accounts of the good answers, in order of arrival of their requests."""
        return [request.served for request in self.requests if request.served is not None]

    def script(self, *steps: Step) -> None:
        """Queues one step for each of the next POSTs."""
        self._steps.extend(steps)

    async def arrived(self, count: int) -> Received:
        """Waits until so many POSTs have arrived; returns the last of them."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: len(self.requests) >= count)
        return self.requests[count - 1]

    async def start(self) -> None:
        """Listens; after `stop`, on the same port again."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Link(self._links, self._connected), "127.0.0.1", self.port, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Breaks every connection and refuses new ones."""
        if self._server is None:
            return
        self._server.close()
        await self.drop_connections()
        await self._server.wait_closed()
        self._server = None

    async def drop_connections(self) -> None:
        """Breaks every connection, the idle ones in clients' pools too, and keeps listening."""
        for task in self._tasks:
            task.cancel()
        links = list(self._links)
        for link in links:
            link.abort()
        await asyncio.gather(*self._tasks, *(link.closed.wait() for link in links), return_exceptions=True)

    def _connected(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(link, reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._errors.append(error)

    async def _serve(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            keep_open = True
            while keep_open and (request := await read_request(reader)) is not None:
                exchange = Exchange(request, writer, link)
                await self._answer(exchange)
                keep_open = exchange.keep_open
            writer.close()
        except BaseException:
            writer.transport.abort()
            raise

    async def _answer(self, exchange: Exchange) -> None:
        request = exchange.request
        step = await self._step(request)
        try:
            await step(exchange)
        except ClientGone:
            request.aborted = True
            exchange.close()
            self.client_gone.set()
        finally:
            request.done.set()

    async def _step(self, request: Received) -> Step:
        if request.method == "GET":
            self.probes.append(request)
            return self._probe(request.path)
        async with self._arrival:
            self.requests.append(request)
            self._arrival.notify_all()
        return self._steps.popleft() if self._steps else self.default

    def _probe(self, path: str) -> Step:
        if path == "/health":
            return self.health or Status(200)
        if path == "/v1/models":
            return self.health or Status(200, transcripts.models(self.models))
        return failing(404, f"no such path: {path}", kind="invalid_request_error")
