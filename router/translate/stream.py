"""Chat chunks as Responses events, and a chat completion as a Response: the same machine, fed once.

It knows the order in which OpenAI sends events and nothing of HTTP. Its caller sends on what `start()`, one `feed()` a
chunk and `finish()` return, or `fail()` where the model's server broke down.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator

import msgspec

from router.translate.completion import CallDelta, Delta, check_completion, check_object, read_delta, read_usage
from router.translate.envelope import ending, envelope, error_fields, failure
from router.translate.output import FunctionCall, Item, Json, Message, Reasoning, event
from router.translate.request import wants_logprobs


def response(request: Json, completion: Json, *, response_id: str, created_at: int) -> Json:
    """The Response object for a chat completion; choice 0 counts.

    `request` is one that `chat_request` accepted. Raises UpstreamFailed where the completion has the wrong shape
    or no choices.
    """
    stream = ResponseStream(request, response_id=response_id, created_at=created_at)
    stream.feed(check_completion(completion))
    answer: Json = stream.finish()[-1]["response"]
    return answer


def sse(happening: Json) -> bytes:
    """One event as a server-sent event. A Responses stream has no `[DONE]`: it ends with its last event."""
    return b"event: %b\ndata: %b\n\n" % (happening["type"].encode(), msgspec.json.encode(happening))


class ResponseStream:
    """The events of one streamed response, numbered; the last carries the whole Response.

    Reasoning ends when the answer begins, and the message when a function call does; text that comes after opens a new
    item, so `output` tells the order in which the model wrote. Function calls stay open to the end, because servers may
    interleave their arguments.
    """

    def __init__(self, request: Json, *, response_id: str, created_at: int) -> None:
        self._response = envelope(request, response_id=response_id, created_at=created_at)
        self._wants_logprobs = wants_logprobs(request)
        self._suffix = response_id.removeprefix("resp_")
        self._items: list[Item] = []
        self._reasoning: Reasoning | None = None
        self._message: Message | None = None
        self._calls: dict[int, FunctionCall] = {}
        self._early_logprobs: list[Json] = []
        self._finish_reason: str | None = None
        self._sent = 0
        self._ended = False

    def start(self) -> list[Json]:
        """`response.created` and `response.in_progress`."""
        kinds = ("response.created", "response.in_progress")
        return self._number(event(kind, response=dict(self._response)) for kind in kinds)

    def feed(self, chunk: Json) -> list[Json]:
        """The events that one chat chunk makes, possibly none; an error object in a chunk fails the response.

        Raises UpstreamFailed where the chunk has the wrong shape.
        """
        if self._ended:
            return []
        if check_object(chunk).get("error"):
            return self.fail(chunk)
        delta = read_delta(chunk)
        self._read_frame(chunk, delta)
        return self._number(self._add(delta))

    def finish(self) -> list[Json]:
        """Closes what is open; ends with `response.completed` or `response.incomplete`. Nothing after a failure."""
        if self._ended:
            return []
        self._ended = True
        status, details = ending(self._finish_reason)
        return self._number(self._finish(status, details))

    def fail(self, error: Json) -> list[Json]:
        """`response.failed` with what was produced, then `error`, on which OpenAI's client raises.

        `error` is an OpenAI error object or a body that holds one.
        """
        if self._ended:
            return []
        self._ended = True
        inner = error.get("error", error)
        error = error_fields(inner if isinstance(inner, dict) else {"message": inner})
        for item in self._open():
            item.status = "incomplete"
        self._response |= {"status": "failed", "error": failure(error), "output": self._output()}
        flat = {key: error[key] for key in ("code", "message", "param")}
        failed = event("response.failed", response=self._response)
        return self._number([failed, event("error", **flat, error=error)])

    def _read_frame(self, chunk: Json, delta: Delta) -> None:
        if isinstance(chunk.get("model"), str):
            self._response["model"] = chunk["model"]
        if isinstance(chunk.get("service_tier"), str):
            self._response["service_tier"] = chunk["service_tier"]
        self._response["usage"] = read_usage(chunk.get("usage")) or self._response["usage"]
        self._finish_reason = delta.finish_reason or self._finish_reason

    def _add(self, delta: Delta) -> Iterator[Json]:
        if self._wants_logprobs:
            self._early_logprobs += delta.logprobs
        if delta.reasoning:
            reasoning = yield from self._enter_reasoning()
            yield from reasoning.text(delta.reasoning)
        if delta.text:
            message = yield from self._enter_message()
            logprobs, self._early_logprobs = self._early_logprobs, []
            yield from message.text(delta.text, logprobs)
        if delta.refusal:
            message = yield from self._enter_message()
            yield from message.refusal(delta.refusal)
        for call in delta.calls:
            yield from self._add_call(call)

    def _add_call(self, delta: CallDelta) -> Iterator[Json]:
        call = self._calls.get(delta.index)
        if call is None:
            yield from self._leave_text()
            call = self._calls[delta.index] = FunctionCall(len(self._items), self._suffix, delta.id, delta.name)
            yield self._append(call)
        call.name = call.name or delta.name
        if delta.arguments:
            yield from call.grow(delta.arguments)

    def _enter_reasoning(self) -> Generator[Json, None, Reasoning]:
        if self._reasoning is None:
            yield from self._leave_text()
            self._reasoning = Reasoning(len(self._items), self._suffix)
            yield self._append(self._reasoning)
        return self._reasoning

    def _enter_message(self) -> Generator[Json, None, Message]:
        if self._message is None:
            yield from self._leave_text()
            self._message = Message(len(self._items), self._suffix)
            yield self._append(self._message)
        return self._message

    def _leave_text(self) -> Iterator[Json]:
        """Closes the reasoning or the message that another item follows."""
        for item in (self._reasoning, self._message):
            if item is not None:
                yield from self._close(item, "completed")
        self._reasoning = self._message = None

    def _close(self, item: Item, status: str) -> Iterator[Json]:
        if isinstance(item, Message):  # a token without text of its own, such as half a character or the end token
            item.add_logprobs(self._early_logprobs)
            self._early_logprobs = []
        yield from item.close(status)

    def _append(self, item: Item) -> Json:
        self._items.append(item)
        return item.added()

    def _finish(self, status: str, details: Json | None) -> Iterator[Json]:
        if status == "completed" and not any(isinstance(item, (Message, FunctionCall)) for item in self._items):
            message = yield from self._enter_message()  # clients read the text of the first message: give them one
            yield from message.empty()
        for item in self._open():
            yield from self._close(item, status if item is self._items[-1] else "completed")
        self._response |= {"status": status, "incomplete_details": details, "output": self._output()}
        yield event(f"response.{status}", response=self._response)

    def _open(self) -> list[Item]:
        return [item for item in self._items if item.status == "in_progress"]

    def _output(self) -> list[Json]:
        return [item.view() for item in self._items]

    def _number(self, events: Iterable[Json]) -> list[Json]:
        numbered = [happening | {"sequence_number": self._sent + place} for place, happening in enumerate(events)]
        self._sent += len(numbered)
        return numbered
