"""Sends an answer to the client and settles it: whole answers, streams, errors before and after the first byte."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import msgspec

from router.arm import ArmCall, Batch
from router.client import Client, Headers
from router.errors import RouterError
from router.exchange import Trace
from router.ledger.bill import Origin
from router.ledger.pricing import usd
from router.upstream.transport import Aborted, TransportError
from router.wire.present import Presenter, presenter

JSON = (b"content-type", b"application/json")
EVENTS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
PASSED_BACK = (b"content-type", b"retry-after")
COST_COMMENT_HEADER = "x-router-stream-cost"
DRAIN_S = 0.5
SLOW_CLIENT_S = 1.0  # after the model's deadline, so that a slow model is told from a client that does not read


async def send_error(client: Client, error: RouterError, headers: Headers) -> None:
    """An OpenAI error as a whole answer."""
    extra = [JSON, *headers]
    if error.retry_after_s is not None:
        extra.append((b"retry-after", b"%d" % max(1, round(error.retry_after_s))))
    await client.respond(error.status, extra, msgspec.json.encode(error.body()))


async def deliver(client: Client, trace: Trace, call: ArmCall, request_id: bytes) -> None:
    """Send `call`'s answer. Settles its charge whatever happens; sets the trace's outcome and status."""
    shown = _presenter(trace, call)
    try:
        if call.reply.streams:
            await _stream(client, trace, call, shown, request_id)
        elif call.succeeded:
            await _whole(client, trace, call, shown, request_id)
        else:
            await _pass_error(client, trace, call, request_id)
    finally:
        call.settle(_origin(trace))
        call.close()


def router_headers(trace: Trace, request_id: bytes) -> Headers:
    """The decision headers of every answer that came from a model."""
    headers = [
        (b"x-request-id", request_id),
        (b"x-router-decision-id", trace.id.encode()),
        (b"x-router-reason", trace.reason.encode()),
        (b"x-router-retries", b"%d" % len(trace.attempts.failures)),
    ]
    if trace.served:
        headers.append((b"x-router-model", trace.served.model.name.encode()))
    return headers


async def _whole(client: Client, trace: Trace, call: ArmCall, shown: Presenter, request_id: bytes) -> None:
    completed = call.completed
    assert completed is not None
    body = completed.without_logprobs() if call.outgoing.hides_logprobs else completed.body
    body = shown.body(completed, body)
    call.settle("serve")
    cost = (b"x-router-cost-usd", usd(trace.bill.total_nano).encode())
    await client.respond(200, [JSON, cost, *router_headers(trace, request_id)], body)
    trace.status = 200
    trace.outcome = "cancelled" if client.gone else "ok"


async def _pass_error(client: Client, trace: Trace, call: ArmCall, request_id: bytes) -> None:
    """An upstream's own 4xx, as it came."""
    passed = [(name, value) for name in PASSED_BACK if (value := call.reply.header(name)) is not None]
    await client.respond(call.reply.status, [*passed, *router_headers(trace, request_id)], call.reply.body)
    trace.status = call.reply.status
    trace.outcome = "rejected"


async def _stream(client: Client, trace: Trace, call: ArmCall, shown: Presenter, request_id: bytes) -> None:
    trace.status = 200
    trace.first_byte_s = time.perf_counter() - trace.started
    await client.start_stream([*EVENTS, *router_headers(trace, request_id)])
    started = time.perf_counter()
    try:
        async with asyncio.timeout_at(_deadline(call) + SLOW_CLIENT_S):
            await _pump(client, call, shown)
            call.settle("serve")
            await client.write(_cost_comment(trace) + shown.finish())
    except (Aborted, asyncio.CancelledError) as error:
        trace.outcome = "cancelled"
        if isinstance(error, asyncio.CancelledError):
            raise
        return
    except TimeoutError:
        trace.outcome = "interrupted"
        return
    except (TransportError, RouterError) as error:
        trace.outcome, trace.broken = "interrupted", True
        call.settle("serve")
        call.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SLOW_CLIENT_S):
                await client.write(shown.fail(call.failure(error)))
                await client.end_stream()
        return
    finally:  # the time of the model and of the client's network
        trace.upstream_s += time.perf_counter() - started
    trace.outcome = "cancelled" if client.gone else "ok"
    client.unwatch()  # what comes now is no hang-up
    await client.end_stream()
    await call.reply.drain(DRAIN_S)


def _deadline(call: ArmCall) -> float:
    """In loop time: the model's, or as long again for an answer that a gate has held back until it was whole."""
    if not call.whole:
        return call.reply.deadline
    return asyncio.get_running_loop().time() + call.model.config.timeouts.total_s


async def _pump(client: Client, call: ArmCall, shown: Presenter) -> None:
    """Every event, as fast as the client takes them. Raises Aborted, TransportError, RouterError."""
    await client.write(shown.start() + b"".join([_shown(batch, shown) for batch in call.held]))
    call.held.clear()
    while (batch := await call.read()) is not None:
        await client.write(_shown(batch, shown))
        if client.gone:
            raise Aborted("the client hung up")


def _cost_comment(trace: Trace) -> bytes:
    if not trace.request.header(COST_COMMENT_HEADER):
        return b""
    return b": x-router-cost-usd %b\n\n" % usd(trace.bill.total_nano).encode()


def _shown(batch: Batch, shown: Presenter) -> bytes:
    return b"".join([shown.event(event, visible) for event, visible in batch])


def _origin(trace: Trace) -> Origin:
    return "cancelled" if trace.outcome == "cancelled" else "serve"


def _presenter(trace: Trace, call: ArmCall) -> Presenter:
    request = trace.request
    fields: dict[str, Any] = {}
    if request.endpoint == "responses" and call.outgoing.dialect == "chat":
        fields = {name: request.value(name) for name in request.fields}
    return presenter(request.endpoint, call.outgoing.dialect, fields, f"resp_{trace.id}", int(trace.wall))
