"""The client's side of the raw ASGI connection: its body, its hang-up, what is sent to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from router.errors import BadRequest, PayloadTooLarge

Headers = list[tuple[bytes, bytes]]


class ClientGone(Exception):
    """The client hung up before its request was complete."""


class Client:
    """One request's connection. `gone` turns true when the client hangs up while `watch` is on."""

    __slots__ = ("_receive", "_send", "_watcher", "gone", "headers", "started")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers: Headers = scope["headers"]
        self._receive = receive
        self._send = send
        self._watcher: asyncio.Task[None] | None = None
        self.gone = False
        self.started = False

    async def body(self, limit: int, timeout_s: float) -> bytes:
        """The request's body. Raises PayloadTooLarge, BadRequest when it takes too long, ClientGone."""
        length = next((value for name, value in self.headers if name == b"content-length"), b"0")
        if length.isdigit() and int(length) > limit:
            raise _too_large(limit)
        message = await self._receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body", False):
            try:
                async with asyncio.timeout(timeout_s):
                    return await self._rest(body, limit)
            except TimeoutError:
                raise BadRequest(f"the request body did not arrive within {timeout_s:g} s", code="timeout") from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        if len(body) > limit:
            raise _too_large(limit)
        return body

    async def _rest(self, first: bytes, limit: int) -> bytes:
        parts, size = [first], len(first)
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise _too_large(limit)
            if not message.get("more_body", False):
                return b"".join(parts)

    def watch(self, on_gone: Callable[[], None]) -> None:
        """From now on call `on_gone` once when the client hangs up."""
        self._watcher = asyncio.create_task(self._watch(on_gone))

    def unwatch(self) -> None:
        if self._watcher:
            self._watcher.cancel()
            self._watcher = None

    async def _watch(self, on_gone: Callable[[], None]) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            while (await self._receive())["type"] != "http.disconnect":
                pass
            self.gone = True
            on_gone()

    async def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer."""
        self.started = True
        length = (b"content-length", b"%d" % len(body))
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
        await self._send({"type": "http.response.body", "body": body})

    async def start_stream(self, headers: Headers) -> None:
        self.started = True
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def write(self, data: bytes) -> None:
        if data:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end_stream(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the request body is larger than the limit of {limit} bytes")
