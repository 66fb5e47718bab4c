"""The operating points of one policy: what each costs and loses, and the cheapest ones whose loss is certified.

A point is certified by fixed-sequence testing (Learn then Test: Angelopoulos et al. 2021, arXiv:2110.01052): thresholds
are tested from the safest on, in an order fixed before looking, and the first that fails ends the search. As the loss
only grows on the way, testing at the scores seen is testing everywhere. The certificate thus holds although the point
was chosen by the same requests; each level by itself. The interval printed beside it belongs to the point as if it had
been given. Requests of one conversation are alike, so that one of each is drawn for the test, and stands for them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policies.bounds import Floats, certifies, weighted_upper
from policies.learn.folds import one_of_each
from policies.replay.log import Logged, Outcome

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
MOST_DECIMALS = 12


@dataclass(frozen=True, slots=True)
class Choosable:
    """A request between its two ways. `score`: the expected loss, from which on the teacher answers; None: whatever
    the threshold is, it is answered as `teacher` says."""

    score: float | None
    student: Outcome
    teacher: Outcome

    def at(self, threshold: float) -> Outcome:
        return self.student if self.score is not None and self.score < threshold else self.teacher

    def split(self, student_share: float) -> Outcome:
        """Drawn at random, where there is something to choose."""
        share = 0.0 if self.score is None else student_share
        pairs = zip(
            (self.student.teacher, self.student.cost_usd, self.student.loss),
            (self.teacher.teacher, self.teacher.cost_usd, self.teacher.loss),
            strict=True,
        )
        return Outcome(*(share * student + (1 - share) * teacher for student, teacher in pairs))


def thresholds(requests: Sequence[Logged], choosable: Sequence[Choosable]) -> list[float]:
    """Those that give the student about `SHARES` of the requests; fewer where scores are equal."""
    weights = np.array([1 / each.probability for each in requests])
    scores = _scores(choosable)
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum()
    finite = int(np.isfinite(scores).sum())
    places = [min(int(np.searchsorted(reached, share)), finite - 1) for share in SHARES] if finite else []
    levels = np.unique(scores[order][places]) if places else np.array([])
    return [_above(scores, float(level)) for level in levels]


def certified_threshold(
    requests: Sequence[Logged], choosable: Sequence[Choosable], max_loss: float, delta: float
) -> float | None:
    """The threshold with the largest student share whose loss is at most `max_loss` with confidence 1 - `delta`.

    None where none is. Raises ValueError unless `max_loss` and `delta` lie between 0 and 1.
    """
    _check(max_loss, delta)
    chosen, probabilities = _one_of_each(requests)
    scores = _scores(choosable)
    student = np.array([choosable[place].student.loss for place in chosen])
    teacher = np.array([choosable[place].teacher.loss for place in chosen])  # what no threshold changes may lose too
    drawn = scores[chosen]
    levels = np.unique(drawn[np.isfinite(drawn)])
    low, high = -1, len(levels)
    while high - low > 1:
        middle = (low + high) // 2
        if certifies(np.where(drawn <= levels[middle], student, teacher), probabilities, max_loss, delta):
            low = middle
        else:
            high = middle
    return _above(drawn, float(levels[low])) if low >= 0 else None


def certified_share(
    requests: Sequence[Logged], choosable: Sequence[Choosable], max_loss: float, delta: float
) -> float | None:
    """The largest student share of a random split whose loss is at most `max_loss` with confidence 1 - `delta`.

    A share x loses x times what the student alone would. None where hardly anything is certified; raises ValueError as
    `certified_threshold`, and where the teacher's answers lose something, which no share takes away.
    """
    _check(max_loss, delta)
    if any(each.teacher.loss for each in choosable):
        raise ValueError("a share is certified only where the teacher loses nothing")
    chosen, probabilities = _one_of_each(requests)
    losses = np.array([choosable[place].split(1.0).loss for place in chosen])
    if not certifies(np.zeros_like(losses), probabilities, max_loss, delta):
        return None
    return float(np.floor(min(1.0, max_loss / weighted_upper(losses, probabilities, delta)) * 10_000) / 10_000)


def _one_of_each(requests: Sequence[Logged]) -> tuple[list[int], Floats]:
    """One request of each conversation, and its probability: that of its audit, and of being the one that is taken."""
    places, sizes = one_of_each([each.conversation for each in requests])
    probabilities = np.array([each.probability for each in requests])
    return places.tolist(), probabilities[places] / sizes


def _scores(choosable: Sequence[Choosable]) -> Floats:
    """Infinite where nothing is to be chosen."""
    return np.array([np.inf if each.score is None else each.score for each in choosable])


def _above(scores: Floats, level: float) -> float:
    """The shortest decimal threshold in [0, 1] above `level` that no other score lies below; 1 above a level of 1."""
    if level >= 1:
        return 1.0
    higher = scores[scores > level]
    limit = float(higher.min()) if len(higher) and np.isfinite(higher.min()) else 1.0
    for decimals in range(2, MOST_DECIMALS):
        rounded = round((level + limit) / 2, decimals)
        if level < rounded <= limit:
            return rounded
    return limit


def _check(max_loss: float, delta: float) -> None:
    if not (0 < max_loss < 1 and 0 < delta < 1):
        raise ValueError("max_loss and delta lie between 0 and 1")
