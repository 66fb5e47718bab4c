"""Pair records made by hand, for everything that reads evidence."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from policies.base import Arm
from router.evidence.batches import Record, batches
from router.evidence.records import ArmAnswer, PairRecord, Triage, VerdictRecord
from router.evidence.segment import Frame
from router.evidence.spool import Log, Spool
from router.evidence.streams import AGREEMENTS, DECISIONS, DISAGREEMENTS
from router.price_settings import Price
from router.record.row import VERSION, DecisionRow, encode_row
from router.settings import Model
from router.upstream.model import model_version

PRICES = {"teacher": Price(input=2, output=8), "student": Price(input=0.2, output=0.8)}
STUDENT_VERSION = model_version("student", Model(base_urls=("http://127.0.0.1/v1",), price=Price(input=0, output=0)))
MEGABYTE = 1024 * 1024


def pair(number: int, *, harm: bool = False, score: float | None = -0.1, served: Arm = "teacher") -> PairRecord:
    """`harm`: the student's answer differs, harmfully."""
    return PairRecord(
        id=f"{number:022x}",
        time=1_700_000_000.0 + number,
        endpoint="chat",
        route="auto",
        tenant="",
        policy="fixed",
        policy_version="1",
        reason="observe",
        served=served,
        teacher_probability=1.0,
        audit_probability=0.5,
        probability=0.5,
        teacher_version="t1",
        student_version=STUDENT_VERSION,
        triage=Triage(label="student_wrong", basis="second_draw") if harm else None,
        request={"model": "auto", "messages": [{"role": "user", "content": f"question {number}"}]},
        teacher=ArmAnswer(model="teacher", text="right", cost_nano_usd=1_000_000),
        student=ArmAnswer(model="student", text="wrong" if harm else "right", cost_nano_usd=1_000, mean_logprob=score),
        verdict=VerdictRecord(
            same=not harm,
            score=0.0 if harm else 1.0,
            harm=harm,
            kind="text" if harm else "same",
            diff="",
            comparator="label",
            version=1,
        ),
        prices=PRICES,
        training_use="allow",
        split="train",
    )


def row(number: int) -> DecisionRow:
    return DecisionRow(VERSION, f"{number:022x}", 1_700_000_000.0 + number, "chat", rt="auto", m="teacher", a="t", to=5)


def spool_pairs(folder: Path, pairs: Iterable[PairRecord], rows: Iterable[DecisionRow] = ()) -> None:
    """Write them where a gateway without Redis would have left them."""
    spool_records(
        folder,
        [
            *(
                Record(AGREEMENTS if p.verdict.same else DISAGREEMENTS, p.id, p.model_dump_json().encode())
                for p in pairs
            ),
            *(Record(DECISIONS, r.id, encode_row(r)) for r in rows),
        ],
    )


def spool_records(folder: Path, records: Iterable[Record]) -> None:
    """Leave a log as a process that ended before Redis took anything."""
    log = Log.create(Spool(folder, 64 * MEGABYTE))
    for number, batch in enumerate(batches(records, 1), 1):
        log.append([Frame(batch.shard, number, log.total + batch.count, 0.0, batch.records)])
    log.close()
