"""`disagreements label`: one pair by its id, or one after the other at a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from router.cli import app
from router.evidence.labels import MAX_NOTE
from router.evidence.read import Evidence
from router.evidence.records import LabelRecord, PairRecord, TriageLabel
from router.evidence.streams import AGREEMENTS, DISAGREEMENTS, LABELS, shard_key, shard_of
from router.settings import parse
from tests.router.evidence.conftest import RedisProcess
from tests.support.gateway import two_models
from tests.support.pairs import pair, spool_pairs

SHARDS = 3


@pytest.fixture
def config(tmp_path: Path, redis_process: RedisProcess) -> Path:
    redis_process.start()
    path = tmp_path / "router.yaml"
    evidence = {"spool_dir": str(tmp_path / "spool"), "shards": SHARDS}
    path.write_text(
        yaml.safe_dump(two_models("http://t/v1", "http://s/v1", evidence=evidence, redis=redis_process.url))
    )
    return path


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["disagreements", "label", "--config", str(config), *arguments])


def at_terminal(config: Path, typed: bytes, *arguments: str) -> str:
    """What the command shows to somebody who types this."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "router.cli", "disagreements", "label", "--config", str(config), *arguments]
    environ = {**os.environ, "COLUMNS": "100", "TERM": "dumb"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
    os.close(theirs)
    os.write(ours, typed)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux says that the other side is closed
        while piece := os.read(ours, 65_536):
            shown += piece
    os.close(ours)
    assert process.wait() == 0, shown
    return shown.decode()


def keep(redis_process: RedisProcess, *pairs: PairRecord) -> None:
    for record in pairs:
        stream = AGREEMENTS if record.verdict.same else DISAGREEMENTS
        key = shard_key(shard_of(record.id, SHARDS), stream)
        redis_process.call("XADD", key, "*", "r", record.model_dump_json())


def labels(config: Path) -> list[LabelRecord]:
    return list(Evidence(parse(config.read_text(), {})).labels())


def said(config: Path) -> dict[str, str]:
    return {label.id: label.label for label in labels(config)}


@pytest.mark.parametrize("label", ["student_wrong", "teacher_wrong", "equivalent", "ambiguous"])
def test_a_pair_is_labelled_by_its_id(config: Path, redis_process: RedisProcess, label: TriageLabel) -> None:
    keep(redis_process, pair(1), pair(2, harm=True))
    done = run(config, pair(2).id, label, "--note", "because", "--by", "eve")
    assert (done.exit_code, done.stdout) == (0, f"{pair(2).id}: {label}\n"), done.output
    (record,) = labels(config)
    assert (record.id, record.label, record.note, record.by, record.key) == (pair(2).id, label, "because", "eve", "")
    key = shard_key(shard_of(record.id, SHARDS), LABELS)
    assert redis_process.call("XLEN", key) == 1


def test_an_agreement_and_a_pair_in_the_spool_can_be_labelled(
    config: Path, redis_process: RedisProcess, tmp_path: Path
) -> None:
    keep(redis_process, pair(1))
    spool_pairs(tmp_path / "spool", [pair(2, harm=True)])
    for number in (1, 2):
        assert run(config, pair(number).id, "student_wrong").exit_code == 0
    assert said(config) == {pair(1).id: "student_wrong", pair(2).id: "student_wrong"}


@pytest.mark.parametrize(
    ("wrong", "words"), [("0" * 22, "is unknown"), ("x", "22 hex digits"), ("0" * 21 + "\x1b", "22 hex digits")]
)
def test_an_unknown_pair_is_an_error(config: Path, redis_process: RedisProcess, wrong: str, words: str) -> None:
    keep(redis_process, pair(1))
    done = run(config, wrong, "equivalent")
    assert done.exit_code == 2 and words in done.stderr and "\x1b" not in done.stderr
    assert not labels(config)


def test_asking_needs_a_terminal(config: Path) -> None:
    for arguments in ((), (pair(1).id,)):
        done = run(config, *arguments)
        assert done.exit_code == 2
        assert "label PAIR student_wrong|teacher_wrong|equivalent|ambiguous" in done.stderr


def test_a_note_has_an_end(config: Path, redis_process: RedisProcess) -> None:
    keep(redis_process, pair(1))
    done = run(config, pair(1).id, "equivalent", "--note", "x" * (MAX_NOTE + 1))
    assert done.exit_code == 2 and f"at most {MAX_NOTE}" in done.stderr


def test_without_redis_there_is_nowhere_to_keep_a_label(config: Path, redis_process: RedisProcess) -> None:
    redis_process.stop()
    done = run(config, pair(1).id, "equivalent")
    assert done.exit_code == 2 and "no answer" in done.stderr
    data = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**data, "redis": None}))
    done = run(config, pair(1).id, "equivalent")
    assert done.exit_code == 2 and "labels are kept in Redis" in done.stderr


def test_disagreements_without_a_label_are_asked_for_the_latest_first(
    config: Path, redis_process: RedisProcess
) -> None:
    keep(redis_process, *(pair(number, harm=number != 4) for number in range(1, 8)))
    assert run(config, pair(6).id, "ambiguous").exit_code == 0
    shown = at_terminal(config, b"s\n?\nt\n\nE \nq\n", "--by", "eve")
    asked = [number for number in range(9) if pair(number).id in shown]
    assert asked == [1, 2, 3, 5, 7]  # 4 agrees, 6 has a label
    assert shown.index(pair(7).id) < shown.index(pair(5).id) < shown.index(pair(1).id)
    assert said(config) == {
        pair(6).id: "ambiguous",
        pair(7).id: "student_wrong",
        pair(5).id: "teacher_wrong",
        pair(2).id: "equivalent",
    }
    assert "3 labelled" in shown
    assert "2 labelled" in at_terminal(config, b"a\na\n")
    assert "0 labelled" in at_terminal(config, b"")


def test_a_pair_is_shown_with_both_answers_and_what_the_machine_makes_of_it(
    config: Path, redis_process: RedisProcess
) -> None:
    record = pair(1, harm=True)
    hostile = record.teacher.model_copy(update={"text": "red \x1b[31m[bold]text\x07"})
    diff = record.verdict.model_copy(update={"diff": "4 is not 5"})
    keep(redis_process, record.model_copy(update={"teacher": hostile, "second": record.teacher, "verdict": diff}))
    shown = at_terminal(config, b"q\n", record.id)
    for part in ("question 1", "[31m[bold]text", "wrong", "4 is not 5", "student_wrong (second_draw)", "again   right"):
        assert part in shown
    assert "\x1b[31m" not in shown and "\x07" not in shown


def test_one_pair_is_asked_for_by_its_id(config: Path, redis_process: RedisProcess) -> None:
    keep(redis_process, pair(1, harm=True), pair(2, harm=True))
    assert "1 labelled" in at_terminal(config, b"e\n", pair(1).id)
    assert said(config) == {pair(1).id: "equivalent"}


def test_stopping_keeps_what_was_said(config: Path, redis_process: RedisProcess) -> None:
    keep(redis_process, pair(1, harm=True), pair(2, harm=True))
    at_terminal(config, b"s\n\x04")  # end of input
    assert said(config) == {pair(2).id: "student_wrong"}
