"""The group `policy`: every command explains itself, and a mistake in the configuration is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from router.cli import app

COMMANDS = ("train", "list", "show", "promote", "rollback", "score", "evaluate", "replay", "tune")
NEEDED = {
    "list": (),
    "show": ("auto:difficulty",),
    "promote": ("auto:difficulty@1",),
    "rollback": ("auto:difficulty",),
    "train": ("--from", "redis"),
    "replay": ("--from", "redis"),
    "tune": ("--from", "redis"),
}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["policy", *arguments], env={"COLUMNS": "200"})


def test_the_group_names_its_commands() -> None:
    done = run("--help")
    assert done.exit_code == 0
    assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    done = run(command, "--help")
    assert done.exit_code == 0, done.stderr
    assert "Usage:" in done.stdout


@pytest.mark.parametrize("command", NEEDED)
def test_a_mistake_in_the_file_is_named_with_its_path_and_ends_with_status_2(command: str, tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    path.write_text("server: {auth: none, prot: 1}\nmodels: {}\n")
    done = run(command, *NEEDED[command], "--config", str(path))
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"{path}: server.prot: unknown key; known: auth," in done.stderr
