"""`disagreements archive` as a person runs it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis
import yaml
from typer.testing import CliRunner, Result

from router.cli import app
from router.evidence.streams import DECISIONS, DISAGREEMENTS
from tests.router.evidence.archive.made import add, lines_in, said
from tests.router.evidence.conftest import RedisProcess
from tests.support.gateway import two_models
from tests.support.pairs import row
from tests.support.router_process import PATIENCE_S, until


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["disagreements", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture
def config(redis_process: RedisProcess, tmp_path: Path) -> Path:
    path = tmp_path / "router.yaml"
    evidence = {"spool_dir": str(tmp_path / "spool"), "shards": 2}
    path.write_text(
        yaml.safe_dump(two_models("http://t/v1", "http://s/v1", redis=redis_process.url, evidence=evidence))
    )
    return path


def test_it_says_what_it_archived(client: redis.Redis, config: Path, tmp_path: Path) -> None:
    add(client, [said(1), said(2), row(1)], shards=2)
    to = tmp_path / "archive"
    done = run("archive", "--config", config, "--to", to)
    assert (done.exit_code, done.stdout) == (0, "archived in 2 files: decisions 1, disagreements 2\n"), done.output
    again = json.loads(run("archive", "--config", config, "--to", to, "--json").stdout)
    assert (again["written"], again["files"], again["busy"]) == ({}, 0, [])
    assert lines_in(to, DISAGREEMENTS).total() == 2


def test_it_tells_of_what_could_not_be_archived(client: redis.Redis, config: Path, tmp_path: Path) -> None:
    client.xadd("distill-router:{evidence-1}:agreements", {"r": "no record"})
    done = run("archive", "--config", config, "--to", tmp_path / "archive")
    assert (
        "archived in 0 files: nothing; cannot be read, and are dead letters in Redis now: agreements 1" in done.stdout
    )


def test_following_ends_on_a_signal_and_writes_what_it_read(client: redis.Redis, config: Path, tmp_path: Path) -> None:
    to = tmp_path / "archive"
    add(client, [row(number) for number in range(20)], shards=2)
    command = [sys.executable, "-m", "router.cli", "disagreements", "archive", "--config", str(config), "--to", str(to)]
    process = subprocess.Popen([*command, "--follow", "--json"], stdout=subprocess.PIPE, text=True)
    try:
        until(lambda: client.exists("distill-router:{evidence-1}:archiver"), "the archiver's lock")
        process.send_signal(signal.SIGTERM)
        said_last = process.communicate(timeout=PATIENCE_S)[0].splitlines()[-1]
    finally:
        process.kill()
    archived = lines_in(to, DECISIONS).total()
    assert process.returncode == 0
    assert json.loads(said_last)["written"].get(DECISIONS, 0) == archived
    assert run("archive", "--config", config, "--to", to).exit_code == 0
    assert lines_in(to, DECISIONS).total() == 20


def test_without_redis_it_says_where_the_evidence_is(tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    path.write_text(yaml.safe_dump(two_models("http://t/v1", "http://s/v1")))
    done = run("archive", "--config", path, "--to", tmp_path / "archive")
    assert done.exit_code == 2 and "evidence.spool_dir" in done.stderr


def test_a_place_that_cannot_be_reached_is_a_message(client: redis.Redis, config: Path, tmp_path: Path) -> None:
    nowhere = run("archive", "--config", config, "--to", "nosuch://bucket")
    assert nowhere.exit_code == 2 and "expected a folder or s3://" in nowhere.stderr
    (tmp_path / "file").write_text("")
    add(client, [row(1)])
    taken = run("archive", "--config", config, "--to", tmp_path / "file")
    assert taken.exit_code == 2 and "archive " in taken.stderr and "Traceback" not in taken.stderr
    assert run("archive", "--config", config, "--to", tmp_path / "archive").exit_code == 0
    assert lines_in(tmp_path / "archive", DECISIONS).total() == 1
