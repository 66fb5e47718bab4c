"""The words every policy shares: a request's view, what its route knows live, a decision, a gate, and the protocols.

A policy sees a request through `RequestView`, its route through `Live`, and answers with a `Decision`. It knows nothing
of HTTP, Redis or models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from policies.gate.answer import StudentAnswer
from policies.gate.asks import Asks
from policies.learn.trained import Score, Slots
from policies.query import Query

if TYPE_CHECKING:
    from policies.certify.floor import FloorSettings
    from policies.control.compose import Choice
    from policies.control.stickiness import Kept

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

    def query(self, route: str) -> Query:
        """What an estimator looks at; the same that is read from records of the request."""


class Live(Protocol):
    """What a route knows at this moment beside its configuration. Reading it costs no I/O."""

    @property
    def route(self) -> str:
        """The route's name."""

    @property
    def floor(self) -> float | None:
        """The certified threshold: from this expected loss on the teacher answers, 0 for all; None without a floor."""

    @property
    def pace_usd(self) -> float | None:
        """What a USD for the teacher must save, in expected loss; None without a pace."""

    def extra_cost_usd(self, request: RequestView) -> float:
        """What the teacher's answer is expected to cost beyond the student's."""

    def teacher_cost_usd(self, request: RequestView) -> float:
        """What the teacher's answer is expected to cost: what an escalation adds."""

    def kept(self, request: RequestView) -> Kept | None:
        """The conversation's model so far and what leaving it costs; None for a new one, or without stickiness."""


@dataclass(frozen=True, slots=True)
class GateNeeds:
    """What of an answer a gate looks at. A stream is held back until that is there, or its end.

    `tokens`: so many tokens; `sentence`: or the first sentence, whichever comes first; `whole`: the whole answer.
    `entropies`: alternatives are asked for with each token.
    """

    tokens: int
    sentence: bool = False
    whole: bool = False
    entropies: bool = False


class Gate(Protocol):
    """Accepts a student's answer or escalates it to the teacher."""

    @property
    def needs(self) -> GateNeeds:
        """What of the answer is looked at."""

    @property
    def asks(self) -> Asks:
        """What is asked beside the answer itself."""

    @property
    def reads_request(self) -> bool:
        """Whether `score` looks at the request; else its query may be an empty one."""

    def score(self, query: Query, answer: StudentAnswer) -> Score | None:
        """The expected loss of serving this answer; None where it shows nothing to judge it by."""

    def choose(self, loss: float, live: Live, teacher_cost_usd: float) -> Choice:
        """Whether an answer with that expected loss goes to the teacher, and which controller says so."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Which arm answers, why, and with which probability the teacher was to be chosen (the propensity).

    With a `gate` the student answers first and `teacher_probability` is known only after the gate has spoken.
    `score`: what the estimator said, `threshold`: what its loss was held against, in [0, 1] or above; None without.
    `switch_cost_usd`: what leaving the conversation's model costs, or would have cost; None for a new conversation.
    """

    arm: Arm
    reason: str
    teacher_probability: float
    gate: Gate | None = None
    score: Score | None = None
    threshold: float | None = None
    switch_cost_usd: float | None = None


class Policy(Protocol):
    """Decides for one route. `version` changes whenever its decisions could."""

    @property
    def kind(self) -> str:
        """The registry name."""

    @property
    def version(self) -> str:
        """A short digest of everything that the decisions depend on."""

    @property
    def scorer(self) -> str:
        """The version of what gives an expected loss, whatever that is held against; '' where nothing does."""

    async def decide(self, request: RequestView, live: Live) -> Decision:
        """The decision for one request; no I/O beyond what the policy itself was built with."""

    def at(self, point: float) -> Policy:
        """The same policy at another operating point (`auto@0.3`). ValueError where the kind has none."""


MEMBERS = ("kind", "version", "scorer", "decide", "at")
"""Of a `Policy`."""


@dataclass(frozen=True, slots=True)
class Controls:
    """What a policy holds expected losses against: its own `threshold`, a budget to keep pace with, a certified floor.

    `sticks`: whether a conversation may keep its model where these would have changed it.
    """

    threshold: float | None = None
    pace: str | None = None
    floor: FloorSettings | None = None
    sticks: bool = False


class PolicyConfig(BaseModel):
    """Base of every policy's configuration block; `kind` picks the implementation.

    `point`: the key with the number that `policy tune` may walk; None where there is none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    point: ClassVar[str | None] = None
    kind: str

    def version(self, without: Collection[str] = ()) -> str:
        """Eight hex digits over the block: equal configurations share a version. `without` these of its keys."""
        return hashlib.sha256(self.model_dump_json(exclude=set(without)).encode()).hexdigest()[:8]

    def controls(self) -> Controls:
        """What has to be controlled over all workers for this policy; nothing for most."""
        return Controls()

    def asks(self) -> Asks:
        """What its gate asks beside the student's own answer; nothing for most."""
        return Asks()

    def trained_for(self, route: str) -> str | None:
        """The name of the trained policy that it follows on this route; None where nothing is learned."""
        return None

    def training_options(self) -> Mapping[str, Any]:
        """What its learner must know of it to learn from what it will see."""
        return {}

    def build(self, route: str, slots: Slots) -> Policy:
        """The policy that this block describes, for one route; '' where it is only named.

        What it learned is read from its slot at each decision, so that a promotion needs no new policy.
        """
        raise TypeError(f"{type(self).__name__} describes no policy")


def no_operating_point(kind: str) -> ValueError:
    """The error for `route@X` on a kind of policy without an operating point."""
    return ValueError(f"policy '{kind}' has no operating point; route@X works with: cascade, difficulty")


def require_point(point: float) -> None:
    """ValueError for an operating point that is no expected loss."""
    if not 0 <= point <= 1:
        raise ValueError(f"operating point {point:g} is outside [0, 1]")
