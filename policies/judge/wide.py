"""Tables with columns for each model: RouteLLM's evaluation responses and RouterBench.

The teacher is the model with the higher mean score, unless a `Pair` says otherwise; of more than two models a `Pair`
must say which.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policies.judge.cells import Cells
from policies.judge.rows import Row, TableError, Wanted, listed, score, shown, text, usd

_INDEXES = ("", "Unnamed: 0", "__index_level_0__")


@dataclass(frozen=True, slots=True)
class Pair:
    """The models in the teacher's and the student's place, as the table names them; None: as the scores tell."""

    teacher: str | None = None
    student: str | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """Endings of a model's columns, and where a row's id and dataset stand; None: the file's name tells them."""

    response: str
    cost: str | None = None
    id: str | None = None
    dataset: str | None = None

    def models(self, columns: Sequence[str]) -> list[str]:
        """The columns with a model's scores."""
        if self.cost is not None:
            return [name for name in columns if {name + self.response, name + self.cost} & set(columns)]
        responses = {name + self.response for name in columns}
        return [name for name in columns if name != "prompt" and name not in responses and name not in _INDEXES]


ROUTELLM = Layout(response="_response")
ROUTERBENCH = Layout(response="|model_response", cost="|total_cost", id="sample_id", dataset="eval_name")


def read_wide(cells: Cells, layout: Layout, stem: str, pair: Pair, wanted: Wanted) -> Iterator[Row]:
    """`stem`: the file's name without its ending. Raises TableError, which names the line."""
    for name in filter(None, ("prompt", layout.id, layout.dataset)):
        if name not in cells.columns:
            raise TableError(f"column '{name}' is missing; there are: {listed(cells.columns)}")
    models = layout.models(cells.columns)
    teacher, student = _named(models, pair)
    if pair == Pair() and wanted.scores:
        teacher, student = _by_mean(cells, teacher, student)
    elif pair == Pair() and wanted.answers:
        raise TableError(f"say which model is the student: {teacher} or {student}")
    reader = _Reader(cells.columns, layout, stem, teacher, student, wanted)
    for number, (line, found) in enumerate(cells.read(reader.columns)):
        try:
            yield reader.row(number, found)
        except TableError as error:
            raise TableError(f"line {line}: {error}") from None


class _Reader:
    """Knows which cell is what."""

    def __init__(
        self, columns: Sequence[str], layout: Layout, stem: str, teacher: str, student: str, wanted: Wanted
    ) -> None:
        self._layout = layout
        self._stem = stem
        self._dataset = "/".join(stem.removesuffix("_responses").split("_", 1))
        self._answer = student + layout.response if wanted.answers else None
        if self._answer is not None and self._answer not in columns:
            raise TableError(f"column '{self._answer}' with the student's answers is missing")
        self._scores = (teacher, student) if wanted.scores else ()
        self._costs = tuple(
            name + layout.cost for name in self._scores if layout.cost is not None and name + layout.cost in columns
        )
        asked = ("prompt", layout.id, layout.dataset, self._answer, *self._scores, *self._costs)
        self.columns = [name for name in asked if name is not None]

    def row(self, number: int, cells: Mapping[str, Any]) -> Row:
        teacher, student = (score(cells[name], name) for name in self._scores) if self._scores else (None, None)
        teacher_usd, student_usd = (
            (usd(cells[name], name) for name in self._costs) if len(self._costs) == 2 else (None, None)
        )
        layout = self._layout
        return Row(
            id=_text(cells, layout.id) if layout.id is not None else f"{self._stem}-{number}",
            dataset=_text(cells, layout.dataset) if layout.dataset is not None else self._dataset,
            prompt=_turns(_text(cells, "prompt")),
            teacher=teacher,
            student=student,
            answer=_turns(_text(cells, self._answer)) if self._answer is not None else None,
            teacher_usd=teacher_usd,
            student_usd=student_usd,
        )


def _named(models: Sequence[str], pair: Pair) -> tuple[str, str]:
    """Teacher and student; of two models, whoever is not named is the other."""
    for name in (pair.teacher, pair.student):
        if name is not None and name not in models:
            raise TableError(f"no model '{name}'; there are: {listed(models) or 'none'}")
    others = [name for name in models if name not in (pair.teacher, pair.student)]
    missing = [pair.teacher, pair.student].count(None)
    if missing > len(others) or (pair.teacher is not None and pair.teacher == pair.student):
        raise TableError(f"a teacher and a student are needed; models of this table: {listed(models) or 'none'}")
    if missing < len(others) and missing:
        raise TableError(f"name the teacher and the student; models of this table: {listed(models)}")
    unnamed = iter(others)
    return pair.teacher or next(unnamed), pair.student or next(unnamed)


def _by_mean(cells: Cells, first: str, second: str) -> tuple[str, str]:
    gap = 0.0
    for line, found in cells.read([first, second]):
        try:
            gap += score(found[first], first) - score(found[second], second)
        except TableError as error:
            raise TableError(f"line {line}: {error}") from None
    return (first, second) if gap >= 0 else (second, first)


def _text(cells: Mapping[str, Any], name: str) -> str:
    value = cells[name]
    if not isinstance(value, str):
        raise TableError(f"{name} must be a text, not {shown(value)}")
    return text(value)


def _turns(written: str) -> str:
    """RouterBench writes texts as Python lists of turns; anything else is taken as it stands."""
    if not (written.startswith("[") and written.endswith("]")):
        return written
    try:
        turns = ast.literal_eval(written)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return written
    if not isinstance(turns, list) or not all(isinstance(turn, str) for turn in turns):
        return written
    return text("\n\n".join(turns))
