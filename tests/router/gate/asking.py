"""A student whose further answers differ from its first one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.scripted import Exchange, Received, Reply, Step, Usage

FIRST = Reply("the answer is 7", usage=Usage(20, 4), token_logprob=-0.5)
SAME = Reply("the answer is 7", usage=Usage(20, 4))
OTHER = Reply("the answer is 8", usage=Usage(20, 4))
STUDENT_NANO = 20 * 200 + 4 * 800
TEACHER_NANO = 10 * 2_000 + 3 * 8_000


def is_sample(request: Received) -> bool:
    """Whether it asks for a further answer: those are drawn at a temperature that no test's client sets."""
    return bool(request.json.get("temperature") == 0.7)


def by_kind(first: Step, *samples: Step) -> Step:
    """The student's own answer, and its further ones in turn."""
    left = list(samples)

    async def step(exchange: Exchange) -> None:
        if is_sample(exchange.request):
            await (left.pop(0) if len(left) > 1 else left[0])(exchange)
        else:
            await first(exchange)

    return step


def when(holds: Callable[[Any], bool], yes: Step, no: Step) -> Step:
    """One of two, by the request's body."""

    async def step(exchange: Exchange) -> None:
        await (yes if holds(exchange.request.json) else no)(exchange)

    return step
