"""`distill-router` as a process of its own: run to its end, or `serve` watched, signalled and stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import psutil
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.server_process import HOST, free_port

PATIENCE_S = 120.0
COMMAND = (sys.executable, "-m", "router.cli")


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200", **extra}


def cli(*arguments: str | Path, cwd: Path | None = None, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment(**extra) | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        timeout=PATIENCE_S,
    )


def until(holds: Callable[[], Any], what: str) -> Any:
    """Wait until a condition holds, and give its value; fail when it does not within a long time."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := holds()):
        assert time.monotonic() < deadline, f"{what}: never"
        time.sleep(0.02)
    return value


def family(pid: int) -> list[psutil.Process]:
    """A process and everything below it."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def gone(processes: list[psutil.Process]) -> bool:
    """None of these runs any more (a zombie does not)."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                return False
    return True


class Router:
    """`distill-router serve` with a configuration; a context manager that leaves no process behind."""

    def __init__(self, folder: Path, config: Mapping[str, Any], *arguments: str, wait: bool = True) -> None:
        self.port = free_port()
        self.path = folder / "router.yaml"
        self.log = folder / "router.log"
        self._arguments = arguments
        self._wait = wait
        self._seen: set[psutil.Process] = set()
        self.write(config)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        return self.process.pid

    def write(self, config: Mapping[str, Any] | str) -> None:
        """Replace the configuration file in one step."""
        fresh = self.path.with_suffix(".fresh")
        fresh.write_text(config if isinstance(config, str) else yaml.safe_dump(dict(config), sort_keys=False))
        fresh.replace(self.path)

    def __enter__(self) -> Self:
        """Start, and wait until it is ready where that is wanted."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "serve", "--config", str(self.path), "--port", str(self.port), *self._arguments],
                stdout=log,
                stderr=log,
                cwd=self.path.parent,
                env=environment(),
                start_new_session=True,
            )
        if self._wait:
            until(self.answers, "a ready gateway")
        return self

    def __exit__(self, *_: object) -> None:
        processes = [*self._seen, *family(self.pid)]
        self.process.terminate()
        try:
            self.process.wait(PATIENCE_S)
        finally:
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self.process.wait()

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=PATIENCE_S) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def family(self) -> list[psutil.Process]:
        """The gateway, its workers and its Redis."""
        found = family(self.pid)
        self._seen |= set(found)
        return found

    def workers(self) -> list[psutil.Process]:
        """The worker processes of `--workers N`."""
        return [process for process in self.family()[1:] if _is_worker(process)]

    def redis(self) -> list[psutil.Process]:
        return [process for process in self.family()[1:] if "redis" in process.name()]

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def ask(self, model: str = "auto", prompt: str = "hi", timeout: float = PATIENCE_S) -> tuple[int, Any]:
        """One chat completion, on a connection of its own: status and body."""
        body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
        request = urllib.request.Request(
            f"{self.url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's series (without the prefix) with these labels, as one scrape sees it."""
        return sum(value for sample, value in self.series(name) if labels.items() <= sample.items())

    def series(self, name: str) -> list[tuple[dict[str, str], float]]:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=PATIENCE_S) as answer:
            text = answer.read().decode()
        return [
            (sample.labels, sample.value)
            for metric in text_string_to_metric_families(text)
            for sample in metric.samples
            if sample.name == f"distill_router_{name}"
        ]


def _is_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return "spawn_main" in " ".join(process.cmdline())
    return False
