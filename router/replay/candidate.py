"""What a candidate policy does with a logged request: its own `decide`, and its gate on the student's logged answer.

The controllers stand still: there is no pace, no certified floor and no kept conversation in a log that is a sample of
its requests. What the record does not hold (headers; further answers that a gate would ask for) is not guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import msgspec

from policies.base import Gate, Policy, PolicyConfig
from policies.cascade import SCORE_TOKENS
from policies.control.stickiness import Kept
from policies.gate.answer import StudentAnswer
from policies.guards import Fit
from policies.query import Query
from policies.replay.log import Logged, Outcome
from policies.replay.support import NoSupport
from router.auth import Caller
from router.evidence.records import ArmAnswer, PairRecord
from router.gate.seen import recorded
from router.ledger.pricing import NANO_PER_USD, Usage, price_list
from router.record.row import DecisionRow
from router.request import ClientRequest, Endpoint, parse_fields


class NotLogged(NoSupport):
    """The policy looks at something that the log does not keep."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What the candidate does with one request. `score`: the expected loss it decided by; None where there was none, or
    where the client chose the operating point.

    `gated`: the student is asked first, and costs `wasted_usd` where its answer is not served. `guarded`: the request
    does not fit the student.
    """

    outcome: Outcome
    score: float | None = None
    gated: bool = False
    wasted_usd: float = 0.0
    guarded: bool = False


@dataclass(frozen=True, slots=True)
class Still:
    """A route on which no controller moves. Costs are those of the logged answers."""

    route: str
    teacher_usd: float = 0.0
    student_usd: float = 0.0

    @property
    def floor(self) -> float | None:
        return None

    @property
    def pace_usd(self) -> float | None:
        return None

    def extra_cost_usd(self, request: object) -> float:
        return self.teacher_usd - self.student_usd

    def teacher_cost_usd(self, request: object) -> float:
        return self.teacher_usd

    def kept(self, request: object) -> Kept | None:
        return None


class LoggedRequest(ClientRequest):
    """A record's request as the gateway saw it, but for its headers, which are not kept."""

    __slots__ = ()

    def header(self, name: str) -> str | None:
        raise NotLogged(f"the candidate looks at the header '{name}', which no log keeps")


@dataclass(frozen=True, slots=True)
class RowView:
    """What a decision row keeps of a request. What it does not keep raises NotLogged."""

    row: DecisionRow

    @property
    def tenant(self) -> str:
        return self.row.tn

    @property
    def prompt_bytes(self) -> int:
        return self.row.f[0]

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(self.row.f[1])

    @property
    def output_tokens(self) -> int | None:
        raise NotLogged("a decision row keeps no output limit")

    def header(self, name: str) -> str | None:
        raise NotLogged(f"a decision row keeps no header '{name}'")

    def text(self) -> str:
        raise NotLogged("a decision row keeps no text")

    def conversation(self) -> bytes:
        """Of a draw by conversation only the probability counts, and that is the same for all of them."""
        return self.row.id.encode()

    def query(self, route: str) -> Query:
        raise NotLogged("a decision row keeps no text")


class Candidate:
    """One route's candidate. `fit`: what its student can take."""

    def __init__(self, route: str, policy: Policy, fit: Fit) -> None:
        self._route = route
        self._policy = policy
        self._fit = fit

    async def decide(self, record: PairRecord, logged: Logged) -> Decided:
        """What would have become of a logged request. Raises NoSupport where that cannot be told, and
        BadRequest for a request that cannot be read."""
        request = request_of(record)
        if self._fit.misfit(request) is not None:
            return Decided(logged.routed(1.0), guarded=True)
        live = Still(self._route, logged.teacher_cost_usd, logged.student_cost_usd)
        policy = self._at(request)
        decision = await policy.decide(request, live)
        if decision.gate is not None and decision.arm == "student":
            found = self._gated(record, logged, decision.gate, live, request)
        else:
            score = decision.score.loss if decision.score else None
            found = Decided(logged.routed(decision.teacher_probability), score)
        return found if policy is self._policy else replace(found, score=None)

    def _gated(self, record: PairRecord, logged: Logged, gate: Gate, live: Still, request: ClientRequest) -> Decided:
        if logged.student_failed:
            return Decided(logged.routed(0.0), gated=True)
        wasted_usd = _wasted_usd(record, gate)
        score = gate.score(request.query(self._route), _seen(record.student, gate))
        if score is None:  # as live: an answer that cannot be judged goes to the teacher
            return Decided(logged.escalated(wasted_usd), gated=True, wasted_usd=wasted_usd)
        choice = gate.choose(score.loss, live, live.teacher_usd)
        outcome = logged.escalated(wasted_usd) if choice.arm == "teacher" else logged.routed(0.0)
        return Decided(outcome, score.loss, gated=True, wasted_usd=wasted_usd)

    def _at(self, request: ClientRequest) -> Policy:
        """The operating point that the client asked for (`auto@0.3`), where the candidate has such points."""
        _, at, point = request.model.partition("@")
        if not at:
            return self._policy
        try:
            return self._policy.at(float(point))
        except ValueError:
            return self._policy


