"""Traffic with a known loss, sent through a floor as a gateway does: in steps, audits a step late."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from policies.bounds import Floats
from policies.certify.bins import EDGES, NOVELTY_BINS, SCORE_BINS
from policies.certify.floor import Audited, Floor, Scored

STEP = 100


@dataclass(frozen=True, slots=True)
class Requests:
    """One step's: scores, novelties and losses, each of shape (n,)."""

    scores: Floats
    novelties: Floats
    losses: Floats


@dataclass(slots=True)
class Course:
    """What became of the traffic: per step the share of the student and the phase; the totals."""

    student: list[float] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    thresholds: list[float] = field(default_factory=list)
    requests: int = 0
    audits: int = 0
    lost: float = 0.0

    @property
    def loss(self) -> float:
        return self.lost / self.requests


def requests(
    rng: np.random.Generator, harm: float = 1.0, novelty: tuple[float, float] = (2.0, 5.0), size: int = STEP
) -> Requests:
    """Scores between 0 and 0.3, which are the probabilities of a loss, times `harm`."""
    scores = 0.3 * rng.beta(2.0, 2.0, size)
    return Requests(scores, rng.beta(*novelty, size), (rng.random(size) < harm * scores).astype(float))


def counts(of: Requests, student: np.ndarray) -> Scored:
    bins = np.searchsorted(EDGES[1:-1], of.scores, side="right")
    novelties = np.minimum((of.novelties * NOVELTY_BINS).astype(int), NOVELTY_BINS - 1)
    return Scored(
        np.bincount(bins, minlength=SCORE_BINS).tolist(),
        np.bincount(novelties, minlength=NOVELTY_BINS).tolist(),
        np.bincount(bins[student], minlength=SCORE_BINS).tolist(),
    )


def drive(
    floor: Floor,
    steps: int,
    make: Callable[[int], Requests],
    rng: np.random.Generator,
    begin: int = 0,
    answered: bool = True,
) -> Course:
    """Steps `begin` to `begin + steps` through the floor, a second each. Not `answered`: no audit comes back."""
    course = Course()
    waiting: list[Audited] = []
    for step in range(begin, begin + steps):
        of, rate, threshold = make(step), floor.audit_rate, floor.threshold
        student = of.scores < threshold
        audited = rng.random(len(student)) < rate
        course.student.append(float(student.mean()))
        course.thresholds.append(threshold)
        course.requests += len(student)
        course.audits += int(audited.sum())
        course.lost += float(of.losses @ student)
        floor.scored(counts(of, student), float(step))
        floor.audited(waiting)
        waiting = [
            Audited(float(s), float(x), rate, float(step), bool(by))
            for s, x, by in zip(of.scores[audited], of.losses[audited], student[audited], strict=True)
            if answered
        ]
        course.phases.append(floor.phase)
    return course
