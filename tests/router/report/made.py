"""Decision rows and Redis' hourly sums made by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import redis
from hypothesis import strategies as st

from policies.base import Arm
from router.evidence.records import ArmAnswer, PairRecord, Tokens
from router.evidence.streams import DECISIONS, shard_key
from router.ledger.names import HOUR_S, TEACHER_ONLY, hour_field, hour_key
from router.record.row import VERSION, DecisionRow, RowCharge, encode_row
from tests.support.pairs import pair

DAY_S = 86_400
START = 1_795_392_000.0  # 2026-11-23 00:00 UTC
TEACHERS = {"auto": "teacher", "half": "teacher"}


def served(number: int, at: float, arm: Arm = "student", *, route: str = "auto", tenant: str = "acme") -> DecisionRow:
    """A request that was answered by `arm`: 100 + 10 tokens; the teacher costs ten times as much."""
    nano = 28_000 if arm == "student" else 280_000
    charge = RowCharge("serve", arm, nano, 100, 0, 10)
    return DecisionRow(
        VERSION, f"{number:022x}", at, "chat", rt=route, tn=tenant, k="ci", a=arm[0], m=arm, ch=[charge], to=280_000
    )


def shadow(number: int, at: float) -> DecisionRow:
    """The audit of a student's answer."""
    charge = RowCharge("shadow", "teacher", 300_000, 100, 0, 12)
    return DecisionRow(
        VERSION, f"{number:022x}.shadow", at, "chat", rt="auto", tn="acme", k="ci", m="teacher", ch=[charge], o="shadow"
    )


def audited(number: int, at: float, teacher_nano: int = 300_000, probability: float = 0.5) -> PairRecord:
    """A pair whose student answer was served; its usage costs 280,000 nano-USD at the teacher's prices."""
    plain = pair(number, served="student")
    student = ArmAnswer(model="student", text="right", tokens=Tokens(input=100, output=10), cost_nano_usd=28_000)
    teacher = ArmAnswer(model="teacher", text="right", cost_nano_usd=teacher_nano)
    change = {"time": at, "student": student, "teacher": teacher, "probability": probability}
    return plain.model_copy(update=change)


def sums_of(rows: Iterable[DecisionRow], worker: str = "") -> dict[int, dict[str, int]]:
    """As the ledger adds them up: by hour and field."""
    sums: dict[int, dict[str, int]] = {}
    for row in rows:
        hour = sums.setdefault(int(row.t) // HOUR_S * HOUR_S, {})
        amounts = [(charge.model, charge.origin, charge.nano) for charge in row.ch]
        for model, origin, nano in [*amounts, ("", TEACHER_ONLY, row.to)]:
            field = hour_field(worker, row.rt, row.tn, row.k, model, origin)
            hour[field] = hour.get(field, 0) + nano
    return sums


def keep(url: str, rows: Sequence[DecisionRow], *, workers: int = 2) -> None:
    """Rows into the stream (written when they happened), and into the sums of several workers."""
    with redis.Redis.from_url(url) as client:
        for number, row in enumerate(sorted(rows, key=lambda row: row.t)):
            client.execute_command(
                "XADD", shard_key(0, DECISIONS), f"{int(row.t * 1000)}-{number}", "r", encode_row(row)
            )
        for worker in range(workers):
            for hour, fields in sums_of(rows[worker::workers], f"w{worker}").items():
                client.hset(hour_key(hour), mapping=fields)


CHARGES = st.builds(
    RowCharge,
    st.sampled_from(["serve", "escalation", "gate", "shadow", "retry", "cancelled"]),
    st.sampled_from(["teacher", "student"]),
    st.integers(0, 10**12),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 1),
)
ROWS = st.lists(
    st.builds(
        DecisionRow,
        st.just(VERSION),
        st.just(""),
        st.floats(START - DAY_S, START + 3 * DAY_S),
        st.just("chat"),
        rt=st.sampled_from(["", "auto", "half"]),
        tn=st.sampled_from(["", "acme"]),
        k=st.sampled_from(["", "ci"]),
        a=st.sampled_from(["", "t", "s"]),
        ch=st.lists(CHARGES, max_size=3),
        to=st.integers(0, 10**12),
        o=st.sampled_from(["ok", "shadow", "cancelled", "rejected"]),
    ),
    max_size=30,
)
