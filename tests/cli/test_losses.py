"""`distill-router losses` as a command: on evidence made by hand, and on the demo's traffic through real models."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from router.cli import app
from router.cli.demo import SEED, demo_config
from router.evidence.archive.store import Store
from router.evidence.records import PairRecord
from router.ledger.pricing import NANO_PER_USD
from router.record.row import DecisionRow
from serving.demo.tasks import Example, workload
from tests.router.evidence.archive.made import archive_files
from tests.router.lossmap.made import route_traffic
from tests.support.gateway import RunningGateway, running_gateway, two_models
from tests.support.pairs import row, spool_pairs
from tests.surface.fixtures import Served

THEN = "2023-11-01"
REQUESTS = 300
DAY_S = 86_400
# What the slice is called in which a task of the demo lies; "add2" has no first word.
OPENINGS = {"sort": "opening:sort", "json": "opening:json", "add2": "opening:##+##"}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["losses", *(str(argument) for argument in arguments)])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration without Redis, with pairs and rows of 2023 in its spool."""
    path = tmp_path / "router.yaml"
    spool = tmp_path / "spool"
    path.write_text(yaml.safe_dump(two_models("http://t/v1", "http://s/v1", evidence={"spool_dir": str(spool)})))
    spool_pairs(spool, route_traffic(), [row(number) for number in range(800)])
    return path


def test_it_names_what_the_student_loses(config: Path) -> None:
    done = run("--config", config, "--since", THEN)
    assert done.exit_code == 0, done.output
    named, _, others = done.stdout.partition("Not told from the rest")
    assert "sort …" in named and "##+## …" in named and "upper …" not in named
    assert "upper … (0%, 160)" in others
    assert "Fixing these 2 slices moves $" in done.stdout
    assert "--slice opening:sort" in done.stdout


def test_only_what_was_written_since_then_counts(config: Path) -> None:
    done = run("--config", config, "--since", "7d")
    assert done.exit_code == 0 and "Not enough evidence" in done.stdout


def test_archives_are_read_with_the_rest_each_pair_once(config: Path, tmp_path: Path) -> None:
    archived = [record.model_copy(update={"id": f"{number:022x}"}) for number, record in enumerate(route_traffic(500))]
    archive_files(Store(str(tmp_path / "archive")), archived)
    done = run("--config", config, "--since", THEN, "--archive", tmp_path / "archive", "--json")
    assert json.loads(done.stdout)["pairs"] == 500, done.output


