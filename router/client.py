"""The client's side of the raw ASGI connection: its body, its hang-up, what is sent to it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from router.errors import BadRequest, PayloadTooLarge

Headers = list[tuple[bytes, bytes]]

SAFE_VALUE = re.compile(rb"[\x21-\x7e]{1,200}")


class ClientGone(Exception):
    """The client hung up before its request was complete."""


class Client:
    """One request's connection. `gone` turns true when the client hangs up while `watch` is on.

    `closes`: the rest of the request is not worth waiting for, so that the answer ends the connection.
    """

    __slots__ = ("_receive", "_send", "_watcher", "closes", "gone", "headers", "started")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers: Headers = scope["headers"]
        self._receive = receive
        self._send = send
        self._watcher: asyncio.Task[None] | None = None
        self.gone = False
        self.closes = False
        self.started = False

    async def body(self, limit: int, timeout_s: float) -> bytes:
        """The request's body. Raises PayloadTooLarge, BadRequest when it takes too long, ClientGone."""
        length = next((value for name, value in self.headers if name == b"content-length"), b"0")
        if length.isdigit() and int(length) > limit:
            raise _too_large(limit)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._read_body(limit)
        except TimeoutError:
            self.closes = True
            raise BadRequest(f"the request body did not arrive within {timeout_s:g} s", code="timeout") from None

    async def _read_body(self, limit: int) -> bytes:
        parts, size = [], 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise _too_large(limit)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

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
        if self.closes:
            headers = [*headers, (b"connection", b"close")]
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


def unique_id() -> str:
    """22 hex digits: milliseconds since the epoch, then 40 random bits; sorts by time."""
    return f"{time.time_ns() // 1_000_000:012x}{random.getrandbits(40):010x}"


def request_id_of(headers: Headers) -> bytes:
    """The client's x-request-id where it is fit for a header, else a new one."""
    given = next((value for name, value in headers if name == b"x-request-id"), b"")
    return given if SAFE_VALUE.fullmatch(given) else b"req_" + unique_id().encode()
