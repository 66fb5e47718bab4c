"""`split`: a random share to the student, with its propensity; a conversation keeps its arm.

The draw is a keyed hash of the conversation, so that all turns and all workers agree without shared state. Over
conversations it is uniform, hence P(teacher) = 1 - student_share is the propensity of every request.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from hashlib import blake2b
from typing import ClassVar, Literal

from pydantic import Field

from policies.base import Decision, Live, Policy, PolicyConfig, RequestView, no_operating_point
from policies.learn.trained import Slots


@dataclass(frozen=True, slots=True)
class Split:
    student_share: float
    sticky: bool
    version: str
    student: Decision
    teacher: Decision
    kind: str = "split"
    scorer: str = ""

    async def decide(self, request: RequestView, live: Live) -> Decision:
        draw = self._uniform(request.conversation()) if self.sticky else random.random()
        return self.student if draw < self.student_share else self.teacher

    def at(self, point: float) -> Policy:
        raise no_operating_point(self.kind)

    def _uniform(self, conversation: bytes) -> float:
        digest = blake2b(conversation, digest_size=8, key=b"distill-router split").digest()
        return (int.from_bytes(digest, "big") >> 11) / 2**53  # exact, and below 1


class SplitConfig(PolicyConfig):
    """`{kind: split, student_share: 0.5}`; `sticky: false` draws anew for every request."""

    point: ClassVar[str | None] = "student_share"
    kind: Literal["split"]
    student_share: float = Field(ge=0, le=1)
    sticky: bool = True

    def build(self, route: str, slots: Slots) -> Policy:
        teacher_probability = 1.0 - self.student_share
        return Split(
            self.student_share,
            self.sticky,
            self.version(),
            Decision("student", "split", teacher_probability),
            Decision("teacher", "split", teacher_probability),
        )
