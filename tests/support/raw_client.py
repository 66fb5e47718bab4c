"""A client by hand, over a bare socket, so that it can also misbehave: hang up, dawdle, send nonsense."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Self


def request_bytes(path: str, body: Any, *, head: str = "", length: int | None = None) -> bytes:
    """A POST; `length` states another content-length than the body has."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{head}"
    return f"{lines}content-length: {len(content) if length is None else length}\r\n\r\n".encode() + content


class RawClient:
    """One connection, an async context manager that breaks it at the end. `received` is all that came."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.received = b""

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 14)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        self._writer.transport.abort()

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def post(self, path: str, body: Any, **more: Any) -> None:
        await self.send(request_bytes(path, body, **more))

    async def read_until(self, mark: bytes) -> bytes:
        """Reads on until `mark` was seen or the connection has ended."""
        while mark not in self.received and await self.read_some():
            pass
        return self.received

    async def read_some(self) -> bytes:
        """What has come, b'' at the end."""
        data = await self._reader.read(1 << 12)
        self.received += data
        return data

    async def read_all(self) -> bytes:
        """Everything until the server closes."""
        while await self.read_some():
            pass
        return self.received
