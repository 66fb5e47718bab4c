"""Pairs for the loss map, made by hand."""

from __future__ import annotations

from typing import Any

from policies.base import Arm
from router.evidence.records import ArmAnswer, PairRecord
from tests.support.pairs import pair

TEACHER_NANO, STUDENT_NANO = 1_000_000, 100_000


def made(
    number: int,
    prompt: str = "question",
    *,
    harm: bool = False,
    teacher: ArmAnswer | None = None,
    student: ArmAnswer | None = None,
    request: dict[str, Any] | None = None,
    **more: Any,
) -> PairRecord:
    """A pair whose user said `prompt`, or whose whole request is given."""
    asked = request or {"messages": [{"role": "user", "content": prompt}]}
    usual = pair(number, harm=harm)
    return usual.model_copy(
        update={
            "request": asked,
            "teacher": teacher or usual.teacher.model_copy(update={"cost_nano_usd": TEACHER_NANO}),
            "student": student or usual.student.model_copy(update={"cost_nano_usd": STUDENT_NANO}),
            **more,
        }
    )


def answer(text: str = "", **more: Any) -> ArmAnswer:
    return ArmAnswer(model="teacher", text=text, cost_nano_usd=TEACHER_NANO, **more)


def word(number: int) -> str:
    """Letters, another word for each number."""
    return "".join(chr(ord("a") + int(digit, 16)) for digit in f"{number * 2654435761 % 2**24:x}")


def route_traffic(count: int = 400, served: Arm = "teacher") -> list[PairRecord]:
    """Of each ten requests two are sums and two are sorts, which the student loses; it knows the other six."""
    prompts = ("1{digit}+23", "sort {word}", "upper {word}", "upper {word}", "reverse {word}")
    return [
        made(
            number,
            prompts[number % 5].format(digit=number % 10, word=word(number)),
            harm=number % 5 < 2,
            served=served,
        )
        for number in range(count)
    ]
