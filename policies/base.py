"""The words every policy shares: a request's view, a decision, a gate, and the two protocols.

A policy sees a request through `RequestView` and answers with a `Decision`. It knows nothing of HTTP, prices or models.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict

Arm = Literal["teacher", "student"]


class RequestView(Protocol):
    """What a policy may look at. Everything that costs more than an attribute is a method."""

    @property
    def tenant(self) -> str:
        """The caller's tenant, '' without keys."""

    @property
    def prompt_bytes(self) -> int:
        """UTF-8 bytes of the prompt as it came (JSON syntax included): an upper bound of its tokens."""

    @property
    def needs(self) -> frozenset[str]:
        """Abilities that the request asks for: tools, json_schema, images, logprobs, n."""

    @property
    def output_tokens(self) -> int | None:
        """The output limit that the client set, in tokens; None without one."""

    def header(self, name: str) -> str | None:
        """A request header by its lower-case name."""

    def text(self) -> str:
        """The text of all messages, one a line."""

    def conversation(self) -> bytes:
        """What stays the same over the turns of one conversation (caller, system prompt, first user message)."""


class Gate(Protocol):
    """Accepts a student's answer or escalates it to the teacher."""

    @property
    def score_tokens(self) -> int:
        """How many tokens of the answer are looked at; a stream is held back until they are there."""

    def p_wrong(self, mean_logprob: float) -> float:
        """P(the student's answer is wrong), in [0, 1], given its mean token log-probability (nats)."""

    def escalates(self, p_wrong: float) -> bool:
        """Whether an answer with that probability of being wrong goes to the teacher."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Which arm answers, why, and with which probability the teacher was to be chosen (the propensity).

    With a `gate` the student answers first and `teacher_probability` is known only after the gate has spoken.
    """

    arm: Arm
    reason: str
    teacher_probability: float
    gate: Gate | None = None


class Policy(Protocol):
    """Decides for one route. `version` changes whenever its decisions could."""

    @property
    def kind(self) -> str:
        """The registry name."""

    @property
    def version(self) -> str:
        """A short digest of everything that the decisions depend on."""

    async def decide(self, request: RequestView) -> Decision:
        """The decision for one request; no I/O beyond what the policy itself was built with."""

    def at(self, point: float) -> Policy:
        """The same policy at another operating point (`auto@0.3`). ValueError where the kind has none."""


class PolicyConfig(BaseModel):
    """Base of every policy's configuration block; `kind` picks the implementation."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: str

    @property
    def threshold(self) -> float | None:
        """The number that a score is held against; None where the kind has none."""
        return None

    def version(self) -> str:
        """Eight hex digits over the block: equal configurations share a version."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]

    def build(self) -> Policy:
        """The policy that this block describes."""
        raise TypeError(f"{type(self).__name__} describes no policy")


def no_operating_point(kind: str) -> ValueError:
    """The error for `route@X` on a kind of policy without an operating point."""
    return ValueError(f"policy '{kind}' has no operating point; route@X works with: cascade")
