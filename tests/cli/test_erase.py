"""`disagreements erase` as a person runs it: everywhere, and nothing comes back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import redis
import yaml
from typer.testing import CliRunner, Result

from router.cli import app
from router.evidence.archive.group import DEAD
from router.evidence.archive.source import sources
from router.evidence.erasure import load_tombstones
from router.evidence.redis import connect
from router.evidence.spool import read_spool
from router.evidence.streams import DISAGREEMENTS, LABELS, MAX_SHARDS, shard_key
from router.evidence.writer import EvidenceWriter
from router.record.metrics import Metrics
from router.settings import load
from tests.router.evidence.archive.made import add, label, lines_in, said
from tests.router.evidence.conftest import RedisProcess
from tests.support.gateway import two_models
from tests.support.pairs import row, spool_pairs

DISAGREEMENTS_KEY = "distill-router:{evidence-0}:disagreements"


def run(*arguments: str | Path, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, ["disagreements", *map(str, arguments)], env={"COLUMNS": "200"}, input=answer)


@pytest.fixture
def config(redis_process: RedisProcess, tmp_path: Path) -> Path:
    path = tmp_path / "router.yaml"
    evidence = {"spool_dir": str(tmp_path / "spool")}
    path.write_text(
        yaml.safe_dump(two_models("http://t/v1", "http://s/v1", redis=redis_process.url, evidence=evidence))
    )
    return path


def test_a_person_is_removed_everywhere_and_later_sources_leave_them_out(
    client: redis.Redis, config: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    add(client, [said(1, user="ann"), said(2), row(1)])
    assert run("archive", "--config", config, "--to", archive).exit_code == 0
    spool_pairs(tmp_path / "spool", [said(3, user="ann"), said(4)])
    done = run("erase", "--config", config, "--subject", "user:ann", "--archive", archive, "--yes")
    assert done.exit_code == 0, done.output
    assert "Redis: 1 pairs and 0 labels removed, none left" in done.stdout
    assert f"the archive {archive}: 1 pairs and 0 labels removed, none left" in done.stdout
    assert f"the spool in {tmp_path / 'spool'}: 1 pairs" in done.stdout
    assert "Not reached" not in done.stdout and "ann" not in str(load_tombstones(load(config)).times)
    add(client, [said(1, user="ann"), said(5, user="ann", at=4e9)])  # an old copy comes back; a new request
    found = {pair.id for pair in sources(load(config), [str(archive)]).pairs()}
    assert found == {said(number).id for number in (2, 4, 5)}
    assert run("archive", "--config", config, "--to", archive).exit_code == 0
    assert set(lines_in(archive, "disagreements")) == {said(2).id, said(5).id}
    assert client.xlen("distill-router:{evidence-0}:decisions") == 1


def test_shards_of_a_time_when_there_were_more_are_reached(client: redis.Redis, config: Path) -> None:
    """`evidence.shards` is 1 now."""
    add(client, [said(number, user="ann") for number in range(1, 30)], shards=MAX_SHARDS)
    gone = label(1, "ambiguous")
    letter = {"stream": "disagreements", "time": 1.0, "record": said(40, user="ann").model_dump_json()}
    client.xadd(shard_key(MAX_SHARDS - 1, DEAD), {"r": json.dumps(letter)})
    client.xadd(shard_key(MAX_SHARDS - 2, LABELS), {"r": gone.model_dump_json()})
    done = run("erase", "--config", config, "--subject", "user:ann", "--yes")
    assert done.exit_code == 0, done.output
    assert "Redis: 30 pairs and 1 labels removed, none left" in done.stdout
    assert not [key for key in client.keys("*evidence-*") if client.type(key) == b"stream" and client.xlen(key)]


async def test_what_a_running_gateway_has_in_its_log_is_waited_for(
    client: redis.Redis, redis_process: RedisProcess, config: Path, tmp_path: Path
) -> None:
    settings = load(config, upstream_keys=False)
    redis_client = connect(redis_process.url, settings)
    writer = EvidenceWriter(settings.config.evidence, redis_client, Metrics(), retry_s=0.2, sure_s=0.5)
    writer.start()
    for number in range(6):
        gone = said(number, user="ann" if number % 2 else "bob")
        writer.put(DISAGREEMENTS, gone.id, gone.model_dump_json().encode())
    await writer.flush()
    done = await asyncio.to_thread(run, "erase", "--config", config, "--subject", "user:ann", "--yes")
    assert done.exit_code == 0 and "What is left" not in done.stdout, done.stdout
    assert client.xlen(DISAGREEMENTS_KEY) == 3
    assert not [data for data in read_spool(tmp_path / "spool", DISAGREEMENTS) if b'"ann"' in data]
    await writer.close()
    await redis_client.aclose()
    assert client.xlen(DISAGREEMENTS_KEY) == 3


def test_it_names_the_archives_that_it_did_not_reach(client: redis.Redis, config: Path, tmp_path: Path) -> None:
    add(client, [said(1, key="app")])
    run("archive", "--config", config, "--to", tmp_path / "archive")
    done = run("erase", "--config", config, "--subject", "key:app", "--yes")
    assert f"Not reached: {tmp_path / 'archive'}" in done.stdout
    assert done.exit_code == 3
    assert (
        run("erase", "--config", config, "--subject", "key:app", "--archive", tmp_path / "nowhere", "--yes").exit_code
        == 2
    )


def test_it_asks_first(client: redis.Redis, config: Path) -> None:
    add(client, [said(1, user="ann")])
    refused = run("erase", "--config", config, "--subject", "user:ann", answer="n\n")
    assert refused.exit_code == 1 and client.xlen(DISAGREEMENTS_KEY) == 1
    assert not load_tombstones(load(config))
    assert run("erase", "--config", config, "--subject", "user:ann", answer="y\n").exit_code == 0
    assert client.xlen(DISAGREEMENTS_KEY) == 0


def test_without_redis_the_spool_is_erased(tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    evidence = {"spool_dir": str(tmp_path / "spool")}
    path.write_text(yaml.safe_dump(two_models("http://t/v1", "http://s/v1", evidence=evidence)))
    spool_pairs(tmp_path / "spool", [said(1, user="ann"), said(2)])
    assert run("erase", "--config", path, "--subject", "user:ann", "--yes").exit_code == 0
    spool_pairs(tmp_path / "spool", [said(1, user="ann")])  # written late by another process
    assert [pair.id for pair in sources(load(path), []).pairs()] == [said(2).id]


def test_a_subject_without_its_kind_is_a_message(config: Path) -> None:
    done = run("erase", "--config", config, "--subject", "ann", "--yes")
    assert done.exit_code == 2 and "expected key:NAME" in done.stderr
