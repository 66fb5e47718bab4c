"""A pooled HTTP/1.1 client on asyncio protocols and httptools: about a tenth of httpx's CPU time a request.

One `HttpPool` per origin. A connection serves one request at a time and goes back to the pool when its answer was read
to the end. Reading pauses while more than `HIGH_WATER` bytes wait, so that a slow client slows the upstream down.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable
from typing import cast
from urllib.parse import SplitResult

import httptools

from router.upstream.transport import (
    Abortable,
    Aborted,
    Broken,
    ConnectFailed,
    Overdue,
    PoolFull,
    Response,
    StaleConnection,
    TransportError,
)

HIGH_WATER = 256 * 1024
MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024
KEEP_ALIVE_S = 60.0


class Connection(asyncio.Protocol):
    """One TCP connection and the answer that is being read from it."""

    def __init__(self, pool: HttpPool) -> None:
        self._pool = pool
        self._loop = pool.loop
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._chunks: deque[bytes] = deque()
        self._paused = False
        self._served = 0
        self.idle_since = 0.0
        self.closed = False
        self.active = False
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._head_done = False
        self._complete = False
        self._framed = False
        self._reusable = False
        self._buffered = 0
        self._error: TransportError | None = None
        self._chunks.clear()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        if not self.active:
            self.drop()  # an answer nobody asked for
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._complete:
                self._fail(Broken("the upstream did not answer in HTTP"))
                return
            self._reusable = False  # the answer is there; what follows it is noise
        if not self._head_done:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._fail(Broken(f"the upstream sent more than {MAX_HEAD_BYTES} bytes of headers"))
                return
        elif self._buffered > HIGH_WATER and not self._paused and not self._complete and self._transport:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._pool.forget(self)
        if not self.active or self._complete:
            return
        if self._head_done and not self._framed:
            self._complete = True  # an answer without length ends with its connection (RFC 9112, 6.3)
            self._wake()
        elif self._served and not self._head_bytes:
            self._fail(StaleConnection("the upstream closed the connection"))
        elif self._head_done:
            self._fail(Broken("the upstream closed the connection in the middle of its answer"))
        else:
            self._fail(Broken("the upstream closed the connection without an answer"))

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self._complete:
            self._reusable = False  # something follows an answer that was complete

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._complete:
            return  # of a second answer, which nobody asked for
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._framed = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._complete:
            self._reusable = False
            return
        self.status = self._parser.get_status_code()
        if self.status < 200:
            self.headers.clear()
            return
        self._framed = self._framed or self.status in (204, 304)
        self._head_done = True

    def on_body(self, body: bytes) -> None:
        if self._complete:
            return
        self._chunks.append(body)
        self._buffered += len(body)

    def on_message_complete(self) -> None:
        if not self._head_done or self._complete:
            return  # an interim 1xx answer, or one too many
        self._complete = True
        self._reusable = self._parser.should_keep_alive()

    # The exchange

    async def exchange(self, head: bytes, body: bytes, deadline: float) -> None:
        """Send one request and wait for the head of its answer."""
        self.active = True
        assert self._transport is not None
        self._transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        while not self._head_done:
            await self._wait(deadline, "the first byte of the answer")

    async def chunk(self, deadline: float) -> bytes:
        while not self._chunks:
            if self._complete:
                return b""
            await self._wait(deadline, "more of the answer")
        data = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        if self._paused and self._transport:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def read(self, deadline: float) -> bytes:
        parts, size = [], 0
        while data := await self.chunk(deadline):
            parts.append(data)
            size += len(data)
            if size > MAX_BODY_BYTES:
                raise Broken(f"the upstream's answer is larger than {MAX_BODY_BYTES} bytes")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def abort(self) -> None:
        self._fail(Aborted("given up"))

    def close(self) -> None:
        if not self.active:
            return
        if self._complete and self._reusable and not self.closed and not self._chunks:
            self.active = False
            self._served += 1
            self._reset()
            self._pool.give_back(self)
        else:
            self.drop()

    def drop(self) -> None:
        self.active = False
        if not self.closed and self._transport:
            self.closed = True
            self._transport.abort()

    async def _wait(self, deadline: float, what: str) -> None:
        if self._error:
            raise self._error
        self._waiter = self._loop.create_future()
        timer = self._loop.call_at(deadline, self._overdue, what)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None
        if self._error:
            raise self._error

    def _overdue(self, what: str) -> None:
        self._fail(Overdue(f"timed out waiting for {what}"))

    def _fail(self, error: TransportError) -> None:
        if self._error is None:
            self._error = error
        if self._transport and not self.closed:
            self.closed = True
            self._transport.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)


class HttpPool:
    """Connections to one origin. Implements `Transport`."""

    def __init__(self, origin: SplitResult, *, max_connections: int, connect_s: float) -> None:
        assert origin.hostname is not None
        self.loop = asyncio.get_running_loop()
        self._host = origin.hostname
        self._tls = ssl.create_default_context() if origin.scheme == "https" else None
        self._port = origin.port or (443 if self._tls else 80)
        self._max = max_connections
        self._connect_s = connect_s
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()

    async def send(self, head: bytes, body: bytes, deadline: float, on_start: Callable[[Abortable], None]) -> Response:
        if connection := self._warm():
            with contextlib.suppress(StaleConnection):
                return await self._exchange(connection, head, body, deadline, on_start)
        return await self._exchange(await self._connect(), head, body, deadline, on_start)

    async def close(self) -> None:
        self._max = 0
        for connection in list(self._open):
            connection.drop()
        await asyncio.sleep(0)  # the sockets close in the loop's next turn

    def give_back(self, connection: Connection) -> None:
        if self._max == 0:
            connection.drop()
            return
        connection.idle_since = self.loop.time()
        self._idle.append(connection)

    def forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    async def _exchange(
        self,
        connection: Connection,
        head: bytes,
        body: bytes,
        deadline: float,
        on_start: Callable[[Abortable], None],
    ) -> Connection:
        try:
            on_start(connection)
            await connection.exchange(head, body, deadline)
        except BaseException:
            connection.drop()
            raise
        return connection

    def _warm(self) -> Connection | None:
        oldest = self.loop.time() - KEEP_ALIVE_S
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and connection.idle_since > oldest:
                return connection
            connection.drop()
        return None

    async def _connect(self) -> Connection:
        if len(self._open) >= self._max:
            raise PoolFull("every connection to the upstream is in use")
        connection = Connection(self)
        self._open.add(connection)
        connected = False
        try:
            async with asyncio.timeout(self._connect_s):
                await self.loop.create_connection(lambda: connection, self._host, self._port, ssl=self._tls)
            connected = True
        except TimeoutError as error:
            raise ConnectFailed("timed out connecting") from error
        except OSError as error:
            raise ConnectFailed(_reason(error)) from error
        finally:
            if not connected:
                self._open.discard(connection)
                connection.drop()
        return connection


def _reason(error: OSError) -> str:
    """What went wrong, without the address: clients may read it."""
    if isinstance(error, ConnectionRefusedError) or "refused" in str(error).lower():
        return "connection refused"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error.__class__.__name__}"
    return f"cannot connect ({error.__class__.__name__})"
