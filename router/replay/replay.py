"""A candidate policy on the log of its route: from settings and a log to figures with intervals."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from policies.base import Policy
from policies.guards import Fit
from policies.replay.compare import Known, Replay, compare
from policies.replay.estimate import Population, time_blocks
from policies.replay.log import Logged, Outcome
from policies.replay.randomised import RandomisedCost, randomised_cost
from policies.replay.support import NoSupport, require_pairs, supported
from router.complaints import POLICY_ERROR
from router.errors import BadRequest
from router.evidence.records import PairRecord
from router.lossmap.traffic import Traffic, traffic_of
from router.record.row import DecisionRow
from router.replay import features
from router.replay.candidate import Candidate, Decided, notes_on, probability
from router.replay.log import Log, conversations, decided, happened, logged, routed_rows, unseen
from router.settings import Route, Settings
from router.trained.examples import served_on

MOST_MISSING = 0.05  # of the pairs of audited requests, before it is said
MATCHED = 0.95  # of the pairs that have their row, or nothing is estimated from the rows
ROUNDED_S = 0.001  # the time of a row
GUARDS_OF_THE_MOMENT = ("down:", "budget:", POLICY_ERROR)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A log as a candidate is judged on it. `requests`, `logged` and `decided` have one order.

    `rows`: the requests that audits are drawn from; `chances`: the candidate's P(teacher) for each of them, None where
    a row does not tell. `population`: None where there are no rows for the audited requests.
    """

    route: str
    policy: Policy
    requests: list[Logged]
    logged: list[Outcome]
    decided: list[Decided]
    rows: list[DecisionRow]
    chances: list[float | None]
    population: Population | None
    traffic: Traffic
    left_out: Mapping[str, int]
    notes: list[str]
    audit_rate: float

    @property
    def known(self) -> Known:
        """What the rows tell of every request."""
        if not self.rows:
            return Known()
        told = [chance for chance in self.chances if chance is not None]
        logged = sum(row.p if 0 < row.p < 1 else row.a == "t" for row in self.rows) / len(self.rows)
        return Known(sum(told) / len(told) if len(told) == len(self.rows) else None, logged)


@dataclass(frozen=True, slots=True)
class Replayed:
    """`audited`: by requests of which both answers were seen; `randomised`: by decisions that were drawn at random.

    One of them may be None, and then `why_no_audited` or `why_no_randomised` says why.
    """

    audited: Replay | None
    randomised: RandomisedCost | None
    why_no_audited: str
    why_no_randomised: str


def prepare(settings: Settings, route: str, policy: Policy, log: Log, until: float) -> Prepared:
    """Let the candidate `policy` decide every audited request anew.

    `until`: up to when it may have learned from the log, Unix time. Raises NoSupport where the log does not hold what
    it looks at.
    """
    config, served = settings.config.routes[route], served_on(settings, route)
    floor = config.policy.controls().floor
    pairs, probabilities = unseen(log.pairs, until)
    rescued = config.fallback.student == "teacher"
    requests = [
        logged(pair, conversation, probabilities[pair.id], rescued=rescued)
        for pair, conversation in zip(pairs, conversations(pairs), strict=True)
    ]
    answers = asyncio.run(_decide_all(Candidate(route, policy, _fit(settings, config)), pairs, requests))
    used = [place for place, answer in enumerate(answers) if answer is not None]
    since = pairs[0].time - ROUNDED_S if pairs else -inf
    rows = [row for row in routed_rows(log.rows, served) if row.t >= since]
    return Prepared(
        route=route,
        policy=policy,
        requests=[requests[place] for place in used],
        logged=[happened(pairs[place], requests[place]) for place in used],
        decided=[answer for answer in answers if answer is not None],
        rows=rows,
        chances=asyncio.run(_probabilities(policy, route, rows)),
        population=_population([pairs[place].id for place in used], rows),
        traffic=traffic_of(log.rows, log.pairs),
        left_out=_counted(
            log.left_out,
            {
                "the policy learned from them": len(log.pairs) - len(pairs),
                "request cannot be read": len(pairs) - len(used),
            },
        ),
        notes=[*notes_on(config.policy), *_notes(config, log, rows)],
        audit_rate=max(config.audit.rate, floor.audit_rate if floor else 0.0),
    )


def replay(prepared: Prepared, fewest: int, delta: float) -> Replayed:
    """The figures, with intervals that fail with a probability of about `delta`.

    `fewest`: draws of equal weight that a figure needs. Raises NoSupport where the log says nothing at all.
    """
    audited, why_no_audited = _audited(prepared, fewest, delta)
    randomised, why_no_randomised = _randomised(prepared, fewest, delta)
    if audited is None and randomised is None:
        raise NoSupport(
            f"the log says nothing of this policy.\nAudited requests: {why_no_audited}.\nDecisions drawn at random: "
            f"{why_no_randomised}.\nAudits (`audit: {{rate: 0.02}}`) see both answers and support every policy; `kind: "
            "split` supports what a policy costs."
        )
    return Replayed(audited, randomised, why_no_audited, why_no_randomised)


