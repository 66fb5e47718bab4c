"""The policies that learn from judged rows: a line each in `TRAINERS`. Nothing of them is imported before it trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from policies.bounds import Floats
from policies.gate.answer import StudentAnswer
from policies.judge.rows import Row, TableError
from policies.learn.example import Example
from policies.learn.trainers import Progress, train

Rank = Callable[[Sequence[Row]], Floats]


class Fit(Protocol):
    """Learns from examples; what it gives tells of rows how much they are worth the teacher, shape (rows,)."""

    def __call__(self, examples: Sequence[Example], *, seed: int, progress: Progress | None) -> Rank: ...


@dataclass(frozen=True, slots=True)
class Trainer:
    """Of a kind of `policies.learn.trainers`, whose trained policies have `rank`.

    `rank` takes queries; where the policy looks at `answers`, the student's too, which is then asked about every
    request.
    """

    kind: str
    answers: bool = False

    def fit(self, examples: Sequence[Example], *, seed: int, progress: Progress | None) -> Rank:
        """Raises TooFewLabels, TrainingNotInstalled."""
        trained: Any = train(self.kind, examples, seed=seed, progress=progress)

        def rank(rows: Sequence[Row]) -> Floats:
            answers = ([_answer(row) for row in rows],) if self.answers else ()
            worth: Floats = trained.rank([row.query for row in rows], *answers)
            return worth

        return rank


def _answer(row: Row) -> StudentAnswer:
    answer = row.student_answer
    if answer is None:
        raise TableError(f"row {row.id!r} was read without the student's answer")
    return answer


TRAINERS: dict[str, Trainer] = {
    "difficulty": Trainer("difficulty"),
    "cascade": Trainer("cascade", answers=True),
}
