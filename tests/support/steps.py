"""What a scripted upstream can do with one request: answer well, refuse, or break the protocol."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from router.translate import ResponseStream, chat_request, response, sse
from tests.support import transcripts
from tests.support.transcripts import CREATED, Answer, Json
from tests.support.wire import Exchange, Served, framed, render_head

Step = Callable[[Exchange], Awaitable[None]]
EVENT_STREAM = {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"}


@dataclass(frozen=True)
class Wire:
    """How well-formed bytes are laid out. `multi_line` puts the JSON of an event on several `data` lines; `done` sends
    `[DONE]`; `cut` sends the body in writes of so many bytes, `cut_gap_s` apart."""

    line_end: str = "\n"
    comments: bool = False
    multi_line: bool = False
    done: bool = True
    cut: int | None = None
    cut_gap_s: float = 0.0

    def event(self, data: str) -> bytes:
        lines = [f"data: {line}" for line in data.split("\n")]
        if self.comments:
            lines = [": a comment", "", ": another", "retry: 1000", "unknown: field", *lines]
        return (self.line_end.join(lines) + self.line_end * 2).encode()

    def json_event(self, chunk: Json) -> bytes:
        return self.event(json.dumps(chunk, indent=1 if self.multi_line else None, ensure_ascii=False))

    async def send(self, exchange: Exchange, data: bytes) -> None:
        """Bytes of a body whose length the head has stated."""
        for start in range(0, len(data), self.cut or len(data)):
            if start:
                await exchange.sleep(self.cut_gap_s)
            await exchange.send(data[start : start + (self.cut or len(data))])


@dataclass(frozen=True)
class Fault:
    """What goes wrong in a stream after `after` events: `close` in order but unfinished, `reset`, `hang`, `garbage` (an
    event that is no JSON; the stream goes on) or `error` (an error event, which ends the stream)."""

    after: int
    kind: Literal["close", "reset", "hang", "garbage", "error"] = "close"
    error: Mapping[str, Any] = field(default_factory=lambda: {"message": "engine died", "type": "server_error"})


@dataclass(frozen=True)
class Reply(Answer):
    """A good answer, on any endpoint, streamed where the request asks for it; `request.served` is its account.

    `usage_chunk` None ends a stream with usage when asked to, as OpenAI does; True or False regardless. `delay_s` comes
    before the head, `gap_s` between events. `closes_after` promises keep-alive and closes all the same: the client is
    left with a stale connection.
    """

    delay_s: float = 0.0
    gap_s: float = 0.0
    usage_chunk: bool | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    wire: Wire = field(default_factory=Wire)
    fault: Fault | None = None
    closes_after: bool = False

    async def __call__(self, exchange: Exchange) -> None:
        body: Json = exchange.request.json
        served = exchange.request.served = Served(self.usage.prompt_tokens if self.usage else 0, self.tokens())
        await exchange.sleep(self.delay_s)
        if body.get("stream"):
            await self._stream(exchange, body, served)
        else:
            await self._whole(exchange, body, served)
        if self.closes_after:
            exchange.close()

    async def _whole(self, exchange: Exchange, body: Json, served: Served) -> None:
        payload = json.dumps(self._payload(exchange.request.path, body), ensure_ascii=False).encode()
        headers = {"content-type": "application/json", "content-length": str(len(payload)), **self.headers}
        await self.wire.send(exchange, render_head(200, headers) + payload)
        served.tokens_sent, served.finished = served.completion_tokens, True

    def _payload(self, path: str, body: Json) -> Json:
        if path.endswith("/chat/completions"):
            return transcripts.chat_completion(self, body)
        if path.endswith("/completions"):
            return transcripts.text_completion(self, body)
        if path.endswith("/responses"):
            completion = transcripts.chat_completion(self, chat_request(body))
            return response(body, completion, response_id="resp_scripted", created_at=CREATED)
        return transcripts.embeddings(body)

    async def _stream(self, exchange: Exchange, body: Json, served: Served) -> None:
        await exchange.send(render_head(200, {**EVENT_STREAM, **self.headers}))
        events = list(self._events(exchange.request.path, body))
        if self.fault is not None and self.fault.after >= len(events):
            raise ValueError(
                f"the stream has only {len(events)} events; a fault after {self.fault.after} never happens"
            )
        for place, (data, tokens) in enumerate(events):
            if place:
                await exchange.sleep(self.gap_s)
            if self.fault is not None and self.fault.after == place and await self._break(exchange, self.fault):
                return
            served.tokens_sent += tokens
            await self._send_event(exchange, data, last=place == len(events) - 1)
        served.finished = True

    def _events(self, path: str, body: Json) -> Iterator[tuple[bytes, int]]:
        """Each event with the number of tokens whose text it carries."""
        if path.endswith("/responses"):
            yield from self._responses_events(body)
            return
        is_chat = path.endswith("/chat/completions")
        chunks = transcripts.chat_chunks(self, body) if is_chat else transcripts.text_chunks(self, body)
        for chunk in chunks:
            yield self.wire.json_event(chunk), transcripts.tokens_in(chunk)
        asked = bool((body.get("stream_options") or {}).get("include_usage"))
        if self.usage is not None and (asked if self.usage_chunk is None else self.usage_chunk):
            kind = "chat.completion.chunk" if is_chat else "text_completion"
            yield self.wire.json_event(transcripts.usage_chunk(self, body, kind)), 0
        if self.wire.done:
            yield self.wire.event("[DONE]"), 0

    def _responses_events(self, body: Json) -> Iterator[tuple[bytes, int]]:
        stream = ResponseStream(body, response_id="resp_scripted", created_at=CREATED)
        chat = chat_request(body)
        chunks = [*transcripts.chat_chunks(self, chat), transcripts.usage_chunk(self, chat, "chat.completion.chunk")]
        happenings = [*stream.start(), *(event for chunk in chunks for event in stream.feed(chunk)), *stream.finish()]
        for happening in happenings:
            yield sse(happening), int(happening["type"].endswith(".delta"))

    async def _send_event(self, exchange: Exchange, data: bytes, *, last: bool) -> None:
        size = self.wire.cut or len(data)
        for start in range(0, len(data), size):
            if start:
                await exchange.sleep(self.wire.cut_gap_s)
            # The end goes out with the last event: a client that stops reading there has not hung up.
            end = framed(b"") if last and start + size >= len(data) else b""
            await exchange.send(framed(data[start : start + size]) + end)

    async def _break(self, exchange: Exchange, fault: Fault) -> bool:
        """Lets the fault happen; whether the stream ends with it."""
        if fault.kind == "garbage":
            await exchange.send(framed(self.wire.event('{"choices": [{"delta": nonsense')))
            return False
        if fault.kind == "error":
            await exchange.send(framed(self.wire.json_event({"error": dict(fault.error)})) + framed(b""))
        elif fault.kind == "hang":
            await exchange.hang()
        elif fault.kind == "reset":
            exchange.reset()
        else:
            exchange.close()
        return True


class Held:
    """A step that waits for `go` before it takes place."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.go = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        await self.go.wait()
        await self.step(exchange)


