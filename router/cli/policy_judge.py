"""`distill-router policy score` and `policy evaluate`: tables of judged rows in, scores or a judgement out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from policies.judge.evaluate import Plan, out_of_fold
from policies.judge.judgement import Contender, Prices, judge
from policies.judge.metrics import Undefined
from policies.judge.plot import plot
from policies.judge.report import as_text, values
from policies.judge.rows import Row, TableError, Wanted
from policies.judge.tables import Format, read_tables
from policies.judge.trainers import TRAINERS, Rank, Trainer
from policies.judge.wide import Pair
from policies.learn.extra import TrainingNotInstalled
from policies.learn.labels import TooFewLabels
from router.cli.progress import Tell, progress_bar

BAD_TABLE, TOO_FEW_LABELS = 2, 3
LEARNING = 0.9  # of the time that scoring takes in all
AT_ONCE = 1000


class JudgeError(Exception):
    """What a person reads instead of a traceback, and the exit status."""

    def __init__(self, message: str, status: int = BAD_TABLE) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Tables:
    """How tables are read: their format, and the models in the teacher's and the student's place."""

    form: Format
    pair: Pair

    def read(self, paths: Sequence[Path], wanted: Wanted) -> list[Row]:
        return read_tables(paths, self.form, pair=self.pair, wanted=wanted)


def run_score(tables: Tables, policy: str, train: Sequence[Path], data: Sequence[Path], out: Path, seed: int) -> str:
    """Train on some rows, score others, write the scores; say what was done. Raises JudgeError."""
    trainer = _trainer(policy)
    _prepare(out, [*train, *data])
    with _explained(), progress_bar("reading") as tell:
        learned = tables.read(train, Wanted(answers=trainer.answers))
        rows = tables.read(data, Wanted(scores=False, answers=trainer.answers))
        rank = trainer.fit([row.example() for row in learned], seed=seed, progress=_part(tell, policy, 0.0, LEARNING))
        scores = list(_scored(rank, rows, tell))
    lines = (json.dumps({"id": row.id, "score": score}) for row, score in zip(rows, scores, strict=True))
    out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return f"{policy} learned from {len(learned)} rows; {len(rows)} scores are in {out}"


def run_evaluate(
    tables: Tables,
    data: Sequence[Path],
    names: Sequence[str],
    plan: Plan,
    prices: Prices | None,
    svg: Path | None,
    *,
    as_json: bool,
) -> str:
    """The judgement as text or JSON; its curves are written to `svg`. Raises JudgeError."""
    trainers = {name: _trainer(name) for name in names}
    if svg is not None:
        _prepare(svg, data)
    with _explained(), progress_bar("reading") as tell:
        rows = tables.read(data, Wanted(answers=any(trainer.answers for trainer in trainers.values())))
        contenders = {}
        for done, (name, trainer) in enumerate(trainers.items()):
            part = _part(tell, name, done / len(trainers), (done + 1) / len(trainers))
            contenders[name] = Contender(out_of_fold(rows, trainer.fit, plan, part), trainer.answers)
        tell("intervals", 1.0)
        judgement = judge(rows, contenders, prices)
    if svg is not None:
        title = ", ".join(path.stem for path in data)
        svg.write_text(plot(judgement, f"{title}: {judgement.rows} requests"), encoding="utf-8")
    if as_json:
        return json.dumps({"data": [str(path) for path in data], **values(judgement, plan)}, indent=2)
    return as_text(judgement, plan) + (f"\n\nThe curves are in {svg}." if svg is not None else "")


def _scored(rank: Rank, rows: Sequence[Row], tell: Tell) -> Iterator[float]:
    for start in range(0, len(rows), AT_ONCE):
        tell("scoring", LEARNING + (1 - LEARNING) * start / len(rows))
        yield from rank(rows[start : start + AT_ONCE]).tolist()


def prices(teacher_usd: float | None, student_usd: float | None) -> Prices | None:
    """Of a request at each model. Raises JudgeError where one of the two is missing or the teacher costs nothing."""
    if teacher_usd is None and student_usd is None:
        return None
    if not teacher_usd or student_usd is None:
        raise JudgeError("savings need both --teacher-usd, above 0, and --student-usd")
    return Prices(teacher_usd, student_usd)


def _trainer(name: str) -> Trainer:
    if name not in TRAINERS:
        raise JudgeError(f"--policy {name}: unknown; known: {', '.join(TRAINERS)}")
    return TRAINERS[name]


@contextmanager
def _explained() -> Iterator[None]:
    """Turns what can be wrong with tables and training into a JudgeError."""
    try:
        yield
    except TooFewLabels as error:
        raise JudgeError(str(error), TOO_FEW_LABELS) from None
    except (TableError, Undefined, TrainingNotInstalled) as error:
        raise JudgeError(str(error)) from None


def _part(tell: Tell, name: str, start: float, end: float) -> Tell:
    """Progress of a part of the whole, from one share of it to another."""
    return lambda stage, share: tell(f"{name}, {stage}", start + (end - start) * share)


def _prepare(path: Path, read: Sequence[Path]) -> None:
    """Find out before the long work whether the file can be written. Raises JudgeError, also for one that is read."""
    place = path.resolve()
    if not {place, place.parent}.isdisjoint(each.resolve() for each in read):
        raise JudgeError(f"{path} is also read, or in a folder that is: name another file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        there = path.exists()
        path.open("a", encoding="utf-8").close()
        if not there:
            path.unlink()
    except OSError as error:
        raise JudgeError(f"{path}: {error.strerror or error}") from None
