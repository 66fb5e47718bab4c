"""The one small interface between the gateway and whatever speaks HTTP to an upstream.

`router.upstream.http` implements it with httptools on asyncio protocols; another client only has to offer these two
protocols. It knows nothing of models, retries or JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class TransportError(Exception):
    """The exchange with an upstream failed; the text is safe to show to a client (no address in it)."""


class ConnectFailed(TransportError):
    """No connection: refused, unreachable, TLS failure, or too slow."""


class PoolFull(ConnectFailed):
    """Every connection that the configuration allows is in use: the gateway's own bound, no fault of the upstream."""


class Overdue(TransportError):
    """A timeout passed; `str()` says which."""


class Broken(TransportError):
    """The peer closed too early or did not speak HTTP."""


class StaleConnection(Broken):
    """A kept-alive connection was closed before one byte of the answer came: nothing was answered, ask again."""


class Aborted(TransportError):
    """Given up by the gateway itself, for instance because the client hung up."""


class Abortable(Protocol):
    """A running exchange."""

    def abort(self) -> None:
        """End it now: whoever waits for it gets `Aborted`."""


class Response(Abortable, Protocol):
    """An answer whose head has arrived."""

    status: int
    headers: list[tuple[bytes, bytes]]

    async def read(self, deadline: float) -> bytes:
        """The whole body. `deadline` in loop time. Raises TransportError."""

    async def chunk(self, deadline: float) -> bytes:
        """The bytes that have arrived, at least one; b'' at the end. Raises TransportError."""

    def close(self) -> None:
        """Give the connection back if the answer was read to its end, else drop it. May be called twice."""


class Transport(Protocol):
    """Connections to one origin."""

    async def send(self, head: bytes, body: bytes, deadline: float, on_start: Callable[[Abortable], None]) -> Response:
        """Send a request whose head lacks only `content-length`; returns when the answer's head is there.

        `on_start` receives a handle that ends the exchange from outside, before anything is sent; the handle means
        nothing any more once the response is closed. Raises TransportError, and what `on_start` raises.
        """

    async def close(self) -> None:
        """Drop every connection."""
