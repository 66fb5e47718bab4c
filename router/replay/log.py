"""What is replayed: a route's pairs and decision rows, from Redis, archives and files. Blocking."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import msgspec

from policies.guards import MISFITS
from policies.replay.log import Decided, Logged, Outcome
from router.errors import ConfigError
from router.evidence.archive.source import sources
from router.evidence.records import PairRecord
from router.json_lines import first_line, numbered_lines
from router.ledger.pricing import NANO_PER_USD
from router.lossmap.outcome import is_loss
from router.prompt import read_prompt
from router.record.row import DecisionRow, decode_row
from router.report.period import parse_period
from router.settings import Settings
from router.trained.examples import HELD_BACK, Served, conversation_of, says_nothing
from router.trained.sources import REDIS, is_archive, read_pairs

HELD_BACK_SHARE = 0.1  # of the conversations; see `router.evidence.records.split_of`
FALLBACK = "fallback:"
TURNS_APART_S = 3600.0  # at most, between two audited turns of one conversation


@dataclass(frozen=True, slots=True)
class Log:
    """Of one route and student version. `pairs`: oldest first, those whose teacher answered; `rows`: of requests.

    `left_out`: pairs that are not used, by reason.
    """

    pairs: list[PairRecord]
    rows: list[DecisionRow]
    left_out: Mapping[str, int]


def read_log(settings: Settings, named: Sequence[str], served: Served, since: str) -> Log:
    """Everything in what is named: `redis`, archives (read with what Redis holds) and files of pairs or of rows.

    `since`: of Redis and archives; files are read whole. Raises ConfigError for what cannot be read.
    """
    if not named:
        raise ConfigError("--from: nothing to replay; expected redis, an archive, or a file of pairs; repeatable")
    archives = [name for name in named if name != REDIS and is_archive(name)]
    files = [Path(name) for name in named if name != REDIS and name not in archives]
    of_rows = [path for path in files if _holds_rows(path)]
    pairs = [pair for path in files if path not in of_rows for pair in read_pairs(path)]
    rows = [row for path in of_rows for row in _read_rows(path)]
    if REDIS in named or archives:
        period = parse_period(since, None, "UTC", time.time())
        source = sources(settings, archives)
        pairs += [pair for pair in source.pairs(since=period.start) if pair.time in period]
        rows += [row for row in source.rows(period.start) if row.t in period]
    left_out: Counter[str] = Counter()
    used = list(_usable({pair.id: pair for pair in pairs}.values(), served, left_out))
    ours = [row for row in {row.id: row for row in rows}.values() if row.rt == served.route]
    return Log(sorted(used, key=lambda pair: (pair.time, pair.id)), sorted(ours, key=lambda row: row.t), dict(left_out))


def unseen(pairs: Iterable[PairRecord], until: float) -> tuple[list[PairRecord], dict[str, float]]:
    """Those that a policy trained on pairs up to `until` (Unix time) has not learned from, and each one's probability.

    Later ones, and of the earlier ones the conversations that are always held back: a tenth, which counts tenfold.
    """
    kept = [pair for pair in pairs if pair.time > until or pair.split == HELD_BACK]
    return kept, {pair.id: pair.probability * (1.0 if pair.time > until else HELD_BACK_SHARE) for pair in kept}


def conversations(pairs: Sequence[PairRecord]) -> list[str]:
    """The conversation of each pair; `pairs`: oldest first.

    Turns of one conversation open alike and follow each other within `TURNS_APART_S`. An opening that never had a
    second turn is a question that many ask: each request is a conversation of its own.
    """
    openings = [conversation_of(pair) for pair in pairs]
    prompts = [read_prompt(pair.request, pair.endpoint) for pair in pairs]
    goes_on = {opening for opening, prompt in zip(openings, prompts, strict=True) if prompt.turns > 1}
    latest: dict[str, tuple[float, str]] = {}
    names = []
    for opening, pair in zip(openings, pairs, strict=True):
        name = pair.id
        if opening in goes_on:
            before, known = latest.get(opening, (-inf, ""))
            name = known if pair.time - before <= TURNS_APART_S else pair.id
            latest[opening] = pair.time, name
        names.append(name)
    return names


def logged(record: PairRecord, conversation: str, probability: float, *, rescued: bool) -> Logged:
    """A pair as a replay sees it. `probability`: of being there; `rescued`: the teacher answers where the student
    fails."""
    return Logged(
        id=record.id,
        conversation=conversation,
        time=record.time,
        probability=probability,
        harm=float(is_loss(record)),
        teacher_cost_usd=record.teacher.cost_nano_usd / NANO_PER_USD,
        student_cost_usd=record.student.cost_nano_usd / NANO_PER_USD,
        student_failed=record.student.error is not None,
        rescued=rescued,
    )


def happened(record: PairRecord, request: Logged) -> Outcome:
    """What became of it; an expectation where the logged policy drew its arm."""
    if record.reason.startswith(FALLBACK):
        return replace(request, student_failed=True, rescued=record.served == "teacher").routed(0.0)
    if record.reason.partition(":")[0] == "escalated":
        return request.escalated(request.student_cost_usd)
    return request.routed(record.teacher_probability)


def decided(row: DecisionRow, candidate: float | None) -> Decided:
    """A row's decision. The arm is the chosen one, also where the other answered after a failure."""
    arm = row.r.removeprefix(FALLBACK) if row.r.startswith(FALLBACK) else row.a
    return Decided(
        time=row.t,
        arm="teacher" if arm in ("t", "teacher") else "student",
        teacher_probability=row.p,
        cost_usd=sum(charge.nano for charge in row.ch) / NANO_PER_USD,
        candidate=candidate,
    )


def routed_rows(rows: Iterable[DecisionRow], served: Served) -> list[DecisionRow]:
    """The requests that audits are drawn from: answered, by the route's own policy, and fit for the student."""
    return [
        row
        for row in rows
        if row.o == "ok"
        and row.a
        and not (row.fo or row.ns)
        and row.sv in ("", served.student_version)
        and MISFITS.isdisjoint(row.g)
    ]


def _usable(pairs: Iterable[PairRecord], served: Served, left_out: Counter[str]) -> Iterator[PairRecord]:
    for pair in pairs:
        if pair.route != served.route:
            continue
        reason = says_nothing(pair, served)
        if reason:
            left_out[reason] += 1
        else:
            yield pair


def _read_rows(path: Path) -> Iterator[DecisionRow]:
    """Decision rows, one JSON object a line. Raises ConfigError."""
    for number, line in numbered_lines(path):
        try:
            yield decode_row(line)
        except msgspec.DecodeError as error:
            raise ConfigError(f"{path}: line {number}: no decision row: {error}") from None


def _holds_rows(path: Path) -> bool:
    """Whether the first line is a decision row; who reads a file that is neither says what is wrong with it."""
    try:
        decode_row(first_line(path))
    except msgspec.DecodeError:
        return False
    return True
