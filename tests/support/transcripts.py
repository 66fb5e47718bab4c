"""What an OpenAI-compatible server says, built from the `openai` package's types and so valid by construction.

`Answer` is what a model said; the functions render it as a chat completion, a text completion, their chunks, or a
Responses object. A token is one piece of the text: a word with its spaces, or a character.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from openai import BaseModel
from openai.types import Completion, CompletionUsage, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

Json = dict[str, Any]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
B = TypeVar("B", bound=BaseModel)
CREATED = 1_700_000_000


@dataclass(frozen=True)
class ToolCall:
    """A call of a function; the id is made up from its position when left out."""

    name: str
    arguments: str = "{}"
    id: str | None = None


@dataclass(frozen=True)
class Usage:
    """Token counts; `completion_tokens` None counts the pieces of the answer."""

    prompt_tokens: int = 10
    completion_tokens: int | None = None
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True)
class Answer:
    """What the model says. `model` None repeats the request's; `extra` are unknown fields at the top and
    `message_extra` in the message or the first delta; `usage` None leaves the usage out."""

    content: str = "ok"
    reasoning: str = ""
    refusal: str = ""
    tool_calls: Sequence[ToolCall] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = field(default_factory=Usage)
    token_logprob: float | Sequence[float] = -0.1
    model: str | None = None
    id: str = "chatcmpl-scripted"
    extra: Mapping[str, Any] = field(default_factory=dict)
    message_extra: Mapping[str, Any] = field(default_factory=dict)
    by_character: bool = False
    reasoning_key: Literal["reasoning_content", "reasoning"] = "reasoning_content"

    def pieces(self, text: str) -> list[str]:
        return list(text) if self.by_character else re.findall(r"\s*\S+|\s+\Z", text)

    def tokens(self) -> int:
        """Completion tokens: as stated, else the pieces of all texts."""
        if self.usage is not None and self.usage.completion_tokens is not None:
            return self.usage.completion_tokens
        texts = [self.reasoning, self.content, self.refusal, *(call.arguments for call in self.tool_calls)]
        return sum(len(self.pieces(text)) for text in texts)

    def ending(self) -> FinishReason:
        return self.finish_reason or ("tool_calls" if self.tool_calls else "stop")


def dump(model: type[B], fields: Json) -> Json:
    """`fields` as JSON, after OpenAI's type has checked them."""
    return model.model_validate(fields).model_dump(mode="json", exclude_unset=True, by_alias=True)


def chat_completion(answer: Answer, request: Json) -> Json:
    message: Json = {"role": "assistant", "content": answer.content or None, **answer.message_extra}
    if answer.reasoning:
        message[answer.reasoning_key] = answer.reasoning
    if answer.refusal:
        message["refusal"] = answer.refusal
    if answer.tool_calls:
        message["tool_calls"] = [_call(call, place) for place, call in enumerate(answer.tool_calls)]
    choice: Json = {"message": message, "finish_reason": answer.ending(), "logprobs": None}
    if request.get("logprobs"):
        choice["logprobs"] = {"content": _logprobs(answer, request, answer.pieces(answer.content), 0)}
    choices = [{"index": index} | choice for index in range(request.get("n") or 1)]
    return dump(ChatCompletion, _frame(answer, request, "chat.completion") | {"choices": choices} | usage_of(answer))


def chat_chunks(answer: Answer, request: Json) -> Iterator[Json]:
    """The chunks of the same completion, without the one that carries only usage."""
    frame = _frame(answer, request, "chat.completion.chunk")
    for delta, more in _deltas(answer, request):
        for index in range(request.get("n") or 1):
            choice = {"index": index, "delta": delta, "finish_reason": None} | more
            yield dump(ChatCompletionChunk, frame | {"choices": [choice]})


def text_completion(answer: Answer, request: Json) -> Json:
    choice: Json = {"text": answer.content, "finish_reason": _text_ending(answer), "logprobs": None}
    if request.get("logprobs"):
        choice["logprobs"] = _text_logprobs(answer, answer.pieces(answer.content), 0)
    choices = [{"index": index} | choice for index in range(request.get("n") or 1)]
    return dump(Completion, _frame(answer, request, "text_completion") | {"choices": choices} | usage_of(answer))


def text_chunks(answer: Answer, request: Json) -> Iterator[Json]:
    pieces = answer.pieces(answer.content)
    for place, piece in enumerate([*pieces, ""]):
        last = place == len(pieces)
        choice = {"index": 0, "text": piece, "finish_reason": _text_ending(answer) if last else None, "logprobs": None}
        if request.get("logprobs") and not last:
            choice["logprobs"] = _text_logprobs(answer, [piece], place)
        # The type wants a finish reason in every chunk, where the servers send null until the last.
        dump(Completion, _frame(answer, request, "text_completion") | {"choices": [choice | {"finish_reason": "stop"}]})
        yield _frame(answer, request, "text_completion") | {"choices": [choice]}


