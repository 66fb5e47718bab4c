"""One row of a table to judge policies by, the same from every format, and the `Example` that it is to a learner."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from policies.gate.answer import StudentAnswer
from policies.learn.example import Example
from policies.query import Query

LISTED, LONGEST_NAME = 12, 60  # names in a message, and characters of one


class TableError(ValueError):
    """A table that cannot be read; the message names the line and the fix."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is read of each row, and must then be there; what is not wanted is not looked at."""

    scores: bool = True
    answers: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """`id` as it was written, a number or a text. `dataset` is who asks, '' where unknown.

    Scores in [0, 1] and costs in USD of one request; None where they are not known or were not wanted. `answer`: the
    student's, likewise.
    """

    id: str | int | float
    dataset: str
    prompt: str
    teacher: float | None = None
    student: float | None = None
    answer: str | None = None
    teacher_usd: float | None = None
    student_usd: float | None = None

    @property
    def query(self) -> Query:
        """The request as an estimator sees it: one user turn, asked on the route `dataset`."""
        return Query(last=self.prompt, whole=self.prompt, route=self.dataset)

    @property
    def student_answer(self) -> StudentAnswer | None:
        return None if self.answer is None else StudentAnswer(self.answer)

    @property
    def group(self) -> str:
        """Rows that ask the same share it: they must not stand on both sides of a split."""
        return hashlib.blake2b(" ".join(self.prompt.split()).encode(), digest_size=8).hexdigest()

    def example(self) -> Example:
        """To learn from: the harm is what the teacher scored above the student. Raises TableError without scores."""
        if self.teacher is None or self.student is None:
            raise TableError(f"row {self.id!r} has no scores to learn from")
        return Example(
            id=str(self.id),
            query=self.query,
            harm=max(0.0, self.teacher - self.student),
            teacher=self.teacher,
            student=self.student,
            group=self.group,
            answer=self.student_answer,
        )


def text(value: str) -> str:
    """Without the halves of surrogate pairs that JSON may carry and that no encoding can write."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def score(value: Any, name: str) -> float:
    """A score in [0, 1], of a number, a boolean, or a text that reads as one. Raises TableError."""
    found = _number(value)
    if found is None or not 0 <= found <= 1:
        raise TableError(f"{name} must be a number from 0 to 1, not {shown(value)}")
    return found


def usd(value: Any, name: str) -> float | None:
    """A cost of 0 or more; None where there is none. Raises TableError."""
    if value is None or value == "":
        return None
    found = _number(value)
    if found is None or found < 0:
        raise TableError(f"{name} must be a cost in USD, 0 or more, not {shown(value)}")
    return found


def shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    written = repr(value)
    return written if len(written) <= 40 else f"{written[:37]}…"


def listed(names: Iterable[str]) -> str:
    """Names for a message, the first of them, each cut where it is long; '' where there are none."""
    first = [name if name.isprintable() and len(name) <= LONGEST_NAME else shown(name) for name in names]
    return ", ".join(first[:LISTED]) + (", …" if len(first) > LISTED else "")


_WORDS = {"true": 1.0, "false": 0.0}


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        word = value.strip().lower()
        try:
            value = _WORDS[word] if word in _WORDS else float(word)
        except ValueError:
            return None
    if not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None
