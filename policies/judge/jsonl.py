"""Our own format: JSON lines with `id`, `dataset`, `prompt`, scores and perhaps the student's answer and costs.

Blank lines and a byte order mark are passed over; further keys are ignored; ids may repeat and may be numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from policies.judge.rows import Row, TableError, Wanted, listed, score, shown, text, usd


def read_jsonl(path: Path, wanted: Wanted) -> Iterator[Row]:
    """The rows in their order. Raises TableError, which names the line, and OSError."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                try:
                    yield _row(_object(line), wanted)
                except TableError as error:
                    raise TableError(f"line {number}: {error}") from None


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise TableError(f"not UTF-8 at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise TableError(f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise TableError(f"a row is one JSON object on a line of its own, not {shown(found)}")
    return found


def _row(found: dict[str, Any], wanted: Wanted) -> Row:
    return Row(
        id=_id(found),
        dataset=_dataset(found.get("dataset")),
        prompt=_text(found, "prompt"),
        teacher=_score(found, "strong_score") if wanted.scores else None,
        student=_score(found, "weak_score") if wanted.scores else None,
        answer=_answer(found) if wanted.answers else None,
        teacher_usd=usd(found.get("strong_usd"), "strong_usd") if wanted.scores else None,
        student_usd=usd(found.get("weak_usd"), "weak_usd") if wanted.scores else None,
    )


def _id(found: dict[str, Any]) -> str | int | float:
    value = _needed(found, "id")
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise TableError(f"id must be a text or a number, not {shown(value)}")
    return value


def _dataset(value: Any) -> str:
    return "" if value is None else text(str(value))


def _text(found: dict[str, Any], name: str) -> str:
    value = _needed(found, name)
    if not isinstance(value, str):
        raise TableError(f"{name} must be a text, not {shown(value)}")
    return text(value)


def _answer(found: dict[str, Any]) -> str:
    """A student that gave nothing gave an empty answer."""
    return "" if _needed(found, "weak_response") is None else _text(found, "weak_response")


def _score(found: dict[str, Any], name: str) -> float:
    return score(_needed(found, name), name)


def _needed(found: dict[str, Any], name: str) -> Any:
    if name not in found:
        raise TableError(f"{name} is missing; there are: {listed(found) or 'no keys'}")
    return found[name]
