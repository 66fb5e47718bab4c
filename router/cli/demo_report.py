"""The demo's figures, from what the clients saw and what the gateway wrote: decision rows and audited pairs."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table

from policies.bounds import Interval, clopper_pearson
from policies.guards import MISFITS
from router.cli.demo_traffic import Sent
from router.evidence.read import Evidence
from router.evidence.records import PairRecord
from router.ledger.pricing import NANO_PER_USD
from router.record.row import DecisionRow
from router.report.period import Period
from router.report.ratio import ratios
from router.report.statement import Statement, TeacherOnly
from router.settings import Settings

AUDITS_S = 30.0
DELTA = 0.05


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `n` with a 95% Clopper-Pearson interval."""

    hits: int
    n: int

    @property
    def value(self) -> float | None:
        return self.hits / self.n if self.n else None

    def __str__(self) -> str:
        if not self.n:
            return "no audits yet"
        interval: Interval = clopper_pearson(self.hits, self.n, DELTA)
        return f"{self.hits / self.n:.1%} (n = {self.n}, 95%: {interval.low:.1%} to {interval.high:.1%})"


@dataclass(frozen=True, slots=True)
class Figures:
    """What the demo's table shows; money in nano-dollars."""

    requests: int
    answered: int
    by_student: int
    agreement: Share
    student_agreement: Share
    cost_nano: dict[str, int]
    teacher_only: TeacherOnly
    disagreements: int
    disagreements_served: int
    p50_ms: float
    p99_ms: float

    @property
    def total_nano(self) -> int:
        return sum(self.cost_nano.values())

    def as_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "answered": self.answered,
            "student_share": self.by_student / self.answered if self.answered else 0.0,
            "agreement": self.agreement.value,
            "audits": self.agreement.n,
            "cost_usd": self.total_nano / NANO_PER_USD,
            "teacher_only_cost_usd": self.teacher_only.nano / NANO_PER_USD,
            "net_savings_usd": (self.teacher_only.nano - self.total_nano) / NANO_PER_USD,
            "disagreements_logged": self.disagreements,
            "p50_ms": self.p50_ms,
            "p99_ms": self.p99_ms,
        }


def collect(settings: Settings, sent: list[Sent]) -> Figures:
    """Wait until the audits that were drawn are in, then add everything up."""
    rows, pairs = _settled(Evidence(settings), len(sent))
    compared = [pair for pair in pairs if pair.teacher.error is None]
    usable = [pair for pair in compared if pair.sample == "audit"]  # uniform: their share is the traffic's
    by_student = [pair for pair in usable if pair.served == "student"]
    agreeing = sum(pair.verdict.same for pair in by_student)
    cost: dict[str, int] = {}
    for row in rows:
        for origin, nano in row.c.items():
            cost[origin] = cost.get(origin, 0) + nano
    latencies = sorted(request.latency_ms for request in sent if request.answered) or [0.0]
    return Figures(
        requests=len(sent),
        answered=sum(request.answered for request in sent),
        by_student=sum(request.answered and request.model == "student" for request in sent),
        agreement=Share(len(usable) - len(by_student) + agreeing, len(usable)),
        student_agreement=Share(agreeing, len(by_student)),
        cost_nano=cost,
        teacher_only=_teacher_only(settings, rows, pairs),
        disagreements=sum(not pair.verdict.same for pair in compared),
        disagreements_served=sum(not pair.verdict.same for pair in compared if pair.served == "student"),
        p50_ms=_quantile(latencies, 0.5),
        p99_ms=_quantile(latencies, 0.99),
    )


def show(console: Console, figures: Figures) -> None:
    """The table. Money in micro-dollars: the models are tiny, and so are the sums."""
    table = Table(show_header=False, title="What happened", title_justify="left")
    total, alone = figures.total_nano, figures.teacher_only.nano
    origins = ", ".join(f"{origin} {nano / 1e3:,.1f}" for origin, nano in sorted(figures.cost_nano.items()))
    share = figures.by_student / figures.answered if figures.answered else 0.0
    for name, value in (
        ("requests", f"{figures.requests}, answered {figures.answered}"),
        ("served by the student", f"{share:.1%}"),
        ("agreement with the teacher, all answers", str(figures.agreement)),
        ("agreement where the student answered", str(figures.student_agreement)),
        ("cost of all origins", f"{total / 1e3:,.1f} µ$ ({origins})"),
        ("the teacher alone would have cost", f"{alone / 1e3:,.1f} µ$ ({_basis(figures.teacher_only)})"),
        ("net savings", f"{(alone - total) / 1e3:+,.1f} µ$ ({(alone - total) / alone:+.1%})" if alone else "none"),
        ("disagreements logged", f"{figures.disagreements}: {_caught(figures)}"),
        ("latency p50 / p99", f"{figures.p50_ms:.0f} / {figures.p99_ms:.0f} ms"),
    ):
        table.add_row(name, value)
    console.print(table)


def _teacher_only(settings: Settings, rows: list[DecisionRow], pairs: list[PairRecord]) -> TeacherOnly:
    """As `costs report` has it."""
    teachers = {name: route.teacher for name, route in settings.config.routes.items()}
    statement = Statement(Period(0.0, math.inf, ZoneInfo("UTC")), (), teachers)
    for row in rows:
        statement.add(row)
    return statement.total(ratios(pairs)).teacher_only


def _basis(alone: TeacherOnly) -> str:
    share = f"{alone.estimated_share:.0%} estimated"
    return share if alone.margin_nano is None else f"{share}; 95%: ± {alone.margin_nano / 1e3:,.1f}"


def _caught(figures: Figures) -> str:
    """A disagreement that the gate saw coming cost an escalation; one that was served is a loss."""
    caught = figures.disagreements - figures.disagreements_served
    return f"{caught} where the teacher answered anyway, {figures.disagreements_served} served"


def _settled(evidence: Evidence, requests: int) -> tuple[list[DecisionRow], list[PairRecord]]:
    """Rows and pairs once every request has its row and every drawn audit its pair, or after `AUDITS_S`."""
    deadline = time.monotonic() + AUDITS_S
    while True:
        rows, pairs = list(evidence.rows()), list(evidence.pairs())
        drawn = sum(row.au > 0 and row.o == "ok" and not row.fb and MISFITS.isdisjoint(row.g) for row in rows)
        served = sum(row.o != "shadow" for row in rows)
        if (served >= requests and len(pairs) >= drawn) or time.monotonic() > deadline:
            return rows, pairs
        time.sleep(0.1)


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
