"""A comparator called from a test: the configuration, the judge's replies, and the verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter

from router.comparator_settings import AnyComparator, ComparatorSettings
from router.evidence.compare import Answer, Services, ToolCall, Verdict
from router.evidence.compare.registry import Comparators

Messages = list[dict[str, str]]
SETTINGS: TypeAdapter[AnyComparator] = TypeAdapter(ComparatorSettings)


def configured(**settings: Mapping[str, Any]) -> Comparators:
    """Comparators with these settings, by name."""
    return Comparators({name: SETTINGS.validate_python(each) for name, each in settings.items()})


BUILT_IN = configured()


async def nobody(model: str, messages: Messages, max_tokens: int) -> str:
    raise AssertionError(f"{model} was asked, and there is no judge")


def replying(reply: Callable[[str], str]) -> Services:
    """A judge whose reply is made from the material that it is shown."""

    async def ask(model: str, messages: Messages, max_tokens: int) -> str:
        return reply(messages[-1]["content"])

    return Services(ask)


def compare(
    request: Mapping[str, Any],
    teacher: Answer,
    student: Answer,
    comparator: str = "auto",
    by: Comparators = BUILT_IN,
    services: Services | None = None,
) -> Verdict:
    return asyncio.run(by.compare(comparator, request, teacher, student, services or Services(nobody)))


def judge(teacher: str, student: str, comparator: str = "auto", by: Comparators = BUILT_IN) -> Verdict:
    """Two texts, and a request that says nothing."""
    return compare({}, Answer(teacher), Answer(student), comparator, by)


def calling(*calls: tuple[str, str]) -> Answer:
    return Answer(tool_calls=tuple(ToolCall(name, arguments) for name, arguments in calls))
