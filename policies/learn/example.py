"""One judged request to learn from, wherever it comes from: a file with scores of both models, or an audited pair."""

from __future__ import annotations

from dataclasses import dataclass

from policies.gate.answer import StudentAnswer
from policies.query import Query


@dataclass(frozen=True, slots=True)
class Example:
    """`teacher` and `student`: scores of their answers in [0, 1]; both None where only the `harm` is known.

    `harm` in [0, 1]: what is lost where the student answers instead of the teacher. `weight`: 1/P(being looked at).
    `group`: the conversation; no group may stand on both sides of a split. `time`: Unix seconds, 0 where unknown.
    `answer`: the student's, for gates.
    """

    id: str
    query: Query
    harm: float
    teacher: float | None = None
    student: float | None = None
    weight: float = 1.0
    group: str = ""
    time: float = 0.0
    answer: StudentAnswer | None = None
