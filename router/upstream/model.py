"""One model behind the gateway: replicas, retries before the first byte, a bounded number in flight.

`ModelClient.open` returns an answer whose first byte is there (a stream) or that is complete (everything else). Retries
end here; which other model might answer instead is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from dataclasses import dataclass, field
from hashlib import sha256

from pydantic import SecretStr

from policies.guards import Fit
from router.errors import RouterError, TooManyRequests, UpstreamFailed, UpstreamTimeout, UpstreamUnavailable
from router.ledger.pricing import DatedPrices, PriceList
from router.settings import Model
from router.tasks import end
from router.upstream.replica import Replica, build_replica, pick
from router.upstream.transport import Abortable, Aborted, ConnectFailed, Overdue, PoolFull, Response, TransportError

log = logging.getLogger("distill_router.upstream")

RETRY_STATUSES = frozenset({500, 502, 503, 504})
RETRY_AFTER_S = 1.0
BACKOFF_S = 0.05


@dataclass(slots=True)
class Leash:
    """Lets the client's hang-up end whatever runs on its behalf: a held student beside the teacher, for one.

    An exchange that is over is released, because its connection may be serving somebody else by then. `background`:
    nobody waits for the answer, so that it must not take a client's place.
    """

    running: list[Abortable] = field(default_factory=list)
    aborted: bool = False
    background: bool = False

    def attach(self, exchange: Abortable) -> None:
        """Raises Aborted when the client has hung up already."""
        if self.aborted:
            raise Aborted("given up")
        self.running.append(exchange)

    def release(self, exchange: Abortable) -> None:
        if exchange in self.running:
            self.running.remove(exchange)

    def abort(self) -> None:
        self.aborted = True
        for exchange in tuple(self.running):
            exchange.abort()


@dataclass(slots=True)
class Attempts:
    """What was tried for one answer: shown to the client when nothing worked, and counted as retries.

    `timeouts` and `cut_off` (the client hung up) count tries that the model may have worked on for nothing.
    """

    failures: list[str] = field(default_factory=list)
    timeouts: int = 0
    cut_off: int = 0
    tried: set[str] = field(default_factory=set)

    def of(self, model: str) -> list[str]:
        """The failures of one model's replicas."""
        return [failure for failure in self.failures if failure.startswith(f"{model}[")]

    def add(self, replica: Replica, problem: str) -> None:
        self.failures.append(f"{replica.name}: {problem}")
        self.tried.add(replica.name)


