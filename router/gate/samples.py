"""Further answers to the client's request, of the student itself or of a second model, and how many say the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from policies.gate.agreement import Agreement
from router.errors import UpstreamFailed
from router.evidence.compare.base import Answer
from router.gate.asker import Asker, Unanswered
from router.request import ClientRequest, Endpoint
from router.translate import chat_request
from router.upstream.model import ModelClient

Same = Callable[[Answer, Answer], Awaitable[bool | None]]

# How the client wants its answer sent, and what would make every sample the same one.
LEFT_OUT = ("model", "stream", "stream_options", "logprobs", "top_logprobs", "n", "best_of", "seed")


async def further_answers(asker: Asker, request: ClientRequest, model: ModelClient, wanted: Agreement) -> list[Answer]:
    """Those of the `wanted.samples` that came in time."""
    endpoint, body = _body(request, wanted.sampling_temperature)
    if "n" in model.supports and wanted.samples > 1:
        return await _ask(asker, model, body | {"n": wanted.samples}, wanted, endpoint)
    asked = (_ask(asker, model, body, wanted, endpoint) for _ in range(wanted.samples))
    return [answer for answers in await asyncio.gather(*asked) for answer in answers]


async def agreement(answer: Answer, others: list[Answer], same: Same) -> tuple[float | None, int]:
    """The share that says the same, of so many of the others for which `same` could tell; None of none."""
    told = [_is_equal(answer, other) or await same(answer, other) for other in others]
    known = [each for each in told if each is not None]
    return (sum(known) / len(known) if known else None), len(known)


async def _ask(
    asker: Asker, model: ModelClient, body: dict[str, Any], wanted: Agreement, endpoint: Endpoint
) -> list[Answer]:
    try:
        call = await asker.ask(model, body, wanted.timeout_s, endpoint=endpoint)
        return [said.answer for said in call.choices()]
    except (Unanswered, UpstreamFailed):
        return []


def _body(request: ClientRequest, temperature: float | None) -> tuple[Endpoint, dict[str, Any]]:
    """The client's request, asked in chat where it came through the Responses API."""
    fields = {name: request.value(name) for name in request.fields}
    in_chat = request.endpoint == "responses"
    body = {
        name: value for name, value in (chat_request(fields) if in_chat else fields).items() if name not in LEFT_OUT
    }
    if temperature is not None:
        body["temperature"] = temperature
    return "chat" if in_chat else request.endpoint, body


def _is_equal(one: Answer, other: Answer) -> bool:
    return (one.text.strip(), one.tool_calls) == (other.text.strip(), other.tool_calls)
