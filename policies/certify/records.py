"""What a floor is told and what it says: audited pairs, counts of requests, alarms and the status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from policies.bounds import Floats

Phase = Literal["calibrating", "certified", "alarm"]
AlarmKind = Literal["scores", "audits", "silence"]
ALARMS: tuple[AlarmKind, ...] = ("scores", "audits", "silence")


@dataclass(frozen=True, slots=True)
class Audited:
    """A pair of the uniform audit. `harm`: what the student's answer loses beside the teacher's, in [-1, 1].

    `probability` of having been audited; `student`: its answer was the one served; `time_s` of the request.
    """

    score: float
    harm: float
    probability: float
    time_s: float
    student: bool


@dataclass(frozen=True, slots=True)
class Scored:
    """Requests since the last call: of all, counts by `score_bin` and by `novelty_bin`; of those that the student
    served, counts by `score_bin`. `uncovered`: beside them, requests that the student served where no audit could tell.
    """

    scores: Sequence[int]
    novelties: Sequence[int]
    student: Sequence[int]
    uncovered: int = 0


class Calibration(Protocol):
    """Out-of-sample pairs of another time: expected losses, harms and weights 1/probability, each of shape (n,)."""

    @property
    def loss(self) -> Floats: ...
    @property
    def harm(self) -> Floats: ...
    @property
    def weight(self) -> Floats: ...


@dataclass(frozen=True, slots=True)
class Alarm:
    """`kind`: scores (their distribution or that of the novelties moved), audits (they lose more than expected),
    silence (no audit has come back)."""

    time_s: float
    kind: AlarmKind
    why: str


@dataclass(frozen=True, slots=True)
class FloorStatus:
    """What is known now. Losses and shares are of all traffic since the promise began, and so is `upper_bound`.

    `allowed`: the loss that the threshold is set for now; `requests` and `audits` are counts. `uncovered`: requests
    beside all this, which the student served where no audit could tell. `alarms`: the last ones; `rung`: how many of
    each kind so far.
    """

    phase: Phase
    threshold: float
    audit_rate: float
    requests: int
    audits: int
    student_share: float
    loss_estimate: float
    upper_bound: float
    allowed: float
    alarms: tuple[Alarm, ...]
    rung: Mapping[AlarmKind, int]
    uncovered: int
    why: str
