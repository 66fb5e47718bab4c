"""`distill-router demo` as a process: its figures, its books, and that it leaves nothing behind."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from router.evidence.read import Evidence
from router.ledger.pricing import NANO_PER_USD
from router.settings import load
from tests.support.router_process import COMMAND, PATIENCE_S, cli, environment, family, gone, until
from tests.support.server_process import free_port

REQUESTS = 24
LEARNS_FROM = 240
KEYS = {
    *("requests", "answered", "student_share", "agreement", "cost_usd", "teacher_only_cost_usd", "net_savings_usd"),
    *("disagreements_logged", "p50_ms", "p99_ms"),
}


@dataclass(frozen=True)
class Finished:
    """A demo that ran once and learned."""

    stdout: str
    figures: dict[str, Any]
    left: list[str]


@pytest.fixture(scope="module")
def finished() -> Iterator[Finished]:
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        path = Path(folder) / "figures.json"
        arguments = ("--once", "--learn", "--requests", str(LEARNS_FROM), "--port", str(free_port()), "--json", path)
        done = cli("demo", *arguments, cwd=path.parent, TMPDIR=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        yield Finished(done.stdout, json.loads(path.read_text()), [each.name for each in path.parent.iterdir()])


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A short one: the address of a Unix socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        yield Path(folder)


@contextmanager
def running_demo(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The demo with its output in a file; every process of it is gone afterwards."""
    output = folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*COMMAND, "demo", "--port", str(free_port()), *arguments],
            stdout=file,
            stderr=file,
            env=environment(TMPDIR=str(folder)),
            start_new_session=True,
            # What a shell starts in the background, these tests perhaps, ignores SIGINT, and so would its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        yield process, output
    finally:
        for left in family(process.pid):
            left.kill()
        process.wait()


def started(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The demo, two engines, the gateway and Redis, once all of them run."""
    return until(lambda: len(found := family(process.pid)) >= 5 and found, "the demo's processes")  # type: ignore[no-any-return]


def test_a_demo_that_runs_once_answers_everything_and_writes_its_figures(finished: Finished) -> None:
    assert "toys" in finished.stdout and "configured figures" in finished.stdout
    figures = finished.figures
    assert set(figures) >= KEYS
    assert figures["requests"] == figures["answered"] == LEARNS_FROM
    assert 0 <= figures["student_share"] <= 1
    assert figures["net_savings_usd"] == pytest.approx(figures["teacher_only_cost_usd"] - figures["cost_usd"])
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    assert finished.left == ["figures.json"]


def test_a_demo_that_learns_beats_a_split_of_the_same_cost(finished: Finished) -> None:
    learned = finished.figures["learned"]
    assert learned["pairs"] >= 30 and learned["task"] == "reverse"
    for found in (learned["everything"], learned["inside_task"]):
        assert found["gain"] == pytest.approx(found["split_loss"] - found["loss"])
    assert learned["everything"]["interval"]["low"] > 0


def test_the_figures_are_those_of_the_rows_and_sigterm_ends_everything(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    with running_demo(tmp_path, "--requests", str(REQUESTS), "--json", str(path)) as (process, output):
        until(lambda: "distill_router_cost" in output.read_text() or process.poll() is not None, "the last line")
        found = re.search(r"advise --config (\S+)", output.read_text())
        assert found, output.read_text()
        rows = list(Evidence(load(Path(found[1]))).rows())
        processes = started(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        assert gone(processes)
    figures = json.loads(path.read_text())
    assert sum(sum(row.c.values()) for row in rows) == round(figures["cost_usd"] * NANO_PER_USD)
    assert sum(row.o != "shadow" for row in rows) == REQUESTS
    assert not list(tmp_path.glob("distill-router-*"))


def test_a_demo_that_is_stopped_early_fails_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with running_demo(tmp_path, "--once", "--requests", "5000") as (process, _):
        processes = started(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) != 0
        assert gone(processes)


def test_a_demo_that_is_killed_takes_its_processes_with_it(tmp_path: Path) -> None:
    with running_demo(tmp_path, "--no-traffic") as (process, output):
        until(lambda: "Try next" in output.read_text() or process.poll() is not None, "the demo")
        processes = started(process)
        process.kill()
        process.wait()
        until(lambda: gone(processes), "the end of the demo's processes")
