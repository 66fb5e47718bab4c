"""Logs of audited pairs and of decisions, made by hand, and the commands that judge a candidate by them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner, Result

from policies.base import Arm
from router.cli import app
from router.evidence.records import PairRecord
from router.record.row import VERSION, DecisionRow, RowCharge, encode_row
from tests.support.gateway import two_models
from tests.support.pairs import STUDENT_VERSION, pair

TEACHER_NANO, STUDENT_NANO = 1_000_000, 1_000
TEACHER, STUDENT = {"kind": "fixed", "model": "teacher"}, {"kind": "fixed", "model": "student"}
T0 = 1_700_000_000.0
Json = dict[str, Any]


def run(command: str, config: Path, log: str | Path, *arguments: str | Path) -> Result:
    """`policy replay` or `policy tune`; `log`: where it is read from."""
    words = ["policy", command, "--config", config, "--from", log, *arguments]
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


def told(command: str, config: Path, log: str | Path, *arguments: str | Path) -> Json:
    done = run(command, config, log, *arguments, "--json")
    assert done.exit_code == 0, done.output
    found: Json = json.loads(done.stdout)
    return found


def configured(folder: Path, policy: Json, *, redis: str | None = None, **route: Any) -> Path:
    path = folder / "candidate.yaml"
    top: Json = {"evidence": {"spool_dir": str(folder / "spool")}} | ({"redis": redis} if redis else {})
    path.write_text(yaml.safe_dump(two_models("http://t/v1", "http://s/v1", policy=policy, route=route, **top)))
    return path


def asked(record: PairRecord, **request: Any) -> PairRecord:
    return record.model_copy(update={"request": {**record.request, **request}})


def lines(path: Path, records: Iterable[PairRecord]) -> Path:
    path.write_text("".join(f"{record.model_dump_json()}\n" for record in records))
    return path


def replayed(folder: Path, policy: Json, records: Iterable[PairRecord]) -> Json:
    """What `policy replay` tells of a policy by these pairs."""
    return told("replay", configured(folder, policy), lines(folder / "pairs.jsonl", records))


def row(number: int, arm: Arm, probability: float, drawn: bool = False, **more: Any) -> DecisionRow:
    nano = TEACHER_NANO if arm == "teacher" else STUDENT_NANO
    return DecisionRow(
        VERSION,
        f"{number:022x}",
        T0 + number,
        "chat",
        rt="auto",
        f=(more.pop("prompt_bytes", 50), []),
        p=probability,
        a=arm[0],
        m=arm,
        r="split",
        ch=[RowCharge("serve", arm, nano)],
        sv=STUDENT_VERSION,
        au=0.5 if drawn else 0.0,
        **more,
    )


def rows(path: Path, written: Iterable[DecisionRow]) -> Path:
    path.write_bytes(b"".join(encode_row(each) + b"\n" for each in written))
    return path


def hundred(**more: Any) -> list[PairRecord]:
    """Of each five the student's answer to one is harmful."""
    return [pair(number, harm=number % 5 == 0, **more) for number in range(100)]


def difficult(number: int, split: str = "test") -> PairRecord:
    """Proofs are hard for the student."""
    hard = number % 3 == 0
    record = asked(
        pair(number, harm=hard), messages=[{"role": "user", "content": "prove it" if hard else f"say {number}"}]
    )
    return record.model_copy(update={"split": split})
