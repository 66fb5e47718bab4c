"""The commands as a person runs them: help, `check`, and mistakes answered with a message instead of a traceback."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner, Result

from router.cli import app
from router.settings import MASK
from tests.support.gateway import two_models
from tests.support.router_process import cli
from tests.support.server_process import HOST

EXAMPLE = Path(__file__).resolve().parents[2] / "router.example.yaml"
SECRET = "sk-very-secret"


def run(*arguments: str) -> Result:
    """A command in this process: for those that end without having started anything."""
    return CliRunner().invoke(app, arguments)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    "command",
    [
        *("", "serve", "check", "embedded", "demo", "advise"),
        *("disagreements", "disagreements tail", "disagreements stats", "disagreements label", "disagreements archive"),
        *("disagreements export", "disagreements erase", "retention", "losses"),
    ],
)
def test_every_command_explains_itself(command: str) -> None:
    done = run(*command.split(), "--help")
    assert done.exit_code == 0, done.stderr
    assert "Usage:" in done.stdout


def test_check_prints_the_effective_configuration_with_secrets_masked(tmp_path: Path) -> None:
    config = two_models("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1")
    config["models"]["teacher"]["api_key_env"] = "TEACHER_KEY"
    path = tmp_path / "router.yaml"
    path.write_text(yaml.safe_dump(config))
    done = cli("check", "--config", path, TEACHER_KEY=SECRET)
    assert (done.returncode, done.stderr) == (0, "")
    shown = yaml.safe_load(done.stdout)
    assert shown["models"]["teacher"]["api_key"] == MASK
    assert shown["models"]["teacher"]["timeouts"]["total_s"] == 600
    assert SECRET not in done.stdout


def test_check_prints_a_schema_that_accepts_the_example() -> None:
    done = run("check", "--schema")
    assert done.exit_code == 0
    validator = jsonschema.Draft202012Validator(json.loads(done.stdout))
    validator.validate(yaml.safe_load(EXAMPLE.read_text()))
    assert not validator.is_valid({"server": {"prot": 1}})


@pytest.mark.parametrize("command", ["check", "serve", "advise", "disagreements tail", "disagreements stats"])
def test_a_mistake_in_the_file_is_named_with_its_path_and_ends_with_status_2(command: str, tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    path.write_text("server: {auth: none, prot: 1}\nmodels: {}\n")
    done = run(*command.split(), "--config", str(path))
    assert done.exit_code == 2
    assert done.stdout == ""
    assert f"{path}: server.prot: unknown key; known: auth," in done.stderr
    assert "Traceback" not in done.stderr


def test_check_and_serve_warn_of_a_budget_that_limits_nobody(taken_port: int, tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    config = two_models("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1", models={"max_output_tokens": 10})
    config["server"]["auth"] = "keys"
    budgets = {"lost": {"key": "nokey", "window": "day", "limit_usd": 1}}
    path.write_text(yaml.safe_dump(config | {"redis": "redis://127.0.0.1:1/0", "budgets": budgets}))
    check = run("check", "--config", str(path))
    assert check.exit_code == 0
    assert f"{path}: warning: budgets.lost.key: this file has no key 'nokey'" in check.stderr
    assert "WARNING distill_router: budgets.lost.key" in cli("serve", "-c", path, "--port", str(taken_port)).stderr


def test_a_file_that_is_not_there_is_named() -> None:
    done = run("check", "--config", "nowhere.yaml")
    assert done.exit_code == 2 and "nowhere.yaml" in done.stderr
    assert run("check").exit_code == 2


def test_serve_and_demo_say_that_a_port_is_taken(taken_port: int, tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    path.write_text(yaml.safe_dump(two_models("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1")))
    for arguments in (["serve", "--config", str(path)], ["serve", "--config", str(path), "--workers", "2"], ["demo"]):
        done = cli(*arguments, "--port", str(taken_port), cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert str(taken_port) in done.stderr and "in use" in done.stderr
        assert "Traceback" not in done.stderr


def test_embedded_says_what_is_wrong_with_a_folder(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        done = cli("embedded", "--model", folder, "--port", "0")
        assert done.returncode == 2
        assert str(folder) in done.stderr and "Traceback" not in done.stderr


def test_the_demo_says_before_its_work_that_a_file_cannot_be_written(tmp_path: Path) -> None:
    done = cli("demo", "--once", "--port", "1", "--json", tmp_path / "missing" / "figures.json")
    assert done.returncode == 2 and "Traceback" not in done.stderr