def test_the_report_is_written_beside_the_text_or_the_json(config: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    done = run("--config", config, "--since", THEN, "--html", report)
    assert str(report) in done.stdout and "sort …" in report.read_text()
    as_json = run("--config", config, "--since", THEN, "--html", report, "--json")
    assert json.loads(as_json.stdout)["pairs"] == 400


def test_a_file_that_is_no_report_is_not_overwritten(config: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.html"
    kept.write_text("mine")
    done = run("--config", config, "--since", THEN, "--html", kept)
    assert done.exit_code == 2 and "exists and is no loss map" in done.stderr and not done.stdout
    assert kept.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--route", "nowhere"), "unknown route 'nowhere'; known: auto"),
        (("--since", "yesterday"), "--since yesterday: not understood"),
        (("--since", THEN, "--html", "/nowhere/report.html"), "--html /nowhere/report.html: No such file"),
        (("--archive", "/nowhere/at/all"), "/nowhere/at/all"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_option(config: Path, arguments: tuple[str, ...], said: str) -> None:
    done = run("--config", config, *arguments)
    assert done.exit_code == 2 and said in done.stderr


async def test_on_the_demo_s_traffic_it_names_the_tasks_that_the_student_was_never_taught(
    embedded_models: dict[str, Served], redis_url: str, tmp_path: Path
) -> None:
    """The demo's models, policy, prices and requests; every request is compared, so that the money is no estimate.

    What it should be is counted in another way: by decision row, with the task that the request was made from.
    """
    config, path = _demo(embedded_models, redis_url, tmp_path), tmp_path / "router.yaml"
    path.write_text(yaml.safe_dump(config))
    async with running_gateway(config, redis_url=redis_url) as gateway:
        tasks = await _send(gateway, workload(REQUESTS, SEED))
        rows = await gateway.rows(REQUESTS)
        pairs = [PairRecord.model_validate(record) for record in await gateway.pairs()]
        done = await asyncio.to_thread(run, "--config", path, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    paid, lost = _paid_usd_per_day(rows, tasks), _lost_tasks(pairs, tasks)

    named = {line["name"]: line for line in found["named"]}
    for task, opening in OPENINGS.items():
        assert named[opening]["at_stake_usd_per_day"]["value"] == pytest.approx(paid[task], rel=1e-6), task
        assert named[opening]["loss"]["value"] == pytest.approx(lost[task], rel=1e-6)
    long = [line for name, line in named.items() if name.startswith("opening:reverse & ") and "more" in name]
    assert long and long[0]["loss"]["value"] > lost["reverse"], "it was taught reversals of short words only"
    (reverse,) = (line for line in (*found["named"], *found["others"]) if line["name"] == "opening:reverse")
    assert reverse["at_stake_usd_per_day"]["value"] == pytest.approx(paid["reverse"], rel=1e-6)
    (tools,) = found["misfits"]
    assert tools["name"] == "misfit:tools"
    assert tools["teacher_usd_per_day"] == pytest.approx(paid["tool_call"], rel=1e-6)

    taught = ("opening:upper", "opening:#+#")
    assert not [name for name in named if name.startswith(taught)]
    everything = sum(usd for task, usd in paid.items() if task != "tool_call")
    assert found["at_stake_usd_per_day"]["value"] == pytest.approx(everything, rel=1e-6)
    assert found["steps"][-1]["loss_share"] > 0.7


def _demo(models: dict[str, Served], redis_url: str, folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = dict(demo_config(folder, 1, 2, 3))
    del config["ledger"], config["budgets"]
    config["redis"] = redis_url
    for name in ("teacher", "student"):
        config["models"][name]["base_urls"] = [models[name].url]
    config["routes"]["auto"]["audit"] |= {"rate": 1.0, "second_draw": 0.0}
    return config


async def _send(gateway: RunningGateway, examples: list[Example]) -> dict[str, str]:
    """Send them, a few at a time; which task each decision id was."""
    places = asyncio.Semaphore(8)

    async def send(example: Example) -> tuple[str, str]:
        tools: dict[str, Any] = {"tools": list(example.tools)} if example.tools else {}
        async with places:
            said = [{"role": "user", "content": example.prompt}]
            answer = await gateway.ask("chat", messages=said, temperature=0, **tools)
        return answer.headers["x-router-decision-id"], example.task

    return dict(await asyncio.gather(*(send(example) for example in examples)))


def _paid_usd_per_day(rows: list[DecisionRow], tasks: dict[str, str]) -> dict[str, float]:
    """To the teacher, for each task. The policy is a cascade: the student was paid in any case, but not for tools."""
    window_s = (max(row.t for row in rows) - min(row.t for row in rows)) * len(rows) / (len(rows) - 1)
    paid: dict[str, float] = defaultdict(float)
    for found in rows:
        nano = sum(call.nano for call in found.ch if call.model == "teacher")
        paid[tasks[found.id]] += nano / NANO_PER_USD * DAY_S / window_s
    return paid


def _lost_tasks(pairs: list[PairRecord], tasks: dict[str, str]) -> dict[str, float]:
    """The share of each task's answers in which the student differs from the teacher."""
    differs: dict[str, list[bool]] = defaultdict(list)
    for record in pairs:
        differs[tasks[record.id]].append(record.teacher.text != record.student.text)
    return {task: sum(found) / len(found) for task, found in differs.items()}
