"""How an answer looks to the client: as it came, or translated from chat into the Responses API."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from router.errors import RouterError, UpstreamFailed
from router.sse import Event
from router.translate import ResponseStream, response, sse
from router.wire.body import Dialect
from router.wire.replies import Completed

DONE = b"data: [DONE]\n\n"


class Presenter(Protocol):
    """One per request. Whole answers go through `body`; streams through start, event…, finish or fail."""

    def body(self, completed: Completed, visible: bytes) -> bytes:
        """The JSON for the client; `visible` is the upstream's body without what only the gateway wanted."""

    def start(self) -> bytes:
        """What opens the stream."""

    def event(self, event: Event, visible: bytes) -> bytes:
        """The client's bytes for one event of the upstream."""

    def finish(self) -> bytes:
        """What closes a stream that ended well."""

    def fail(self, error: RouterError) -> bytes:
        """What tells the client that the stream broke."""


class AsItCame:
    """Chat and completions: the upstream's own frames, then `[DONE]`."""

    def body(self, completed: Completed, visible: bytes) -> bytes:
        return visible

    def start(self) -> bytes:
        return b""

    def event(self, event: Event, visible: bytes) -> bytes:
        return visible

    def finish(self) -> bytes:
        return DONE

    def fail(self, error: RouterError) -> bytes:
        return b"data: " + msgspec.json.encode(error.body()) + b"\n\n"


class NativeResponses(AsItCame):
    """The Responses API from a model that speaks it: it has no `[DONE]`, and an error event of its own form."""

    def finish(self) -> bytes:
        return b""

    def fail(self, error: RouterError) -> bytes:
        return sse({"type": "error", "sequence_number": 0, **_error_fields(error)})


class TranslatedResponses:
    """The Responses API over a chat model."""

    def __init__(self, request: dict[str, Any], response_id: str, created_at: int) -> None:
        self._request = request
        self._id = response_id
        self._created_at = created_at
        self._stream = ResponseStream(request, response_id=response_id, created_at=created_at)

    def body(self, completed: Completed, visible: bytes) -> bytes:
        chat = _decode(visible)
        return msgspec.json.encode(response(self._request, chat, response_id=self._id, created_at=self._created_at))

    def start(self) -> bytes:
        return b"".join(map(sse, self._stream.start()))

    def event(self, event: Event, visible: bytes) -> bytes:
        if not (visible and event.data):
            return visible
        data = event.data if visible is event.raw else visible[len(b"data: ") :]
        return b"".join(map(sse, self._stream.feed(_decode(data))))

    def finish(self) -> bytes:
        return b"".join(map(sse, self._stream.finish()))

    def fail(self, error: RouterError) -> bytes:
        return b"".join(map(sse, self._stream.fail(error.body())))


def presenter(endpoint: str, dialect: Dialect, fields: dict[str, Any], response_id: str, created_at: int) -> Presenter:
    """The presenter for a client of `endpoint` whose answer comes in `dialect`. `fields`: the decoded request."""
    if endpoint != "responses":
        return AsItCame()
    if dialect == "responses":
        return NativeResponses()
    return TranslatedResponses(fields, response_id, created_at)


def _decode(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise UpstreamFailed("the upstream sent JSON that cannot be read") from None


def _error_fields(error: RouterError) -> dict[str, Any]:
    return {"code": error.error_code, "message": error.message, "param": error.param}
