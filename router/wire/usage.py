"""The usage block of an answer, in both of OpenAI's spellings."""

from __future__ import annotations

from typing import Annotated

import msgspec

from router.ledger.pricing import Usage

Tokens = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]


class _InputDetails(msgspec.Struct):
    cached_tokens: Tokens | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: Tokens | None = None


class _ChatUsage(msgspec.Struct):
    prompt_tokens: Tokens
    completion_tokens: Tokens | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


class _ResponsesUsage(msgspec.Struct):
    input_tokens: Tokens
    output_tokens: Tokens
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


_chat = msgspec.json.Decoder(_ChatUsage)
_responses = msgspec.json.Decoder(_ResponsesUsage)


def read_usage(raw: msgspec.Raw | bytes) -> Usage | None:
    """A `usage` value; None where it is empty, null, all zero or not to be believed."""
    if len(raw) <= len(b"null"):
        return None
    try:
        usage: Usage | None = _from_chat(raw)
    except msgspec.DecodeError:
        usage = _from_responses(raw)
    return usage if usage and (usage.input_tokens or usage.output_tokens) else None


def _from_chat(raw: msgspec.Raw | bytes) -> Usage:
    usage = _chat.decode(raw)
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0
    reasoning = usage.completion_tokens_details.reasoning_tokens if usage.completion_tokens_details else 0
    return Usage(usage.prompt_tokens, usage.completion_tokens or 0, cached or 0, reasoning or 0)


def _from_responses(raw: msgspec.Raw | bytes) -> Usage | None:
    try:
        usage = _responses.decode(raw)
    except msgspec.DecodeError:
        return None
    cached = usage.input_tokens_details.cached_tokens if usage.input_tokens_details else 0
    reasoning = usage.output_tokens_details.reasoning_tokens if usage.output_tokens_details else 0
    return Usage(usage.input_tokens, usage.output_tokens, cached or 0, reasoning or 0)