def usage_chunk(answer: Answer, request: Json, kind: str) -> Json:
    """The chunk without choices that ends a stream with `include_usage`."""
    frame = _frame(answer, request, kind) | {"choices": []} | usage_of(answer)
    return dump(ChatCompletionChunk if kind == "chat.completion.chunk" else Completion, frame)


def tokens_in(chunk: Json) -> int:
    """How many tokens' text a chunk carries; the first choice counts."""
    choice = chunk["choices"][0]
    if choice["index"] != 0:
        return 0
    delta = choice.get("delta") or {"content": choice.get("text")}
    arguments = [call["function"]["arguments"] for call in delta.get("tool_calls", ())]
    texts = [delta.get(key) for key in ("content", "reasoning_content", "reasoning", "refusal")]
    return sum(1 for text in [*texts, *arguments] if text)


def embeddings(request: Json, dimensions: int = 4) -> Json:
    """A vector for each input that depends on its text only."""
    inputs = request["input"] if isinstance(request["input"], list) else [request["input"]]
    data = [
        {"object": "embedding", "index": index, "embedding": [float(len(str(text)) + k) for k in range(dimensions)]}
        for index, text in enumerate(inputs)
    ]
    usage = {"prompt_tokens": len(inputs), "total_tokens": len(inputs)}
    return dump(
        CreateEmbeddingResponse, {"object": "list", "data": data, "model": request.get("model", ""), "usage": usage}
    )


def models(names: Sequence[str]) -> Json:
    data = [dump(Model, {"id": name, "object": "model", "created": CREATED, "owned_by": "scripted"}) for name in names]
    return {"object": "list", "data": data}


def usage_of(answer: Answer) -> Json:
    """`{"usage": …}`, or nothing where the answer leaves it out."""
    if answer.usage is None:
        return {}
    prompt, completion = answer.usage.prompt_tokens, answer.tokens()
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    details = {
        "prompt_tokens_details": {"cached_tokens": answer.usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": answer.usage.reasoning_tokens},
    }
    return {"usage": dump(CompletionUsage, counts | details)}


def _frame(answer: Answer, request: Json, kind: str) -> Json:
    model = answer.model or request.get("model") or "scripted"
    return {"id": answer.id, "object": kind, "created": CREATED, "model": model, **answer.extra}


def _deltas(answer: Answer, request: Json) -> Iterator[tuple[Json, Json]]:
    """Each delta with what stands beside it in the choice."""
    yield {"role": "assistant", "content": "", **answer.message_extra}, {}
    for piece in answer.pieces(answer.reasoning):
        yield {answer.reasoning_key: piece}, {}
    for place, piece in enumerate(answer.pieces(answer.content)):
        logprobs = {"content": _logprobs(answer, request, [piece], place)} if request.get("logprobs") else None
        yield {"content": piece}, {"logprobs": logprobs}
    for piece in answer.pieces(answer.refusal):
        yield {"refusal": piece}, {}
    for place, call in enumerate(answer.tool_calls):
        head = _call(call, place)
        head["function"] = {"name": call.name, "arguments": ""}
        yield {"tool_calls": [{"index": place} | head]}, {}
        for piece in answer.pieces(call.arguments):
            yield {"tool_calls": [{"index": place, "function": {"arguments": piece}}]}, {}
    yield {}, {"finish_reason": answer.ending()}


def _call(call: ToolCall, place: int) -> Json:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id or f"call_{place}", "type": "function", "function": function}


def _logprob(answer: Answer, place: int) -> float:
    values = answer.token_logprob
    return float(values) if isinstance(values, (int, float)) else float(values[place])


def _logprobs(answer: Answer, request: Json, pieces: list[str], first: int) -> list[Json]:
    entries = []
    for place, piece in enumerate(pieces, first):
        entry: Json = {"token": piece, "logprob": _logprob(answer, place), "bytes": list(piece.encode())}
        tops = [entry | {"logprob": entry["logprob"] - rank} for rank in range(request.get("top_logprobs") or 0)]
        entries.append(entry | {"top_logprobs": tops})
    return entries


def _text_logprobs(answer: Answer, pieces: list[str], first: int) -> Json:
    values = [_logprob(answer, place) for place, _ in enumerate(pieces, first)]
    return {"tokens": pieces, "token_logprobs": values, "top_logprobs": None, "text_offset": None}


def _text_ending(answer: Answer) -> str:
    return "length" if answer.ending() == "length" else "stop"
