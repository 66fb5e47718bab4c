"""Does the certified floor keep the loss over all traffic at most alpha, whatever comes, and what does it save?

    python bench/risk.py --data ROWS.jsonl [--runs 400] [--alpha 0.02 0.05] [--shift none abrupt gradual silent]
        [--loss net harm] [--requests 30000] [--splits 20] [--worsening 0.1] [--delta 0.06] [--seed 1]
        [--scores CACHE.npz] [--json FILE]

The rows need a `dataset` (subject), a prompt, and scores of both models. For each of `--splits` random halves of the
subjects, a difficulty estimator is trained on half of the rows of the first subjects and scores all others; it never
sees the other subjects, nor the subject of a request. A run is a stream of those others, drawn with replacement:

- none: first subjects throughout;
- abrupt: other subjects from the middle on;
- gradual: their share grows from 0 to 1 over the middle half;
- silent: first subjects throughout, but from the middle on a share `--worsening` of the student's answers is wrong
  whatever they were: the texts stay, the labels worsen.

The method is `policies.certify.floor.Floor`, told in steps of `STEP` requests as the gateway tells it: what it
publishes after a step holds for the next one, and results of audits come a step late. It starts from the estimator's
out-of-sample calibration set, and knows the scores of all requests and the losses of audited ones.

- net: what the teacher scores above the student, below 0 where the student was the better one; harm: only where the
  teacher was the better one. The floor is fed what it is judged by.
- held: the share of runs whose realised loss per request, audited ones included, is at most alpha; limit: its exact
  one-sided lower 95% limit (Clopper and Pearson).
- saved: requests without any call of the teacher, be it to serve or to audit.
- audited: requests that both models answered, those of shadow phases included; most: in a run.
- fixed: the threshold of Learn then Test from the calibration set, left alone and not audited.

Exit status 1 where a cell of the net loss has a limit below 87%, a run with more than 10% audited, or savings below
12% (alpha 2%) or 30% (alpha 5%).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from policies.bounds import Floats, binomial_lower
from policies.certify.bins import EDGES, NOVELTY_BINS, SCORE_BINS
from policies.certify.floor import Audited, Floor, FloorSettings, Scored
from policies.certify.ltt import certified_threshold
from policies.difficulty.model import DifficultyModel
from policies.judge.tables import read_tables
from policies.learn.example import Example
from policies.learn.rows import Ints
from policies.learn.trainers import train
from policies.query import Query

Shift = Literal["none", "abrupt", "gradual", "silent"]
Loss = Literal["net", "harm"]
SHIFTS: tuple[Shift, ...] = ("none", "abrupt", "gradual", "silent")
LOSSES: tuple[Loss, ...] = ("net", "harm")
STEP = 100
REQUESTS_A_SECOND = 100.0
LEAST_HELD = 0.87
MOST_AUDITED = 0.1
LEAST_SAVED = {0.02: 0.12, 0.05: 0.30}


@dataclass(frozen=True, slots=True)
class Pool:
    """Judged rows with the estimator's scores and novelties; all of shape (n,)."""

    loss: Floats
    novelty: Floats
    teacher: Floats
    student: Floats

    def lost(self, loss: Loss) -> Floats:
        net = self.teacher - self.student
        return net if loss == "net" else np.maximum(net, 0.0)


@dataclass(frozen=True, slots=True)
class Split:
    """`calibration`: the training rows with out-of-sample scores; `first` and `other`: rows apart, by subjects."""

    calibration: Pool
    first: Pool
    other: Pool


@dataclass(frozen=True, slots=True)
class Start:
    """What a floor starts from."""

    loss: Floats
    harm: Floats
    weight: Floats


@dataclass(frozen=True, slots=True)
class Run:
    """Shares of all requests, and the number of alarms; `fixed_…`: of the threshold that is left alone."""

    lost: float
    student: float
    saved: float
    audited: float
    alarms: int
    fixed_lost: float
    fixed_saved: float


@dataclass(frozen=True, slots=True)
class Cell:
    loss: Loss
    alpha: float
    shift: Shift
    runs: int
    held: float
    held_limit: float
    lost: float
    saved: float
    student: float
    audited: float
    most_audited: float
    alarms: float
    fixed_held: float
    fixed_saved: float

    def misses(self) -> list[str]:
        """Which of the aims of the net loss it falls short of."""
        found = []
        if self.held_limit < LEAST_HELD:
            found.append(f"held {self.held_limit:.1%}")
        if self.most_audited > MOST_AUDITED:
            found.append(f"audited {self.most_audited:.1%}")
        if self.saved < LEAST_SAVED.get(self.alpha, 0.0):
            found.append(f"saved {self.saved:.1%}")
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="JSON lines with both scores and a dataset")
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--alpha", type=float, nargs="+", default=[0.02, 0.05])
    parser.add_argument("--shift", nargs="+", choices=SHIFTS, default=list(SHIFTS))
    parser.add_argument("--loss", nargs="+", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--requests", type=int, default=30_000)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--worsening", type=float, default=0.1)
    parser.add_argument("--delta", type=float, default=FloorSettings().delta)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scores", type=Path, help="keeps the scores of the splits here: read where it is there")
    parser.add_argument("--json", type=Path, help="write the cells to this file")
    options = parser.parse_args()
    splits = _splits(options.data, options.splits, options.seed, options.scores)
    settings = FloorSettings(delta=options.delta).model_dump(exclude={"alpha"})
    print(f"{options.runs} runs of {options.requests} requests; {settings}\n{HEADER}")
    cells = []
    for loss in options.loss:
        for alpha in options.alpha:
            for shift in options.shift:
                cells.append(cell(splits, loss, alpha, shift, options))
                _print(cells[-1])
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in cells], indent=1))
    sys.exit(any(each.misses() for each in cells if each.loss == "net"))


