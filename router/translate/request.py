"""A Responses request as a chat-completions request. Fields that neither API knows pass through untouched."""

from __future__ import annotations

from typing import Any

from router.errors import BadRequest
from router.translate.fields import Json, expect, one_of, optional, required
from router.translate.items import messages
from router.translate.tools import tool_fields

# What only a server with a store can do, and what to send instead.
_NEEDS_A_STORE = {
    "previous_response_id": "responses are not stored here: send the earlier turns as items of `input`",
    "conversation": "conversations are not stored here: send the earlier turns as items of `input`",
    "prompt": "prompt templates are not stored here: send their text as `instructions` and `input`",
    "context_management": "conversations are not compacted here: send a shorter `input`",
}
_BACKGROUND = "responses are not stored here, so none could be fetched later: leave it out, or set `stream` to true"

# Chat-completions names that the Responses API spells differently; passing them on would override the translation.
_CHAT_NAMES = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "logprobs": 'include: ["message.output_text.logprobs"]',
}

# Fields of the Responses API that get here as a chat field of another name, as an echo in the response, or not at all.
# `metadata` labels the Response object and `store` asks to keep it: neither concerns the model behind, and OpenAI's own
# chat completions refuse metadata without store.
_TRANSLATED = {
    *_NEEDS_A_STORE,
    *("background", "include", "input", "instructions", "max_output_tokens", "max_tool_calls", "metadata"),
    *("parallel_tool_calls", "reasoning", "store", "stream_options", "text", "tool_choice", "tools", "top_logprobs"),
    "truncation",
}

_TYPES: dict[str, type] = {
    "background": bool,
    "include": list,
    "instructions": str,
    "max_output_tokens": int,
    "max_tool_calls": int,
    "metadata": dict,
    "parallel_tool_calls": bool,
    "prompt_cache_key": str,
    "reasoning": dict,
    "safety_identifier": str,
    "service_tier": str,
    "store": bool,
    "stream": bool,
    "stream_options": dict,
    "temperature": float,
    "text": dict,
    "tools": list,
    "top_logprobs": int,
    "top_p": float,
    "truncation": str,
    "user": str,
}


def chat_request(body: dict[str, Any]) -> dict[str, Any]:
    """The chat-completions request that asks for the same.

    Raises BadRequest, with `param`, for a wrong type, for what needs a store, for hosted tools and for unknown items.
    """
    _check(body)
    chat = {key: value for key, value in body.items() if key not in _TRANSLATED}
    chat["messages"] = messages(body)
    return chat | tool_fields(body) | _output_fields(body) | _stream_fields(body)


def wants_logprobs(body: Json) -> bool:
    """Whether the client asked for token log-probabilities."""
    return "message.output_text.logprobs" in (body.get("include") or ()) or bool(body.get("top_logprobs"))


def refuse_state(body: Json) -> None:
    """Raises BadRequest for what needs an earlier response, a conversation or a job kept somewhere.

    The next turn of a conversation may go to another model, which knows nothing of it.
    """
    for key, instead in _NEEDS_A_STORE.items():
        if body.get(key) is not None:
            raise BadRequest(f"{key} is not supported: {instead}.", param=key, code="unsupported_parameter")
    if body.get("background"):
        message = f"background is not supported: {_BACKGROUND}."
        raise BadRequest(message, param="background", code="unsupported_parameter")


def _check(body: Json) -> None:
    required(body, "model", str)
    for key, kind in _TYPES.items():
        optional(body, key, kind)
    refuse_state(body)
    for key, name in _CHAT_NAMES.items():
        if key in body:
            message = f"Unsupported parameter: {key}. In the Responses API it is {name}."
            raise BadRequest(message, param=key, code="unsupported_parameter")
    if body.get("n") not in (None, 1):
        raise BadRequest("n is not supported: a response has one answer.", param="n", code="unsupported_parameter")
    for key, value in (body.get("metadata") or {}).items():
        expect(value, str, f"metadata.{key}")
    one_of(body.get("truncation") or "disabled", ("auto", "disabled"), "truncation")


def _output_fields(body: Json) -> Json:
    fields = _text_fields(body.get("text") or {})
    effort = optional(body.get("reasoning") or {}, "effort", str, "reasoning")
    if effort is not None:
        fields["reasoning_effort"] = effort
    if body.get("max_output_tokens") is not None:
        fields["max_completion_tokens"] = body["max_output_tokens"]
    if wants_logprobs(body):
        fields["logprobs"] = True
    if body.get("top_logprobs"):
        fields["top_logprobs"] = body["top_logprobs"]
    return fields


def _text_fields(text: Json) -> Json:
    fields: Json = {}
    answer_format = optional(text, "format", dict, "text")
    if answer_format is not None:
        fields = _response_format(answer_format)
    verbosity = optional(text, "verbosity", str, "text")
    if verbosity is not None:
        fields["verbosity"] = one_of(verbosity, ("low", "medium", "high"), "text.verbosity")
    return fields


def _response_format(answer_format: Json) -> Json:
    path = "text.format"
    kind = one_of(required(answer_format, "type", str, path), ("text", "json_object", "json_schema"), f"{path}.type")
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    required(answer_format, "name", str, path)
    required(answer_format, "schema", dict, path)
    optional(answer_format, "strict", bool, path)
    optional(answer_format, "description", str, path)
    schema = {key: value for key, value in answer_format.items() if key != "type" and value is not None}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _stream_fields(body: Json) -> Json:
    if not body.get("stream"):
        return {}
    return {"stream_options": (body.get("stream_options") or {}) | {"include_usage": True}}
