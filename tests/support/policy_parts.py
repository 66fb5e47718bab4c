"""What a policy is given, made up: a request, its route live, and what was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from policies.base import RequestView
from policies.control.stickiness import Kept
from policies.gate.answer import StudentAnswer
from policies.learn.artifact import CalibrationSet
from policies.learn.trained import Score
from policies.query import Query


@dataclass(frozen=True)
class Asked:
    """A request as policies see it: one message, which is the conversation too."""

    words: str = "hello"
    prompt_bytes: int = 10
    output_tokens: int | None = None
    tenant: str = ""
    needs: frozenset[str] = frozenset()
    headers: Mapping[str, str] = field(default_factory=dict)

    def header(self, name: str) -> str | None:
        return self.headers.get(name)

    def text(self) -> str:
        return self.words

    def conversation(self) -> bytes:
        return self.words.encode()

    def query(self, route: str) -> Query:
        return Query(last=self.words, whole=self.words, needs=self.needs, tenant=self.tenant, route=route)


@dataclass(frozen=True)
class StillRoute:
    """Nothing moves: the controllers say what they were made with. By default there are none, and all is free."""

    route: str = "auto"
    floor: float | None = None
    pace_usd: float | None = None
    extra_usd: float = 0.0
    teacher_usd: float = 0.0
    conversation: Kept | None = None

    def extra_cost_usd(self, request: RequestView) -> float:
        return self.extra_usd

    def teacher_cost_usd(self, request: RequestView) -> float:
        return self.teacher_usd

    def kept(self, request: RequestView) -> Kept | None:
        return self.conversation


@dataclass(frozen=True)
class Estimator:
    """Expects the same loss of everything, and remembers in `seen` what it was asked about."""

    loss: float = 0.5
    novelty: float = 0.25
    kind: str = "cascade"
    version: str = "abcd1234"
    after: Literal["request", "sentence", "answer"] = "answer"
    encoder: str = ""
    report: Mapping[str, Any] = field(default_factory=dict)
    calibration_set: CalibrationSet | None = None
    seen: list[tuple[Query, StudentAnswer | None]] = field(default_factory=list)

    def score(self, query: Query, answer: StudentAnswer | None = None) -> Score:
        self.seen.append((query, answer))
        return Score(self.loss, self.novelty)
