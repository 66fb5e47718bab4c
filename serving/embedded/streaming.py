"""Server-sent events, and noticing that a client hung up: nothing is computed for a reader that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import msgspec
from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from serving.embedded.engine import Submission
from serving.embedded.errors import EngineError
from serving.embedded.responses import Answer, usage
from serving.embedded.sequence import Delta

Result = TypeVar("Result")
_DONE = b"data: [DONE]\n\n"


class EventStream(StreamingResponse):
    """A stream of events that calls `close` however it ends, also when the client left before its first byte."""

    def __init__(self, events: AsyncIterator[bytes], close: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"cache-control": "no-cache"})
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()


async def answer_events(
    answer: Answer, submission: Submission[Delta], *, prompt_tokens: int, include_usage: bool
) -> AsyncIterator[bytes]:
    """The events of an answer, an error event if it fails midway, and `[DONE]`.

    With `include_usage` a last chunk without choices carries the usage, and every other chunk `usage: null`.
    """
    completion_tokens = 0
    try:
        async for index, delta in submission.outputs():
            completion_tokens += delta.token_count
            chunks = answer.chunks(index, delta)
            if include_usage:
                chunks = [{**chunk, "usage": None} for chunk in chunks]
            if chunks:
                yield b"".join(_event(chunk) for chunk in chunks)
        if include_usage:
            yield _event(answer.usage_chunk(usage(prompt_tokens, completion_tokens)))
    except EngineError as error:
        yield _event(error.body())
    yield _DONE


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, Result]) -> Result | None:
    """The result of the work, or None when the client hung up first; the work is cancelled then.

    The request's body must have been read: what comes after it can only be the disconnect.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\n\n"
