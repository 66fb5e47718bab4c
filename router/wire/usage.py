"""The usage block of an answer, in both of OpenAI's spellings."""

from __future__ import annotations

from typing import Annotated

import msgspec

from router.ledger.pricing import Usage

Tokens = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]


class _InputDetails(msgspec.Struct):
    cached_tokens: Tokens | None = None
    image_tokens: Tokens | None = None
    audio_tokens: Tokens | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: Tokens | None = None
    audio_tokens: Tokens | None = None


class _ChatUsage(msgspec.Struct):
    prompt_tokens: Tokens
    completion_tokens: Tokens | None = None
    total_tokens: Tokens | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


class _ResponsesUsage(msgspec.Struct):
    input_tokens: Tokens
    output_tokens: Tokens
    total_tokens: Tokens | None = None
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
    output = _output(usage.prompt_tokens, usage.completion_tokens or 0, usage.total_tokens)
    return _usage(usage.prompt_tokens, output, usage.prompt_tokens_details, usage.completion_tokens_details)


def _from_responses(raw: msgspec.Raw | bytes) -> Usage | None:
    try:
        usage = _responses.decode(raw)
    except msgspec.DecodeError:
        return None
    output = _output(usage.input_tokens, usage.output_tokens, usage.total_tokens)
    return _usage(usage.input_tokens, output, usage.input_tokens_details, usage.output_tokens_details)


def _output(given_in: int, given_out: int, total: int | None) -> int:
    """xAI and Gemini leave reasoning out of the completion and have it in the total; both bill it as output.

    https://docs.x.ai/docs/key-information/consumption-and-rate-limits
    """
    return given_out if total is None or total <= given_in + given_out else total - given_in


def _usage(given_in: int, given_out: int, of_in: _InputDetails | None, of_out: _OutputDetails | None) -> Usage:
    if of_in is None and of_out is None:
        return Usage(given_in, given_out)
    of_in, of_out = of_in or _NO_INPUT_DETAILS, of_out or _NO_OUTPUT_DETAILS
    return Usage(
        given_in,
        given_out,
        of_in.cached_tokens or 0,
        of_out.reasoning_tokens or 0,
        of_in.image_tokens or 0,
        of_in.audio_tokens or 0,
        of_out.audio_tokens or 0,
    )


_NO_INPUT_DETAILS = _InputDetails()
_NO_OUTPUT_DETAILS = _OutputDetails()
