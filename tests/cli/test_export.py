"""`disagreements export` from the command line: what it writes, what it says, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from router.cli import app
from router.evidence.archive.store import Store
from router.evidence.erasure import FOLDER, parse_subject, tombstone_name
from router.evidence.records import LabelRecord, PairRecord
from router.export.formats.registry import FORMATS
from tests.router.evidence.archive.made import archive_files
from tests.router.export.cases import AGREES, ALL, OTHER_TOOL, PLAIN, TALK, TOOLS, answer, made, user
from tests.support.gateway import two_models
from tests.support.pairs import STUDENT_VERSION, spool_pairs

Config = dict[str, Any]
MAIL = "ada@example.com"


class Command:
    """The command on pairs that a gateway without Redis left in its spool."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = two_models("http://t/v1", "http://s/v1", evidence={"spool_dir": str(folder / "spool")})
        self.models["models"]["teacher"]["training_use"] = "allow"
        self._config = folder / "router.yaml"

    def spool(self, pairs: Sequence[PairRecord]) -> None:
        spool_pairs(self.folder / "spool", pairs)

    def run(self, out: str, *options: str | int | Path) -> Result:
        self._config.write_text(yaml.safe_dump(self.models))
        words = ["disagreements", "export", "--config", self._config, "--out", self.folder / out, *options]
        return CliRunner().invoke(app, [str(word) for word in words])

    def rows(self, out: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / out).read_text().splitlines()]

    def manifest(self, out: str) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads((self.folder / f"{out}.manifest.json").read_text())
        return manifest

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} - {"spool", "router.yaml"}


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_written_with_its_manifest(command: Command, name: str) -> None:
    command.spool(ALL)
    out = f"data{FORMATS[name].suffix}"
    done = command.run(out, "--format", name)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"6 of 7 pairs written to {command.folder / out}")
    assert "left out: verdict_agree 1" in done.stdout
    manifest = command.manifest(out)
    data = (command.folder / out).read_bytes()
    assert manifest["file"] == {
        "name": out,
        "bytes": len(data),
        "sha256": sha256(data).hexdigest(),
        "rows": 12 if name == "trl-kto" else 6,
    }
    assert sorted(manifest["records"]) == sorted(record.id for record in ALL if record is not AGREES)
    assert manifest["format"] == name


def test_the_manifest_says_where_everything_comes_from_and_what_was_left_out(command: Command) -> None:
    cut = made(20, {"messages": [user("?")]}, answer("teacher", "so", finish_reason="length"), "b")
    twin = PLAIN.model_copy(update={"id": f"{21:022x}", "time": PLAIN.time - 60})
    mail = made(22, {"messages": [user(f"Write to {MAIL}")]}, f"To {MAIL}", "no")
    test = made(23, {"messages": [user("for the test")]}, "a", "b", split="test")
    command.spool([PLAIN, TALK, AGREES, cut, twin, mail, test])
    assert command.run("a.jsonl").exit_code == 0
    manifest = command.manifest("a.jsonl")
    assert (manifest["read"], manifest["written"]) == (7, 3)
    assert manifest["not_asked_for"] == {"other_split": 1, "verdict_agree": 1}
    assert {reason: told["records"] for reason, told in manifest["left_out"].items()} == {
        "near_duplicate": [twin.id],
        "truncated": [cut.id],
    }
    assert all(told["why"] for told in manifest["left_out"].values())
    assert manifest["read"] == (
        manifest["written"]
        + sum(manifest["not_asked_for"].values())
        + sum(told["count"] for told in manifest["left_out"].values())
    )
    assert manifest["redacted"] == {"EMAIL": 1}
    assert manifest["filters"]["verdicts"] == ["student_wrong"] and manifest["filters"]["split"] == "train"
    assert manifest["licence"] == {"teacher": {"allow": 3}}
    assert manifest["teachers"] == {"teacher": {"t1": 3}} and manifest["students"] == {"student": {STUDENT_VERSION: 3}}
    assert manifest["prices_usd_per_mtok"]["teacher"] == [{"input": 2.0, "output": 8.0}]
    assert manifest["record_schema_version"] == 2 and manifest["gateway_version"]
    assert MAIL not in (command.folder / "a.jsonl").read_text()


def test_redaction_is_only_off_when_it_is_said(command: Command) -> None:
    command.spool([made(1, {"messages": [user(f"Write to {MAIL}")]}, f"To {MAIL}", "no")])
    assert command.run("on.jsonl").exit_code == command.run("off.jsonl", "--redact", "off").exit_code == 0
    assert [message["content"] for message in command.rows("on.jsonl")[0]["messages"]] == [
        "Write to [EMAIL_1]",
        "To [EMAIL_1]",
    ]
    assert command.rows("off.jsonl")[0]["messages"][0]["content"] == f"Write to {MAIL}"
    assert command.manifest("off.jsonl")["options"]["redact"] == "off"


def test_nothing_is_overwritten(command: Command) -> None:
    command.spool([PLAIN])
    assert command.run("a.jsonl").exit_code == 0
    before = (command.folder / "a.jsonl").read_bytes()
    again = command.run("a.jsonl", "--format", "trl-sft")
    assert again.exit_code == 2 and "exists; nothing is overwritten" in again.stderr
    assert (command.folder / "a.jsonl").read_bytes() == before


def test_verdicts_slices_and_splits_are_chosen(command: Command) -> None:
    command.spool([*ALL, made(30, {"messages": [user("for the test")]}, "a", "b", split="test")])
    for out, options, ids in (
        ("agree.jsonl", ["--verdict", "agree"], {AGREES.id}),
        ("both.jsonl", ["--verdict", "agree", "--verdict", "student_wrong", "--slice", "kind:number"], {AGREES.id}),
        ("tools.jsonl", ["--slice", "tool:set_timer", "--slice", "tool:get_weather"], {TOOLS.id, OTHER_TOOL.id}),
        ("test.jsonl", ["--split", "test"], {f"{30:022x}"}),
    ):
        done = command.run(out, *options)
        assert done.exit_code == 0, done.output
        assert {*command.manifest(out)["records"]} == ids


