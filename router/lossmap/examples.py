"""Pairs to look at: prompt, both answers and their difference, as texts that are safe to print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from router.evidence.records import ArmAnswer, PairRecord
from router.prompt import read_prompt

MOST = 3
CHARACTERS = 400


@dataclass(frozen=True, slots=True)
class Example:
    """Texts without control characters (a line break stays), each cut to `CHARACTERS`."""

    pair: str
    prompt: str
    teacher: str
    student: str
    diff: str


def examples_of(records: Sequence[PairRecord]) -> tuple[Example, ...]:
    """The newest ones whose prompts differ."""
    found: dict[str, Example] = {}
    for record in reversed(records):
        example = _example(record)
        found.setdefault(example.prompt, example)
        if len(found) == MOST:
            break
    return tuple(found.values())


def readable(text: str) -> str:
    """No terminal escapes, no text that runs backwards, nothing that a file cannot encode."""
    cut = text if len(text) <= CHARACTERS else text[: CHARACTERS - 1] + "…"
    return "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in cut.expandtabs(4))


def _example(record: PairRecord) -> Example:
    prompt = read_prompt(record.request, record.endpoint)
    return Example(
        pair=record.id,
        prompt=readable(prompt.last or prompt.whole),
        teacher=readable(_said(record.teacher)),
        student=readable(_said(record.student)),
        diff=readable(record.verdict.diff or record.verdict.kind),
    )


def _said(answer: ArmAnswer) -> str:
    if answer.error is not None:
        return f"(failed: {answer.error})"
    calls = (f"{call.get('name', '')}({call.get('arguments', '')})" for call in answer.tool_calls)
    return " ".join(part for part in (answer.refusal or answer.text, *calls) if part)
