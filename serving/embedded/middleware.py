"""What every response has in common: the client's request id is taken over, and the response is counted."""

from __future__ import annotations

import re
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.embedded.metrics import EngineMetrics

_HEADER = "x-request-id"
_SCOPE_KEY = "embedded_request_id"
_LABELLED = frozenset(
    {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models", "/health", "/metrics"}
)
# Ids become part of response ids: others than these characters are not taken over.
_USABLE_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)


class RequestContext:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, metrics: EngineMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(_HEADER, "")
        scope[_SCOPE_KEY] = given if _USABLE_ID.fullmatch(given) else uuid4().hex
        endpoint = scope["path"] if scope["path"] in _LABELLED else "other"

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[_HEADER] = request_id(scope)
                self._metrics.requests.labels(endpoint, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, send_with_id)


def request_id(scope: Scope) -> str:
    """The id of the request being served."""
    found: str = scope[_SCOPE_KEY]
    return found
