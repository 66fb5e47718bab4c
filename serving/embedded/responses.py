"""Answers in OpenAI's shape: whole objects and stream chunks, chat and plain completions.

Each answer class turns the deltas of its choices into dictionaries ready for JSON. What OpenAI leaves open follows
vLLM: log-probabilities below -9999 are -9999, and the token that ended an answer is reported with its own.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from serving.embedded.checkpoint import Array
from serving.embedded.sampling import TokenLogprob
from serving.embedded.sequence import Delta
from serving.embedded.tokenizer import ByteLevelTokenizer
from serving.embedded.tool_calls import Parsed, ToolCall, ToolCallParser

Json = dict[str, Any]
_LEAST_LOGPROB = -9999.0


@dataclass(frozen=True)
class Envelope:
    """What every object of one answer carries."""

    id: str
    model: str
    created: int

    def wrap(self, kind: str, choices: Sequence[Json], **more: Any) -> Json:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": list(choices),
            **more,
        }


class Answer(Protocol):
    """How one endpoint words its answers."""

    def whole(self, deltas: Sequence[Delta], usage: Json) -> Json:
        """The non-streaming object; one delta a choice."""
        ...

    def chunks(self, index: int, delta: Delta) -> list[Json]:
        """The chunks that a delta of a choice becomes."""
        ...

    def usage_chunk(self, usage: Json) -> Json:
        """The last chunk when usage was asked for: no choices."""
        ...


class ChatAnswer:
    """/v1/chat/completions. With `tools` offered the text is searched for tool calls."""

    def __init__(
        self,
        envelope: Envelope,
        tokenizer: ByteLevelTokenizer,
        *,
        choices: int,
        with_logprobs: bool,
        tools: bool,
        parallel_tool_calls: bool,
    ) -> None:
        self._envelope = envelope
        self._tokenizer = tokenizer
        self._with_logprobs = with_logprobs
        self._parsers = [ToolCallParser(parallel=parallel_tool_calls) if tools else None for _ in range(choices)]
        self._started: set[int] = set()

    def whole(self, deltas: Sequence[Delta], usage: Json) -> Json:
        choices = [self._choice(index, delta) for index, delta in enumerate(deltas)]
        return self._envelope.wrap("chat.completion", choices, usage=usage)

    def chunks(self, index: int, delta: Delta) -> list[Json]:
        chunks = []
        if index not in self._started:
            self._started.add(index)
            chunks.append(self._chunk(index, {"role": "assistant", "content": ""}))
        calls_before = self._call_count(index)
        parsed = self._parse(index, delta)
        fields: Json = {}
        if parsed.content:
            fields["content"] = parsed.content
        if parsed.calls:
            fields["tool_calls"] = [
                {"index": calls_before + position, **_tool_call(call)} for position, call in enumerate(parsed.calls)
            ]
        if parsed.content or parsed.calls or delta.finish_reason or self._with_logprobs:
            chunks.append(self._chunk(index, fields, delta))
        return chunks

    def usage_chunk(self, usage: Json) -> Json:
        return self._envelope.wrap("chat.completion.chunk", [], usage=usage)

    def _chunk(self, index: int, fields: Json, delta: Delta | None = None) -> Json:
        choice: Json = {"index": index, "delta": fields, "logprobs": None, "finish_reason": None}
        if delta is not None:
            choice["logprobs"] = self._logprobs(delta)
            choice["finish_reason"] = self._finish_reason(index, delta)
            if delta.stop_reason is not None:
                choice["stop_reason"] = delta.stop_reason
        return self._envelope.wrap("chat.completion.chunk", [choice])

    def _choice(self, index: int, delta: Delta) -> Json:
        parsed = self._parse(index, delta)
        message: Json = {"role": "assistant", "content": parsed.content, "refusal": None}
        if parsed.calls:
            message["content"] = parsed.content or None
            message["tool_calls"] = [_tool_call(call) for call in parsed.calls]
        return {
            "index": index,
            "message": message,
            "logprobs": self._logprobs(delta),
            "finish_reason": self._finish_reason(index, delta),
            "stop_reason": delta.stop_reason,
        }

    def _parse(self, index: int, delta: Delta) -> Parsed:
        parser = self._parsers[index]
        if parser is None:
            return Parsed(delta.text)
        parsed = parser.push(delta.text)
        if delta.finish_reason is None:
            return parsed
        rest = parser.finish()
        return Parsed(parsed.content + rest.content, parsed.calls + rest.calls)

    def _call_count(self, index: int) -> int:
        parser = self._parsers[index]
        return 0 if parser is None else parser.call_count

    def _finish_reason(self, index: int, delta: Delta) -> str | None:
        return "tool_calls" if delta.finish_reason == "stop" and self._call_count(index) else delta.finish_reason

    def _logprobs(self, delta: Delta) -> Json | None:
        if not self._with_logprobs:
            return None
        return {"content": [self._token(token) for token in delta.tokens], "refusal": None}

    def _token(self, token: TokenLogprob) -> Json:
        top = [self._entry(token_id, logprob) for token_id, logprob in token.top]
        return {**self._entry(token.token_id, token.logprob or 0.0), "top_logprobs": top}

    def _entry(self, token_id: int, logprob: float) -> Json:
        data = self._tokenizer.token_bytes(token_id)
        return {"token": _token_text(data), "logprob": max(logprob, _LEAST_LOGPROB), "bytes": list(data)}


class CompletionAnswer:
    """/v1/completions."""

    def __init__(self, envelope: Envelope, tokenizer: ByteLevelTokenizer, *, with_logprobs: bool) -> None:
        self._envelope = envelope
        self._tokenizer = tokenizer
        self._with_logprobs = with_logprobs

    def whole(self, deltas: Sequence[Delta], usage: Json) -> Json:
        choices = [self._choice(index, delta) for index, delta in enumerate(deltas)]
        return self._envelope.wrap("text_completion", choices, usage=usage)

    def chunks(self, index: int, delta: Delta) -> list[Json]:
        return [self._envelope.wrap("text_completion", [self._choice(index, delta)])]

    def usage_chunk(self, usage: Json) -> Json:
        return self._envelope.wrap("text_completion", [], usage=usage)

    def _choice(self, index: int, delta: Delta) -> Json:
        return {
            "index": index,
            "text": delta.text,
            "logprobs": self._logprobs(delta) if self._with_logprobs else None,
            "finish_reason": delta.finish_reason,
            "stop_reason": delta.stop_reason,
        }

    def _logprobs(self, delta: Delta) -> Json:
        return {
            "tokens": [self._name(token.token_id) for token in delta.tokens],
            "token_logprobs": [_clamped(token.logprob) for token in delta.tokens],
            "top_logprobs": [self._top(token) for token in delta.tokens],
            "text_offset": [token.text_offset for token in delta.tokens],
        }

    def _top(self, token: TokenLogprob) -> Mapping[str, float] | None:
        """The most probable tokens and the one drawn."""
        if token.logprob is None:
            return None
        entries = {self._name(token_id): max(logprob, _LEAST_LOGPROB) for token_id, logprob in token.top}
        return {**entries, self._name(token.token_id): max(token.logprob, _LEAST_LOGPROB)}

    def _name(self, token_id: int) -> str:
        """OpenAI's notation for tokens that are no whole characters: `bytes:\\xe2`."""
        data = self._tokenizer.token_bytes(token_id)
        text = _token_text(data)
        return text if text.encode() == data else f"bytes:{text}"


def usage(prompt_tokens: int, completion_tokens: int) -> Json:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def embedding_list(model: str, vectors: Sequence[Array], prompt_tokens: int, *, as_base64: bool) -> Json:
    """The answer of /v1/embeddings; base64 holds little-endian float32."""
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode() if as_base64 else vector.tolist(),
        }
        for index, vector in enumerate(vectors)
    ]
    counts = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    return {"object": "list", "model": model, "data": data, "usage": counts}


def model_card(name: str, created: int, context_tokens: int) -> Json:
    """One entry of /v1/models, with vLLM's `max_model_len`."""
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "distill-router",
        "root": name,
        "parent": None,
        "max_model_len": context_tokens,
    }


def _tool_call(call: ToolCall) -> Json:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _clamped(logprob: float | None) -> float | None:
    return None if logprob is None else max(logprob, _LEAST_LOGPROB)


def _token_text(data: bytes) -> str:
    """The token as text; bytes that are no whole characters are written as escapes, `\\xe2`."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in data)