def cell(splits: Sequence[Split], loss: Loss, alpha: float, shift: Shift, options: argparse.Namespace) -> Cell:
    """All runs of one kind; run r is on split r modulo their number."""
    settings = FloorSettings(alpha=alpha, delta=options.delta)
    fixed = [_fixed(split, loss, settings) for split in splits]
    runs = []
    for number in range(options.runs):
        at = number % len(splits)
        rng = np.random.default_rng([options.seed, number])
        stream = _stream(splits[at], shift, options.requests, options.worsening, rng)
        runs.append(run(stream, splits[at].calibration, loss, settings, fixed[at], rng))
    kept = sum(each.lost <= alpha for each in runs)
    return Cell(
        loss=loss,
        alpha=alpha,
        shift=shift,
        runs=len(runs),
        held=kept / len(runs),
        held_limit=binomial_lower(kept, len(runs), 0.05),
        lost=_mean(each.lost for each in runs),
        saved=_mean(each.saved for each in runs),
        student=_mean(each.student for each in runs),
        audited=_mean(each.audited for each in runs),
        most_audited=max(each.audited for each in runs),
        alarms=_mean(each.alarms for each in runs),
        fixed_held=_mean(each.fixed_lost <= alpha for each in runs),
        fixed_saved=_mean(each.fixed_saved for each in runs),
    )


def run(
    stream: Pool, calibration: Pool, loss: Loss, settings: FloorSettings, fixed: float, rng: np.random.Generator
) -> Run:
    """One stream through one floor; `fixed` is the threshold that is left alone."""
    lost, draws = stream.lost(loss), rng.random(len(stream.loss))
    bins = np.searchsorted(EDGES[1:-1], stream.loss, side="right")
    new = np.minimum((stream.novelty * NOVELTY_BINS).astype(np.int64), NOVELTY_BINS - 1)
    student, audited = np.zeros(len(lost), dtype=bool), np.zeros(len(lost), dtype=bool)
    floor = Floor(settings)
    floor.start(Start(calibration.loss, calibration.lost(loss), np.ones(len(calibration.loss))), 0.0)
    waiting: list[Audited] = []
    for begin in range(0, len(lost), STEP):
        step, now_s = slice(begin, begin + STEP), (begin + STEP) / REQUESTS_A_SECOND
        rate = floor.audit_rate
        student[step] = stream.loss[step] < floor.threshold
        audited[step] = draws[step] < rate
        floor.scored(_counts(bins[step], new[step], student[step]), now_s)
        floor.audited(waiting)
        waiting = [
            Audited(float(stream.loss[at]), float(lost[at]), rate, now_s, bool(student[at]))
            for at in begin + np.flatnonzero(audited[step])
        ]
    below = stream.loss < fixed
    return Run(
        lost=float((lost * student).mean()),
        student=float(student.mean()),
        saved=float((student & ~audited).mean()),
        audited=float(audited.mean()),
        alarms=sum(floor.status().rung.values()),
        fixed_lost=float((lost * below).mean()),
        fixed_saved=float(below.mean()),
    )


def _counts(bins: Ints, new: Ints, student: NDArray[np.bool_]) -> Scored:
    return Scored(
        np.bincount(bins, minlength=SCORE_BINS).tolist(),
        np.bincount(new, minlength=NOVELTY_BINS).tolist(),
        np.bincount(bins[student], minlength=SCORE_BINS).tolist(),
    )


def _fixed(split: Split, loss: Loss, settings: FloorSettings) -> float:
    pool = split.calibration
    return certified_threshold(
        pool.loss, pool.lost(loss), np.ones(len(pool.loss)), settings.alpha, settings.delta, EDGES[1:]
    )


