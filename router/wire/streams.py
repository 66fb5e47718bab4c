"""Reading a streamed answer event by event: usage, the end, errors; and on demand the text and its log-probabilities.

Every event is checked to be JSON by a decode that skips over what it does not need (under 1 us), and the usual one is
forwarded as it came.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from policies.gate.tokens import Token
from router.errors import UpstreamFailed
from router.evidence.compare.base import Answer
from router.ledger.pricing import Usage
from router.sse import Event
from router.wire.body import Outgoing
from router.wire.logprobs import tokens_of
from router.wire.replies import MISSING, Said, answer_of
from router.wire.usage import read_usage

T = TypeVar("T")

_FINISHED = (b'"finish_reason":"', b'"finish_reason": "')
_RESPONSE_ENDS = ("response.completed", "response.incomplete", "response.failed")


class _Chunk(msgspec.Struct):
    usage: msgspec.Raw = MISSING
    choices: msgspec.Raw = MISSING
    error: msgspec.Raw = MISSING


class _ResponseEvent(msgspec.Struct):
    type: str = ""
    response: msgspec.Raw = MISSING
    message: msgspec.Raw = MISSING


_chunk = msgspec.json.Decoder(_Chunk)
_choices = msgspec.json.Decoder(list[dict[str, Any]])
_response_event = msgspec.json.Decoder(_ResponseEvent)
_anything = msgspec.json.Decoder()
_object = msgspec.json.Decoder(dict[str, Any])
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class StreamReader:
    """The state of one stream from an upstream.

    `assemble`: keep the text and log-probabilities, for a gate, an audit or a translation. `produced` counts the events
    that carried output, at least as good as a token count when the usage never comes.
    """

    __slots__ = ("_choices", "_outgoing", "_response", "assemble", "done", "finished", "produced", "usage")

    def __init__(self, outgoing: Outgoing, assemble: bool) -> None:
        self._outgoing = outgoing
        self.assemble = assemble or outgoing.hides_logprobs
        self.usage: Usage | None = None
        self.produced = 0
        self.finished = False
        self.done = False
        self._choices: dict[int, _Choice] = {}
        self._response: dict[str, Any] = {}

    def feed(self, event: Event) -> bytes:
        """What the client may see of an event: its own bytes, changed ones, or b''. Raises UpstreamFailed."""
        data = event.data
        if not data:
            return event.raw  # a comment, which keeps the connection alive
        if data == b"[DONE]":
            self.done = True
            return b""
        if self._outgoing.dialect == "responses":
            return self._feed_response(event)
        chunk = _decode(_chunk, data)
        if len(chunk.error) > len(b"null"):
            raise UpstreamFailed(_error_message(chunk.error))
        usage = read_usage(chunk.usage)
        self.usage = usage or self.usage
        if len(chunk.choices) <= len(b"[]"):
            return b"" if self._outgoing.hides_usage and len(chunk.usage) > len(b"null") else event.raw
        self.produced += 1
        if not self.finished:
            self.finished = any(mark in data for mark in _FINISHED)
        choices = self._assemble(chunk.choices) if self.assemble else []
        return self._visible(event, choices, len(chunk.usage) > 0)

    def answer(self) -> Answer:
        """What was said so far, as comparators see it (choice 0)."""
        if self._outgoing.dialect == "responses":
            return answer_of(self._response, "responses")
        choice = self._choices.get(0)
        return Answer.from_choice(choice.assembled()) if choice else Answer()

    def token_counts(self) -> list[int]:
        """How many tokens came with log-probabilities so far, by choice."""
        return [len(choice.tokens) for choice in self._choices.values()]

    def choices(self, tokens: int) -> list[Said]:
        """What was said so far, with its first `tokens` tokens, by choice."""
        if self._outgoing.dialect == "responses":
            return [Said(self.answer(), [])]
        known = (choice for _, choice in sorted(self._choices.items()))
        return [Said(Answer.from_choice(choice.assembled()), choice.tokens[:tokens]) for choice in known]

    def _assemble(self, choices: msgspec.Raw) -> list[dict[str, Any]]:
        decoded: list[dict[str, Any]] = _decode(_choices, choices)
        for choice in decoded:
            self._choices.setdefault(_index(choice), _Choice()).add(choice)
        return decoded

    def _visible(self, event: Event, choices: list[dict[str, Any]], has_usage: bool) -> bytes:
        """The event without what only the gateway wanted; `choices` are there when log-probabilities are hidden."""
        hides_logprobs = self._outgoing.hides_logprobs
        if not (hides_logprobs or (has_usage and self._outgoing.hides_usage)):
            return event.raw
        fields: dict[str, Any] = _decode(_fields, event.data)
        if self._outgoing.hides_usage:
            fields.pop("usage", None)
        if hides_logprobs:
            fields["choices"] = [choice | {"logprobs": None} if "logprobs" in choice else choice for choice in choices]
        return b"data: " + msgspec.json.encode(fields) + b"\n\n"

    def _feed_response(self, event: Event) -> bytes:
        happening: _ResponseEvent = _decode(_response_event, event.data)
        if happening.type in _RESPONSE_ENDS:
            self._response = _decode(_object, happening.response)
            self.finished = self.done = True
            self.usage = read_usage(msgspec.json.encode(self._response.get("usage")))
        elif happening.type == "error":
            raise UpstreamFailed(_error_message(happening.message))
        elif happening.type.endswith(".delta"):
            self.produced += 1
        return event.raw


class _Choice:
    """One choice of a stream, put together."""

    __slots__ = ("_calls", "_finish_reason", "_refusal", "_text", "tokens")

    def __init__(self) -> None:
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self._finish_reason: str | None = None
        self.tokens: list[Token] = []

    def add(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        for parts, piece in (
            (self._text, delta.get("content", choice.get("text"))),
            (self._refusal, delta.get("refusal")),
        ):
            if isinstance(piece, str):
                parts.append(piece)
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                self._add_call(call)
        reason = choice.get("finish_reason")
        self._finish_reason = reason if isinstance(reason, str) else self._finish_reason
        self.tokens += tokens_of(choice.get("logprobs"))

    def _add_call(self, call: dict[str, Any]) -> None:
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        known = self._calls.setdefault(_index(call), {"name": "", "arguments": ""})
        for key in known:
            piece = function.get(key)
            known[key] += piece if isinstance(piece, str) else ""

    def assembled(self) -> dict[str, Any]:
        """The choice as a complete answer would have held it."""
        message: dict[str, Any] = {"content": "".join(self._text), "refusal": "".join(self._refusal) or None}
        if self._calls:
            message["tool_calls"] = [{"type": "function", "function": call} for _, call in sorted(self._calls.items())]
        return {"message": message, "finish_reason": self._finish_reason}


def _decode(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise UpstreamFailed("the upstream sent an event that cannot be read") from None


def _index(holder: dict[str, Any]) -> int:
    index = holder.get("index", 0)
    return index if isinstance(index, int) else 0


def _error_message(raw: msgspec.Raw) -> str:
    error = _decode(_anything, raw)
    message = error.get("message") if isinstance(error, dict) else error
    return f"the upstream ended the stream with an error: {message}"