async def probability(policy: Policy, route: str, row: DecisionRow) -> float | None:
    """P(teacher) for a request of which only its row is known; None where that does not tell."""
    try:
        decision = await policy.decide(RowView(row), Still(route))
    except NotLogged:
        return None
    return None if decision.gate is not None else decision.teacher_probability


def request_of(record: PairRecord) -> LoggedRequest:
    """Raises BadRequest for a record whose request this program cannot read."""
    caller = Caller(record.key, record.tenant, None, frozenset(), True)
    body = msgspec.json.encode(record.request)
    return LoggedRequest(cast(Endpoint, record.endpoint), body, [], caller, parse_fields(body))


def require_replayable(config: PolicyConfig, *, tuned: bool) -> None:
    """Raises NoSupport for a policy that only a controller decides, as controllers stand still.

    `tuned`: its threshold is about to be chosen.
    """
    controls = config.controls()
    moving = [name for name in ("pace", "floor") if getattr(controls, name) is not None]
    if moving and controls.threshold is None and not tuned:
        raise NoSupport(
            f"`{moving[0]}` moves with the traffic and stands still in a replay: give a threshold for it to judge, "
            "or let `policy tune` try all of them"
        )


def notes_on(config: PolicyConfig) -> Iterator[str]:
    """What the replay of this policy leaves out."""
    controls = config.controls()
    for name in ("pace", "floor"):
        if getattr(controls, name) is not None:
            yield f"`{name}` stands still in a replay: these are the figures at the threshold alone"


def _seen(answer: ArmAnswer, gate: Gate) -> StudentAnswer:
    """What the gate sees of the answer. Raises NoSupport where the log does not hold that."""
    needs = gate.needs
    if gate.asks:
        raise NoSupport(
            "the gate asks for more than the answer (`agreement`, `checks`), and nobody asked when the log was "
            "written; leave that out"
        )
    partial = needs.sentence or needs.tokens not in (0, SCORE_TOKENS)
    if partial and answer.tokens.output > min(needs.tokens, SCORE_TOKENS):
        raise NoSupport(
            f"the gate looks at another part of an answer than its first {SCORE_TOKENS} tokens, of which the log keeps "
            f"the log-probabilities: set score_tokens to {SCORE_TOKENS}, and decide_after to tokens or answer"
        )
    return recorded(answer)


def _wasted_usd(record: PairRecord, gate: Gate) -> float:
    """What the student's answer costs where the teacher's is served: of a stream only what came before the gate spoke,
    elsewhere all of it. At most: a model that is cut off may have written a little more or less."""
    answer, needs = record.student, gate.needs
    price = record.prices.get(answer.model)
    if not record.stream or needs.whole or price is None or answer.tokens.output <= needs.tokens:
        return answer.cost_nano_usd / NANO_PER_USD
    tokens = answer.tokens
    usage = Usage(
        tokens.input,
        needs.tokens,
        tokens.cached_input,
        min(tokens.reasoning, needs.tokens),
        tokens.image_input,
        tokens.audio_input,
    )
    return min(answer.cost_nano_usd, price_list(price).cost(usage)) / NANO_PER_USD
