"""Trained policies that cost no training: their file is `KIND VERSION`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from policies.gate.answer import StudentAnswer
from policies.learn.artifact import CalibrationSet
from policies.learn.trained import Score
from policies.query import Query
from router.trained.record import VersionRecord


@dataclass(frozen=True)
class Plain:
    """Expects the same loss of every request."""

    kind: str
    version: str
    loss: float = 0.5
    after: Literal["request", "sentence", "answer"] = "answer"
    report: Mapping[str, Any] = field(default_factory=dict)
    calibration_set: CalibrationSet | None = None

    def score(self, query: Query, answer: StudentAnswer | None = None) -> Score:
        return Score(self.loss)


def loads(data: bytes) -> Plain:
    """Raises ValueError for anything but `KIND VERSION`."""
    kind, _, version = data.decode().partition(" ")
    if not version:
        raise ValueError("it is no trained policy")
    return Plain(kind, version)


def record(version: str = "00000001", kind: str = "difficulty") -> VersionRecord:
    return VersionRecord(kind=kind, version=version, created=1_700_000_000.0, origin="train")
