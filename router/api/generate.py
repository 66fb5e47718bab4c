"""The raw ASGI handler behind chat completions, completions, responses and embeddings.

One request, six stops: parse and authenticate here, `Exchange` decides and calls, `deliver` sends and settles, the
`Recorder` writes, the `Auditor` looks again in the background.
"""

from __future__ import annotations

import asyncio
import logging

from starlette.types import Receive, Scope, Send

from router.auth import Caller
from router.client import SAFE_VALUE, Client, ClientGone, Headers, request_id_of, unique_id
from router.control import feed
from router.deliver import deliver, router_headers, send_error
from router.errors import BadRequest, RouterError
from router.exchange import Exchange, Trace
from router.gateway import Gateway
from router.limits.admission import Admission, answer_tokens, prompt_tokens
from router.request import ClientRequest, Endpoint, parse_fields
from router.runtime import Runtime, Target
from router.translate import refuse_state
from router.upstream.model import Leash
from router.upstream.transport import Aborted

log = logging.getLogger("distill_router.api")

CLIENT_GONE_STATUS = 499
PASSED_ON = (b"traceparent", b"tracestate")
STATE_FIELDS = ("previous_response_id", "conversation", "background", "prompt")


class Generate:
    """The ASGI application for one endpoint."""

    def __init__(self, gateway: Gateway, endpoint: Endpoint) -> None:
        self._gateway = gateway
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = Client(scope, receive, send)
        request_id = request_id_of(client.headers)
        headers: Headers = [(b"x-request-id", request_id)]
        try:
            await self._serve(client, request_id)
        except ClientGone:
            return
        except RouterError as error:  # before there was a trace
            self._gateway.metrics.count("", "", "", "rejected", error.error_code or "bad_request")
            await send_error(client, error, [*headers, *error.headers])
        except Exception:  # the last line of defence: no traceback reaches a client
            log.exception("request %s failed", request_id.decode())
            if not client.started:
                await send_error(client, RouterError("internal error; the log has more"), headers)

    async def _serve(self, client: Client, request_id: bytes) -> None:
        """Everything until the request is understood raises; from then on there is a trace, and it is recorded."""
        runtime = self._gateway.runtime
        caller = runtime.authenticator.caller(client.headers)
        admission: Admission | None = None
        try:
            trace = await self._understand(client, runtime, caller)
            if caller.limits:
                admission = await self._gateway.limits.admit(caller, prompt_tokens(trace.request.prompt_bytes))
        except RouterError as error:
            self._gateway.recorder.refused(unique_id(), self._endpoint, caller, error)
            raise
        self._gateway.auditor.sampler.before(trace)
        try:
            await self._answer(client, trace, request_id)
        finally:
            client.unwatch()
            if admission:
                admission.settle(answer_tokens(trace))
            self._gateway.auditor.sampler.after(trace)
            self._gateway.recorder.finished(trace)
            self._gateway.auditor.submit(trace)
            feed.answered(trace)

    async def _understand(self, client: Client, runtime: Runtime, caller: Caller) -> Trace:
        server = runtime.config.server
        body = await client.body(server.max_body_bytes, server.body_timeout_s)
        request = ClientRequest(self._endpoint, body, client.headers, caller, parse_fields(body))
        return Trace(unique_id(), request, self._target(runtime, request))

    async def _answer(self, client: Client, trace: Trace, request_id: bytes) -> None:
        leash = Leash()
        client.watch(leash.abort)
        purse = self._gateway.ledger.purse(trace.request.caller, trace.route.name if trace.route else "")
        exchange = Exchange(trace, _upstream_headers(client.headers, request_id), leash, purse)
        try:
            call = await exchange.answer()
            await deliver(client, trace, call, request_id)
        except Aborted:
            trace.outcome, trace.status = "cancelled", CLIENT_GONE_STATUS
        except asyncio.CancelledError:
            trace.outcome, trace.status = "cancelled", trace.status or CLIENT_GONE_STATUS
            raise
        except RouterError as error:
            trace.outcome = "rejected" if error.status < 500 else "failed"
            trace.status = error.status
            trace.reason = trace.reason or error.error_code or error.type
            await send_error(client, error, router_headers(trace, request_id))
        except Exception:
            trace.status = trace.status or RouterError.status
            raise
        finally:
            exchange.close()

    def _target(self, runtime: Runtime, request: ClientRequest) -> Target:
        if request.endpoint == "embeddings":
            if request.stream:
                raise BadRequest("embeddings cannot be streamed", param="stream")
            return runtime.embedder(request.model, request.caller)
        if request.endpoint == "responses":
            refuse_state({name: request.value(name) for name in STATE_FIELDS if name in request.fields})
        return runtime.resolve(
            request.model, request.caller, request.header("x-router-model"), request.header("x-router-policy")
        )


def _upstream_headers(headers: Headers, request_id: bytes) -> bytes:
    passed = b"x-request-id: %b\r\n" % request_id
    for name, value in headers:
        if name in PASSED_ON and SAFE_VALUE.fullmatch(value):
            passed += b"%b: %b\r\n" % (name, value)
    return passed
