"""One replica of a model: its connections, requests in flight, circuit breaker and health."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pydantic import SecretStr

from router.settings import Model
from router.upstream.http import HttpPool
from router.upstream.transport import Transport, TransportError

UNHEALTHY_AFTER = 2
USER_AGENT = b"distill-router"


@dataclass(slots=True)
class Circuit:
    """Opens after `failures` consecutive failures; after `open_s` lets one request try, and closes when it succeeds."""

    failures: int
    open_s: float
    consecutive: int = 0
    open_until: float = 0.0
    probing: bool = False

    def admits(self, now: float) -> bool:
        return self.consecutive < self.failures or (now >= self.open_until and not self.probing)

    def starts(self) -> None:
        self.probing = self.consecutive >= self.failures

    def ends(self) -> None:
        """The request ended and says nothing about the replica (the client hung up)."""
        self.probing = False

    def succeeded(self) -> None:
        self.consecutive = 0
        self.probing = False

    def failed(self, now: float) -> None:
        self.consecutive += 1
        self.probing = False
        if self.consecutive >= self.failures:
            self.open_until = now + self.open_s

    @property
    def is_open(self) -> bool:
        return self.consecutive >= self.failures


@dataclass(slots=True)
class Replica:
    """`name` (`teacher[0]`) is what clients may read; the address stays in the log. `shadow`: for background calls."""

    name: str
    url: str
    transport: Transport
    shadow: Transport
    circuit: Circuit
    head_start: bytes
    in_flight: int = 0
    healthy: bool = True
    failed_checks: int = 0
    heads: dict[str, bytes] = field(default_factory=dict)

    def head(self, path: str) -> bytes:
        """The head of a POST to `path` below the base URL, up to the headers that differ by request."""
        head = self.heads.get(path)
        if head is None:
            head = self.heads[path] = self._request_line(b"POST", path) + b"content-type: application/json\r\n"
        return head

    async def check(self, path: str, timeout_s: float) -> None:
        """One active health check; two failures in a row make the replica unhealthy, one success healthy."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        healthy = False
        with contextlib.suppress(TransportError):
            response = await self.transport.send(self._request_line(b"GET", path), b"", deadline, lambda _: None)
            healthy = response.status < 500
            with contextlib.suppress(TransportError):
                await response.read(deadline)
            response.close()
        self.failed_checks = 0 if healthy else self.failed_checks + 1
        self.healthy = self.failed_checks < UNHEALTHY_AFTER

    def _request_line(self, method: bytes, path: str) -> bytes:
        target = urlsplit(self.url).path.rstrip("/") + path
        return b"%b %b HTTP/1.1\r\n%b" % (method, target.encode(), self.head_start)


def build_replica(name: str, url: str, model: Model, api_key: SecretStr | None) -> Replica:
    """A replica of `model` at `url`; opens no connection."""
    origin = urlsplit(url)
    host = origin.netloc.rpartition("@")[2]
    head = b"host: %b\r\nuser-agent: %b\r\naccept-encoding: identity\r\n" % (host.encode(), USER_AGENT)
    if api_key:
        head += b"authorization: Bearer %b\r\n" % api_key.get_secret_value().encode()
    connect_s = model.timeouts.connect_s
    transport = HttpPool(origin, max_connections=model.max_connections, connect_s=connect_s)
    shadow = HttpPool(origin, max_connections=model.shadow.max_connections, connect_s=connect_s)
    return Replica(name, url, transport, shadow, Circuit(model.circuit.failures, model.circuit.open_s), head)


def pick(replicas: list[Replica], tried: set[str]) -> Replica | None:
    """Least in flight among those whose circuit admits; untried before tried, healthy before unhealthy."""
    now = time.monotonic()
    admitted = [replica for replica in replicas if replica.circuit.admits(now)]
    if not admitted:
        return None
    if len(admitted) == 1:
        return admitted[0]
    return min(admitted, key=lambda r: (r.name in tried, not r.healthy, r.in_flight))
