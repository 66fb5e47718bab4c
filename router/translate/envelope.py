"""The Response object around the output: identity, status and the request's fields, echoed as OpenAI does."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

# Only what OpenAI's type allows as the `code` of a failed response; any other error is a `server_error`.
_ERROR_CODES = ("rate_limit_exceeded", "invalid_prompt")
_ECHOED = (
    *("instructions", "max_output_tokens", "max_tool_calls", "prompt_cache_key", "safety_identifier", "temperature"),
    *("top_logprobs", "top_p", "user"),
)


def envelope(request: Json, *, response_id: str, created_at: int) -> Json:
    """A response in progress. `store` is false and `truncation` is `disabled` whatever was asked for: nothing is
    stored, and no input is cut. `temperature` and `top_p` stay null where the client left them to the model."""
    echo = {key: request.get(key) for key in _ECHOED}
    reasoning = request.get("reasoning") or {}
    return echo | {
        "id": response_id,
        "object": "response",
        "created_at": created_at,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "metadata": request.get("metadata") or {},
        "model": request["model"],
        "output": [],
        "parallel_tool_calls": request.get("parallel_tool_calls") is not False,
        "previous_response_id": None,
        "reasoning": {"effort": reasoning.get("effort"), "summary": None},
        "service_tier": None,
        "store": False,
        "text": {"format": {"type": "text"}} | _without_nulls(request.get("text") or {}),
        "tool_choice": request.get("tool_choice") or "auto",
        "tools": [{"parameters": None, "strict": None} | tool for tool in request.get("tools") or ()],
        "truncation": "disabled",
        "usage": None,
    }


def ending(finish_reason: str | None) -> tuple[str, Json | None]:
    """Status and incomplete_details that a chat finish reason stands for."""
    if finish_reason == "length":
        return "incomplete", {"reason": "max_output_tokens"}
    if finish_reason == "content_filter":
        return "incomplete", {"reason": "content_filter"}
    return "completed", None


def error_fields(error: Json) -> Json:
    """An OpenAI error object whose fields are strings or null; some servers send the HTTP status as `code`."""
    texts = {key: error.get(key) for key in ("message", "type", "code", "param")}
    texts["message"] = texts["message"] or "The model's server failed."
    return {key: None if value is None else str(value) for key, value in texts.items()}


def failure(error: Json) -> Json:
    """The `error` of a failed response."""
    code = error["code"] if error["code"] in _ERROR_CODES else "server_error"
    return {"code": code, "message": error["message"]}


def _without_nulls(fields: Json) -> Json:
    return {key: value for key, value in fields.items() if value is not None}
