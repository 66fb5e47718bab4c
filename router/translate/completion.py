"""Reads what a chat server sent, a whole completion or one chunk of a stream, as one kind of value.

What is missing is empty; what has the wrong shape is UpstreamFailed, because the server broke the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from router.errors import UpstreamFailed

Json = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A piece of the tool call number `index`."""

    index: int
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Delta:
    """What one chunk adds to choice 0."""

    reasoning: str = ""
    text: str = ""
    refusal: str = ""
    calls: list[CallDelta] = field(default_factory=list)
    logprobs: list[Json] = field(default_factory=list)
    finish_reason: str | None = None


def check_completion(completion: Any) -> Json:
    """`completion` if it is an object with choices and without an error, and so an answer; else UpstreamFailed."""
    whole = check_object(completion)
    error = whole.get("error")
    if error or not whole.get("choices"):
        message = error.get("message") if isinstance(error, dict) else error
        raise UpstreamFailed(f"The model's server sent no answer: {message or 'it has no choices'}.")
    return whole


def check_object(value: Any) -> Json:
    """`value` if it is an object, else UpstreamFailed."""
    return _is(value, dict, "the answer")


def read_delta(chunk: Mapping[str, Any]) -> Delta:
    """Choice 0 of a chunk (`delta`) or of a completion (`message`); an empty Delta where the chunk has no choice."""
    choice = _choice(chunk)
    if choice is None:
        return Delta()
    key = "delta" if "delta" in choice else "message"
    message = _get(choice, key, dict) or {}
    calls = _get(message, "tool_calls", list) or []
    return Delta(
        # vLLM renamed `reasoning_content` to `reasoning`; some servers send both.
        reasoning=_get(message, "reasoning_content", str) or _get(message, "reasoning", str) or "",
        text=_get(message, "content", str) or "",
        refusal=_get(message, "refusal", str) or "",
        calls=[_call(call, position) for position, call in enumerate(calls)],
        logprobs=[_logprob(token) for token in _get(_get(choice, "logprobs", dict) or {}, "content", list) or []],
        finish_reason=_get(choice, "finish_reason", str),
    )


def read_usage(usage: Any) -> Json | None:
    """Chat usage as Responses usage; None where there is none. A count that is no integer counts as 0."""
    if not isinstance(usage, dict):
        return None
    prompt, output = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    prompt_details, output_details = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    return {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": _count(prompt_details, "cached_tokens"),
            "cache_write_tokens": _count(prompt_details, "cache_write_tokens"),
        },
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": _count(output_details, "reasoning_tokens")},
        "total_tokens": _count(usage, "total_tokens") or prompt + output,
    }


def _choice(chunk: Mapping[str, Any]) -> Json | None:
    for choice in _get(chunk, "choices", list) or []:
        if (_get(_is(choice, dict, "choices[]"), "index", int) or 0) == 0:
            return cast(Json, choice)
    return None


def _call(call: Any, position: int) -> CallDelta:
    function = _get(_is(call, dict, "tool_calls[]"), "function", dict) or {}
    index = _get(call, "index", int)
    return CallDelta(
        index=position if index is None else index,
        id=_get(call, "id", str) or "",
        name=_get(function, "name", str) or "",
        arguments=_get(function, "arguments", str) or "",
    )


def _logprob(token: Any) -> Json:
    entry = _token(token)
    entry["top_logprobs"] = [_token(top) for top in _get(token, "top_logprobs", list) or []]
    return entry


def _token(token: Any) -> Json:
    text = _get(_is(token, dict, "logprobs.content[]"), "token", str) or ""
    return {"token": text, "bytes": _get(token, "bytes", list) or [], "logprob": _get(token, "logprob", float) or 0.0}


def _get(holder: Mapping[str, Any], key: str, kind: type[T]) -> T | None:
    value = holder.get(key)
    return None if value is None else _is(value, kind, key)


def _is(value: Any, kind: type[T], name: str) -> T:
    if isinstance(value, kind) or (kind is float and isinstance(value, int)):
        return cast(T, value)
    raise UpstreamFailed(f"The model's server broke the chat protocol: {name} is no {kind.__name__}.")


def _count(holder: Any, key: str) -> int:
    value = holder.get(key) if isinstance(holder, dict) else None
    return value if isinstance(value, int) else 0
