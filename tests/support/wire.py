"""HTTP/1.1 by hand, over asyncio streams, so that a test can also break it: a connection, a request, an exchange."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

LINE_LIMIT = 1 << 20


class ClientGone(Exception):
    """The client closed the connection before its answer was complete."""


@dataclass
class Served:
    """What a good answer amounts to: the tokens that its usage states, and those whose text was really sent."""

    prompt_tokens: int
    completion_tokens: int
    tokens_sent: int = 0
    finished: bool = False


@dataclass(eq=False)
class Received:
    """A request as it arrived; header names in lower case. `done` is set when its answer is over, `aborted` or not."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    aborted: bool = False
    served: Served | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Link(asyncio.StreamReaderProtocol):
    """One connection. `gone` is set as soon as the client closes its side, also while an answer is being sent."""

    def __init__(
        self, links: set[Link], connected: Callable[[Link, asyncio.StreamReader, asyncio.StreamWriter], None]
    ) -> None:
        super().__init__(asyncio.StreamReader(limit=LINE_LIMIT), lambda reader, writer: connected(self, reader, writer))
        self.links = links
        self.gone = asyncio.Event()
        self.closed = asyncio.Event()
        self.abort: Callable[[], None] = self.closed.set

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.abort = cast(asyncio.Transport, transport).abort
        self.links.add(self)
        super().connection_made(transport)

    def eof_received(self) -> bool | None:
        self.gone.set()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        self.closed.set()
        self.links.discard(self)
        super().connection_lost(exc)


class Exchange:
    """A request and the way to answer it. Its methods raise ClientGone once the client has closed the connection."""

    def __init__(self, request: Received, writer: asyncio.StreamWriter, link: Link) -> None:
        self.request = request
        self.keep_open = request.headers.get("connection", "").lower() != "close"
        self._writer = writer
        self._link = link

    async def send(self, data: bytes) -> None:
        """Bytes as they are."""
        if self._link.gone.is_set():
            raise ClientGone
        self._writer.write(data)
        try:
            await self._writer.drain()
        except ConnectionError as error:
            raise ClientGone from error

    async def sleep(self, seconds: float) -> None:
        """Waits, at 0 just for the other tasks' turn."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._link.gone.wait(), seconds)
        else:
            await asyncio.sleep(0)
        if self._link.gone.is_set():
            raise ClientGone

    async def hang(self) -> None:
        """Nothing more, until the client gives up."""
        await self._link.gone.wait()
        raise ClientGone

    def close(self) -> None:
        """Closes the connection after this answer."""
        self.keep_open = False

    def reset(self) -> None:
        """Breaks the connection with a TCP reset; what the client has not read yet is lost."""
        self.keep_open = False
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


def render_head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def framed(data: bytes) -> bytes:
    """One chunk of a chunked body; empty data ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


async def read_request(reader: asyncio.StreamReader) -> Received | None:
    """The next request of a connection, None when the client has closed it."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        start, *lines = head.decode("latin-1").split("\r\n")[:-2]
        method, path, _ = start.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Received(method, path, headers, await _read_body(reader, headers))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if "chunked" not in headers.get("transfer-encoding", ""):
        return await reader.readexactly(int(headers.get("content-length", "0")))
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    while await reader.readline() != b"\r\n":
        pass  # trailers
    return body