@dataclass(frozen=True)
class Status:
    """A status with a body, JSON or raw bytes."""

    status: int
    body: Mapping[str, Any] | bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    content_type: str = "application/json"

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.sleep(self.delay_s)
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        headers = {"content-type": self.content_type, "content-length": str(len(body)), **self.headers}
        await exchange.send(render_head(self.status, headers) + body)


def failing(
    status: int,
    message: str,
    *,
    kind: str = "server_error",
    code: str | None = None,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
    delay_s: float = 0.0,
) -> Status:
    """An error status with OpenAI's body."""
    error = {"message": message, "type": kind, "param": param, "code": code}
    return Status(status, {"error": error}, headers or {}, delay_s)


@dataclass(frozen=True)
class Raw:
    """Bytes as they are, HTTP or not, and then the end of the connection, in order or not, or silence."""

    data: bytes = b""
    then: Literal["close", "reset", "hang"] = "close"

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.send(self.data)
        if self.then == "hang":
            await exchange.hang()
        elif self.then == "reset":
            exchange.reset()
        exchange.close()


CLOSE = Raw()
"""Closes the connection without a byte; as the second step, it is the race of a pooled connection that times out."""
HANG = Raw(then="hang")
"""Never answers."""
HANG_AFTER_HEAD = Raw(render_head(200, EVENT_STREAM), then="hang")
"""Sends the head of a stream and never an event."""
CLOSE_AFTER_HEAD = Raw(render_head(200, EVENT_STREAM))
"""Sends the head of a stream and closes the connection."""
GARBAGE = Raw(b"\x00\x16\x03garbage that is no HTTP\r\n\r\n")


def truncated_body() -> Raw:
    """A body shorter than its content-length."""
    headers = {"content-type": "application/json", "content-length": "1000"}
    return Raw(render_head(200, headers) + b'{"choices": [')


def truncated_chunk() -> Raw:
    """A chunked stream that ends inside a chunk."""
    return Raw(render_head(200, EVENT_STREAM) + b'400\r\ndata: {"choices"')


def oversized_header(size: int = 1 << 20) -> Raw:
    """A head with one line of `size` bytes."""
    headers = {"content-type": "application/json", "x-filler": "a" * size, "content-length": "2"}
    return Raw(render_head(200, headers) + b"{}")
