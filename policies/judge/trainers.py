"""The policies that learn from judged rows: a line each in `TRAINERS`. Nothing of them is imported before it trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from policies.bounds import Floats
from policies.gate.answer import StudentAnswer
from policies.judge.rows import Row, TableError
from policies.learn.example import Example
from policies.learn.extra import scipy_optimize, single_threaded

Progress = Callable[[str, float], None]
Rank = Callable[[Sequence[Row]], Floats]


class Fit(Protocol):
    """Learns from examples; what it gives tells of rows how much they are worth the teacher, shape (rows,)."""

    def __call__(self, examples: Sequence[Example], *, seed: int, progress: Progress | None) -> Rank: ...


@dataclass(frozen=True, slots=True)
class Trainer:
    """`module` has `train(examples, *, seed, progress)`, which gives a trained policy with `rank`.

    `rank` takes queries; where the policy looks at `answers`, the student's too, which is then asked about every
    request.
    """

    module: str
    answers: bool = False

    def fit(self, examples: Sequence[Example], *, seed: int, progress: Progress | None) -> Rank:
        """On one core. Raises what `train` raises: TooFewLabels, TrainingNotInstalled."""
        scipy_optimize()  # before the limit, which is set on libraries that are loaded
        with single_threaded():
            trained: Any = import_module(self.module).train(examples, seed=seed, progress=progress)

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
    "difficulty": Trainer("policies.difficulty.train"),
    "cascade": Trainer("policies.gate.train", answers=True),
}