class Reply:
    """An upstream's answer. `body` holds all of it unless it streams; then `chunk` gives it piece by piece.

    `deadline`, in loop time, is when the whole answer must be there.
    """

    __slots__ = (
        "_client",
        "_first",
        "_headers",
        "_leash",
        "_open",
        "_replica",
        "_response",
        "attempts",
        "body",
        "deadline",
        "status",
        "streams",
    )

    def __init__(
        self,
        client: ModelClient,
        replica: Replica,
        response: Response,
        leash: Leash,
        attempts: Attempts,
        deadline: float,
    ) -> None:
        self._client = client
        self._replica = replica
        self._response = response
        self._leash = leash
        self._headers = response.headers
        self.status = response.status
        self.deadline = deadline
        self._open = True
        self.attempts = attempts
        self.body = b""
        self.streams = False
        self._first = b""

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self._headers if key == name), None)

    async def read_first(self, deadline: float) -> None:
        """Wait for the first bytes of a stream and keep them. Raises TransportError."""
        self._first = await self._response.chunk(deadline)

    async def read_body(self) -> None:
        """Read all of an answer that does not stream. Raises TransportError."""
        self.body = await self._response.read(self.deadline)

    async def chunk(self) -> bytes:
        """The stream's bytes that have arrived; b'' at its end. Raises TransportError; the circuit hears of it."""
        if self._first:
            data, self._first = self._first, b""
            return data
        now = asyncio.get_running_loop().time()
        try:
            return await self._response.chunk(min(now + self._client.config.timeouts.idle_s, self.deadline))
        except TransportError as error:
            self._client.note_failure(self._replica, error, self._leash)
            raise

    def succeeded(self) -> None:
        """The answer was good to its end: the circuit forgets earlier failures."""
        if not self._leash.background:
            self._replica.circuit.succeeded()

    def failed(self, problem: str) -> None:
        """The answer makes no sense: as bad for the circuit as no answer."""
        self._client.note_problem(self._replica, problem, self._leash)

    async def drain(self, timeout_s: float) -> None:
        """Read what little is left after the last event, so that the connection can serve again."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        with contextlib.suppress(TransportError):
            while await self._response.chunk(deadline):
                pass

    def close(self) -> None:
        """Give back the connection and the place in flight. May be called twice."""
        if self._open:
            self._open = False
            self._leash.release(self._response)
            self._response.close()
            self._client.leave(self._replica, self._leash)


class ModelClient:
    """A configured model and everything that is needed to call it."""

    def __init__(self, name: str, config: Model, api_key: SecretStr | None) -> None:
        self.name = name
        self.config = config
        self.api_key = api_key
        self.upstream_name = config.model or name
        self.price_history = DatedPrices(config.price)
        self.version = model_version(name, config)
        self.supports = frozenset(config.supports)
        self.fit = Fit(self.supports, config.context_tokens, config.max_output_tokens, config.bytes_per_token)
        self.replicas: list[Replica] = [
            build_replica(f"{name}[{i}]", url, config, api_key) for i, url in enumerate(config.base_urls)
        ]
        self.in_flight = 0
        self._in_background = 0
        self._background_places = max(1, int(config.max_in_flight * config.shadow.capacity_share))
        self._idle: asyncio.Event | None = None
        self._health: asyncio.Task[None] | None = None

    @property
    def prices(self) -> PriceList:
        """The list that is valid now: a call keeps the one that it began with."""
        return self.price_history.now

    def prices_at(self, time_s: float) -> PriceList:
        """The list that was valid at a Unix time."""
        return self.price_history.at(time_s)

    def start(self) -> None:
        """Begin the active health checks."""
        self._health = asyncio.create_task(self._check_forever(), name=f"health of {self.name}")

    async def close(self) -> None:
        if self._health:
            await end([self._health])
        for replica in self.replicas:
            await replica.transport.close()
            await replica.shadow.close()

    @property
    def available(self) -> bool:
        """Whether a replica is healthy and its circuit admits a call.

        A model that is not available is still called where nothing else can answer: its health path may be wrong.
        """
        now = time.monotonic()
        return any(replica.healthy and replica.circuit.admits(now) for replica in self.replicas)

    async def open(
        self, path: str, headers: bytes, body: bytes, *, stream: bool, leash: Leash, attempts: Attempts
    ) -> Reply:
        """Call the model: POST `body` to `path` below the base URL, with retries before the first byte.

        `attempts` collects what was tried. Raises TooManyRequests (its places in flight are taken), UpstreamFailed and
        its subclasses with what was tried, Aborted when the leash was pulled. Answers under 500 are returned.
        """
        self._enter(leash)
        try:
            return await self._with_retries(path, headers, body, stream, leash, attempts)
        except BaseException:
            self._left(leash)
            raise

    def leave(self, replica: Replica, leash: Leash) -> None:
        """A reply is closed."""
        replica.in_flight -= 1
        self._left(leash)

    def _enter(self, leash: Leash) -> None:
        """Clients have all the places there are; background calls a share of those that nobody uses."""
        if leash.background and self._in_background >= self._background_places:
            raise TooManyRequests(
                f"model '{self.name}' has {self._in_background} background calls in flight, their share",
                code="model_overloaded",
                retry_after_s=RETRY_AFTER_S,
            )
        taken = self.in_flight if leash.background else self.in_flight - self._in_background
        if taken >= self.config.max_in_flight:
            raise TooManyRequests(
                f"model '{self.name}' has {taken} requests in flight, its limit; try again later",
                code="model_overloaded",
                retry_after_s=RETRY_AFTER_S,
            )
        self.in_flight += 1
        self._in_background += leash.background

    async def idle(self) -> None:
        """Wait until no call is in flight."""
        if self.in_flight:
            self._idle = asyncio.Event()
            await self._idle.wait()

    def _left(self, leash: Leash) -> None:
        self.in_flight -= 1
        self._in_background -= leash.background
        if self._idle and not self.in_flight:
            self._idle.set()

    def note_failure(self, replica: Replica, error: TransportError, leash: Leash) -> None:
        """One failure for the circuit, unless it was the client's or the gateway's own doing."""
        if isinstance(error, Aborted | PoolFull):
            self._ended(replica, leash)
            return
        self.note_problem(replica, str(error), leash)

    def note_problem(self, replica: Replica, problem: str, leash: Leash) -> None:
        """One failure for the replica's circuit; a background call, which may starve, does not count."""
        if not leash.background:
            replica.circuit.failed(time.monotonic())
        log.log(
            logging.DEBUG if leash.background else logging.WARNING,
            "%s at %s failed: %s",
            replica.name,
            replica.url,
            problem,
        )

    def _ended(self, replica: Replica, leash: Leash) -> None:
        if not leash.background:
            replica.circuit.ends()

    async def _with_retries(
        self, path: str, headers: bytes, body: bytes, stream: bool, leash: Leash, attempts: Attempts
    ) -> Reply:
        error: TransportError | int | None = None
        deadline = asyncio.get_running_loop().time() + self.config.timeouts.total_s
        for number in range(self.config.retries + 1):
            replica = pick(self.replicas, attempts.tried)
            if replica is None:
                break
            if number:
                await asyncio.sleep(BACKOFF_S * 2 ** (number - 1) * random.uniform(0.5, 1.5))
            if leash.aborted:
                raise Aborted("given up")
            outcome = await self._attempt(replica, attempts, path, headers, body, stream, leash, deadline)
            if isinstance(outcome, Reply):
                return outcome
            error = outcome
            if asyncio.get_running_loop().time() >= deadline:
                break
        raise self._failure(error, attempts)

    async def _attempt(
        self,
        replica: Replica,
        attempts: Attempts,
        path: str,
        headers: bytes,
        body: bytes,
        stream: bool,
        leash: Leash,
        deadline: float,
    ) -> Reply | TransportError | int:
        """One try: the reply, or what went wrong (an error, or a status worth a retry).

        Whether an answer with status 200 is a success, its reader tells the reply.
        """
        now = asyncio.get_running_loop().time()
        first_by = min(deadline, now + self.config.timeouts.first_token_s) if stream else deadline
        running = len(leash.running)
        if not leash.background:
            replica.circuit.starts()
        replica.in_flight += 1
        response: Response | None = None
        try:
            transport = replica.shadow if leash.background else replica.transport
            response = await transport.send(replica.head(path) + headers, body, first_by, leash.attach)
            reply = Reply(self, replica, response, leash, attempts, deadline)
            reply.streams = stream and _is_event_stream(reply)
            await (reply.read_first(first_by) if reply.streams else reply.read_body())
        except TransportError as error:
            attempts.cut_off += isinstance(error, Aborted) and len(leash.running) > running
            self._leave_failed(replica, response, leash, running)
            self.note_failure(replica, error, leash)
            if isinstance(error, Aborted):
                raise
            attempts.add(replica, str(error))
            attempts.timeouts += isinstance(error, Overdue)
            return error
        except BaseException:
            attempts.cut_off += len(leash.running) > running
            self._leave_failed(replica, response, leash, running)
            self._ended(replica, leash)
            raise
        if _is_bad(reply.status):
            self.note_problem(replica, f"status {reply.status}", leash)
            attempts.add(replica, f"status {reply.status}")
            self._leave_failed(replica, response, leash, running)
            return reply.status
        if reply.status != 200 or (reply.streams and replica.circuit.is_open):
            reply.succeeded()
        return reply

    def _leave_failed(self, replica: Replica, response: Response | None, leash: Leash, running: int) -> None:
        """`running`: how many exchanges were on the leash before this try."""
        replica.in_flight -= 1
        del leash.running[running:]
        if response:
            response.close()

    def _failure(self, error: TransportError | int | None, attempts: Attempts) -> RouterError:
        if error is None:
            return UpstreamUnavailable(
                f"model '{self.name}' is not available: the circuit of every replica is open after repeated failures",
                retry_after_s=self.config.circuit.open_s,
            )
        tried = f"model '{self.name}' failed; tried {'; '.join(attempts.of(self.name))}"
        if isinstance(error, PoolFull):
            return TooManyRequests(tried, code="model_overloaded", retry_after_s=RETRY_AFTER_S)
        if isinstance(error, Overdue) or error == 504:
            return UpstreamTimeout(tried)
        if isinstance(error, ConnectFailed) or error == 503:
            return UpstreamUnavailable(tried)
        return UpstreamFailed(tried)

    async def _check_forever(self) -> None:
        health = self.config.health
        while True:
            for replica in self.replicas:
                await replica.check(health.path, health.timeout_s)
            await asyncio.sleep(health.interval_s)


def model_version(name: str, config: Model) -> str:
    """Eight hex digits over what a model's answers depend on: where it is served is not among it."""
    return sha256(f"{config.model or name}\0{config.adapt.model_dump_json()}".encode()).hexdigest()[:8]


def _is_bad(status: int) -> bool:
    """Neither an answer nor the request's fault: another replica, or the same a moment later, may do better."""
    return status in RETRY_STATUSES or (status < 400 and status != 200)


def _is_event_stream(reply: Reply) -> bool:
    return reply.status == 200 and (reply.header(b"content-type") or b"").startswith(b"text/event-stream")