def audits_usd(prepared: Prepared) -> float:
    """What auditing the candidate costs, USD per request: the arm that did not answer is asked too.

    At the rate of the route, or of its floor while it certifies, whichever is higher. An escalated request needs no
    further call. By the self-normalised mean; 0 without audited requests.
    """
    weights = [1 / each.probability for each in prepared.requests]
    if not weights:
        return 0.0
    both = zip(prepared.requests, prepared.decided, weights, strict=True)
    return (
        prepared.audit_rate * sum(weight * _other_usd(request, each) for request, each, weight in both) / sum(weights)
    )


def _other_usd(request: Logged, decided: Decided) -> float:
    teacher = decided.outcome.teacher
    student_usd = 0.0 if decided.gated and teacher else request.student_cost_usd
    return teacher * student_usd + (1 - teacher) * request.teacher_cost_usd


def require_audited(prepared: Prepared, fewest: int) -> None:
    """Raises NoSupport where the audited requests are worth less than `fewest` equally weighted ones."""
    require_pairs(np.array([1 / each.probability for each in prepared.requests]), fewest)


def _audited(prepared: Prepared, fewest: int, delta: float) -> tuple[Replay | None, str]:
    try:
        require_audited(prepared, fewest)
    except NoSupport as error:
        return None, str(error)
    candidate = [each.outcome for each in prepared.decided]
    return compare(prepared.requests, prepared.logged, candidate, delta, prepared.population, prepared.known), ""


def _randomised(prepared: Prepared, fewest: int, delta: float) -> tuple[RandomisedCost | None, str]:
    both = zip(prepared.rows, prepared.chances, strict=True)
    rows = [(row, decided(row, chance)) for row, chance in both if not _of_the_moment(row)]
    try:
        speaking = {id(each) for each in supported([each for _, each in rows])}
        kept = [(row, each) for row, each in rows if id(each) in speaking]
        known = features.before([row for row, _ in kept])
        return randomised_cost([each for _, each in kept], known, delta, fewest), ""
    except NoSupport as error:
        return None, str(error)


async def _decide_all(
    candidate: Candidate, pairs: Sequence[PairRecord], requests: Sequence[Logged]
) -> list[Decided | None]:
    """None for a request that cannot be read."""
    answers: list[Decided | None] = []
    for pair, request in zip(pairs, requests, strict=True):
        try:
            answers.append(await candidate.decide(pair, request))
        except BadRequest:
            answers.append(None)
    return answers


async def _probabilities(policy: Policy, route: str, rows: Sequence[DecisionRow]) -> list[float | None]:
    return [await probability(policy, route, row) for row in rows]


def _fit(settings: Settings, config: Route) -> Fit:
    student = settings.config.models[config.student]
    return Fit(frozenset(student.supports), student.context_tokens, student.max_output_tokens, student.bytes_per_token)


def _population(pairs: Sequence[str], rows: Sequence[DecisionRow]) -> Population | None:
    """`pairs`: ids. None unless nearly all of them have their row."""
    places = {row.id: place for place, row in enumerate(rows)}
    found = [(draw, places[name]) for draw, name in enumerate(pairs) if name in places]
    if not found or len(found) < MATCHED * len(pairs):
        return None
    draws, drawn = np.array(found, dtype=np.int64).T
    return Population(features.after(rows), time_blocks(len(rows)), draws, drawn)


def _counted(*parts: Mapping[str, int]) -> dict[str, int]:
    return {reason: count for part in parts for reason, count in part.items() if count}


def _notes(config: Route, log: Log, rows: Sequence[DecisionRow]) -> Iterator[str]:
    if config.mode == "observe":
        yield "the route is in mode observe: the figures are those of its policy in mode route"
    if log.pairs and not any(pair.verdict.same for pair in log.pairs):
        yield "every pair is a disagreement: without the agreements beside them a loss looks larger than it is"
    seen = {pair.id for pair in log.pairs}
    drawn = [row.id for row in rows if row.au]
    missing = sum(name not in seen for name in drawn)
    if missing > MOST_MISSING * len(drawn):
        yield (
            f"{missing} of {len(drawn)} requests that were drawn for an audit have no usable pair: if they differ "
            "from the rest, the figures are off"
        )


def _of_the_moment(row: DecisionRow) -> bool:
    """Whether something else than the policy decided."""
    return any(guard.startswith(GUARDS_OF_THE_MOMENT) for guard in row.g)