def test_balance_and_the_size_of_clusters_thin_out(command: Command) -> None:
    same = [made(number, {"messages": [user("Say hi")]}, f"hi {number}", "ho") for number in range(40, 44)]
    command.spool([PLAIN, TALK, TOOLS, *same])
    for out, options, written in (
        ("one.jsonl", [], 4),
        ("two.jsonl", ["--max-per-cluster", 2], 5),
        ("even.jsonl", ["--balance"], 2),
    ):
        assert command.run(out, *options).exit_code == 0
        assert command.manifest(out)["written"] == written
    assert command.manifest("one.jsonl")["left_out"]["near_duplicate"]["count"] == 3
    assert command.manifest("even.jsonl")["left_out"]["balance"]["count"] == 2


def test_a_teacher_whose_licence_is_not_known_stops_the_export(command: Command) -> None:
    command.spool([PLAIN, TALK.model_copy(update={"training_use": "unknown"})])
    refused = command.run("a.jsonl")
    assert refused.exit_code == 2
    assert "1 of 2 records hold answers that 'teacher' gave" in refused.stderr
    del command.models["models"]["teacher"]["training_use"]
    refused = command.run("a.jsonl", "--since", "2023-11-14")
    assert refused.exit_code == 2 and "models.teacher.training_use: is unknown" in refused.stderr
    assert command.files() == set()


def test_pairs_of_archives_and_what_people_said_of_them_are_read_too(command: Command) -> None:
    archive = command.folder / "archive"
    said = LabelRecord(id=TALK.id, time=TALK.time, label="teacher_wrong", by="ann")
    archive_files(Store(str(archive)), [PLAIN, TALK, said])
    command.spool([PLAIN, TOOLS])
    assert command.run("a.jsonl", "--archive", archive, "--verdict", "student_wrong").exit_code == 0
    assert {*command.manifest("a.jsonl")["records"]} == {PLAIN.id, TOOLS.id}
    assert command.run("b.jsonl", "--archive", archive, "--verdict", "teacher_wrong").exit_code == 0
    (row,) = command.rows("b.jsonl")
    assert row["messages"][-1] == {"role": "assistant", "content": TALK.student.text}
    assert command.manifest("b.jsonl")["verdict_basis"] == {"human": 1}


def test_what_an_erased_person_said_is_left_out(command: Command) -> None:
    command.spool([PLAIN, TALK.model_copy(update={"users": ["ada"]}), TOOLS.model_copy(update={"key": "app"})])
    folder = command.folder / "spool" / FOLDER
    folder.mkdir()
    (folder / tombstone_name(parse_subject("user:ada").digest, TALK.time + 60)).touch()
    assert command.run("a.jsonl").exit_code == 0
    assert command.manifest("a.jsonl")["records"] == [PLAIN.id, TOOLS.id]


def test_nothing_to_export_is_an_error_that_says_why_and_leaves_no_file(command: Command) -> None:
    command.spool([AGREES, made(1, {"messages": [user("?")]}, "", "b")])
    nothing = command.run("a.jsonl")
    assert nothing.exit_code == 2
    assert "nothing to export, no file is written: 2 pairs were read; left out: " in nothing.stderr
    assert "verdict_agree 1" in nothing.stderr and "empty 1" in nothing.stderr
    unknown = command.run("a.jsonl", "--slice", "tool:fly")
    assert "--slice tool:fly: no pair is in it; the most frequent here: " in unknown.stderr
    assert command.files() == set()


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("a.json", [], "which must be .jsonl"),
        ("a.jsonl", ["--format", "parquet"], "which must be .parquet"),
        ("a.jsonl", ["--verdict", "wrong"], "known: student_wrong, teacher_wrong, equivalent, ambiguous, agree"),
        ("a.jsonl", ["--route", "nowhere"], "known: auto"),
        ("a.jsonl", ["--since", "yesterday"], "allowed are hours, days or weeks back"),
        ("nowhere/a.jsonl", [], "there is no folder"),
        ("a.jsonl", ["--archive", "/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_a_mistake_in_an_option_is_told_with_what_is_allowed(
    command: Command, out: str, options: list[str], message: str
) -> None:
    command.spool([PLAIN])
    refused = command.run(out, *options)
    assert refused.exit_code == 2 and message in refused.stderr
    assert command.files() == set()


def test_llamafactory_finds_each_file_in_its_list(command: Command) -> None:
    command.spool(ALL)
    for out in ("week1.jsonl", "week2.jsonl"):
        assert command.run(out, "--format", "llamafactory").exit_code == 0
    info = json.loads((command.folder / "dataset_info.json").read_text())
    assert {name: entry["file_name"] for name, entry in info.items()} == {
        "week1": "week1.jsonl",
        "week2": "week2.jsonl",
    }


def test_the_students_system_prompt_and_context_are_those_it_will_serve_with(command: Command) -> None:
    long = made(31, {"messages": [user("long")]}, answer("teacher", "x", tokens={"input": 90, "output": 20}), "y")
    command.models["models"]["student"] |= {"context_tokens": 100, "adapt": {"system_prompt": "You are small."}}
    command.spool([PLAIN, long])
    assert command.run("a.jsonl").exit_code == 0
    (row,) = command.rows("a.jsonl")
    assert row["messages"][0] == {"role": "system", "content": "You are small."}
    assert command.manifest("a.jsonl")["left_out"]["too_long"]["records"] == [long.id]