def _stream(split: Split, shift: Shift, requests: int, worsening: float, rng: np.random.Generator) -> Pool:
    """Rows drawn with replacement, in the order in which they arrive."""
    time_ = np.arange(requests) / requests
    from_other = {
        "abrupt": time_ >= 0.5,
        "gradual": rng.random(requests) < np.clip(2 * time_ - 0.5, 0, 1),
    }.get(shift, np.zeros(requests, dtype=bool))
    first, other = split.first, split.other
    in_first, in_other = rng.integers(0, len(first.loss), requests), rng.integers(0, len(other.loss), requests)

    def drawn(of_first: Floats, of_other: Floats) -> Floats:
        return np.where(from_other, of_other[in_other], of_first[in_first])

    student = drawn(first.student, other.student)
    if shift == "silent":
        student = np.where((time_ >= 0.5) & (rng.random(requests) < worsening), 0.0, student)
    return Pool(
        drawn(first.loss, other.loss), drawn(first.novelty, other.novelty), drawn(first.teacher, other.teacher), student
    )


def _splits(files: Sequence[Path], count: int, seed: int, cache: Path | None) -> list[Split]:
    made_of = f"{count} splits, seed {seed}, {' '.join(map(str, files))}"
    if cache is not None and cache.exists():
        kept = np.load(cache)
        if kept["made_of"] != made_of:
            sys.exit(f"{cache} has the scores of {kept['made_of']}, not of {made_of}: remove it or name another file")
        return [_unpack(kept, number) for number in range(count)]
    found = []
    rows = read_tables(files)
    subjects = np.array([row.dataset for row in rows])
    examples = [row.example() for row in rows]
    for number in range(count):
        started = time.process_time()
        found.append(_split(examples, subjects, np.random.default_rng([seed, number])))
        print(f"split {number + 1} of {count}: {time.process_time() - started:.0f} s of CPU", file=sys.stderr)
    if cache is not None:
        arrays: dict[str, Any] = {name: values for at, split in enumerate(found) for name, values in _pack(split, at)}
        np.savez(cache, made_of=made_of, **arrays)
    return found


def _split(examples: Sequence[Example], subjects: NDArray[np.str_], rng: np.random.Generator) -> Split:
    """Subjects in random order are the first ones until half of the rows are theirs."""
    names = rng.permutation(np.unique(subjects))
    rows_so_far = np.cumsum([np.sum(subjects == name) for name in names])
    is_first = np.isin(subjects, names[: 1 + int(np.searchsorted(rows_so_far, len(subjects) / 2))])
    shuffled = rng.permutation(np.flatnonzero(is_first))
    training, apart = np.split(shuffled, [len(shuffled) // 2])
    model = train("difficulty", [_without_subject(examples[at]) for at in training])
    assert isinstance(model, DifficultyModel) and model.calibration_set is not None
    calibration = model.calibration_set

    def pool(places: Ints) -> Pool:
        queries = [_without_subject(examples[at]).query for at in places]
        return Pool(model.losses(queries), model.novelty(queries), *_scores(examples, places))

    return Split(
        Pool(calibration.loss, calibration.novelty, *_scores(examples, training)),
        pool(apart),
        pool(np.flatnonzero(~is_first)),
    )


def _without_subject(example: Example) -> Example:
    return replace(example, query=Query(last=example.query.last, whole=example.query.whole))


def _scores(examples: Sequence[Example], places: Ints) -> tuple[Floats, Floats]:
    return (
        np.array([examples[at].teacher for at in places], dtype=np.float64),
        np.array([examples[at].student for at in places], dtype=np.float64),
    )


def _pack(split: Split, number: int) -> Iterator[tuple[str, Floats]]:
    for part in ("calibration", "first", "other"):
        for name in ("loss", "novelty", "teacher", "student"):
            yield f"{number}.{part}.{name}", getattr(getattr(split, part), name)


def _unpack(kept: dict[str, Floats], number: int) -> Split:
    return Split(
        *(
            Pool(*(kept[f"{number}.{part}.{name}"] for name in ("loss", "novelty", "teacher", "student")))
            for part in ("calibration", "first", "other")
        )
    )


def _mean(values: Iterator[float] | Iterator[bool]) -> float:
    return float(np.mean(list(values)))


HEADER = (
    f"{'loss':5} {'alpha':>5} {'shift':8} {'held':>6} {'limit':>6} {'lost':>6} {'saved':>6} {'student':>7} "
    f"{'audited':>7} {'most':>6} {'alarms':>6} | fixed: {'held':>6} {'saved':>6}"
)


def _print(one: Cell) -> None:
    missed = f"  short: {', '.join(one.misses())}" if one.misses() else ""
    print(
        f"{one.loss:5} {one.alpha:5.1%} {one.shift:8} {one.held:6.1%} {one.held_limit:6.1%} {one.lost:6.2%} "
        f"{one.saved:6.1%} {one.student:7.1%} {one.audited:7.1%} {one.most_audited:6.1%} {one.alarms:6.2f} | "
        f"       {one.fixed_held:6.1%} {one.fixed_saved:6.1%}{missed}",
        flush=True,
    )


if __name__ == "__main__":
    main()
