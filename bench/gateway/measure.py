"""One gateway, started, loaded in six phases and stopped: a row of figures.

The gateway is pinned to one core, the upstream and the load generator share another. CPU time is that of the gateway's
whole process tree, divided by the requests or deltas served.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from load import API_KEY, CHUNKS, UPSTREAMS, Load, LoadFailed, run_load, set_mock, write_body
from processes import cpu_ns, cpu_us_since, rss_mb, set_realtime, stop, tree
from report import Row

REFUSED = (400, 401, 403, 405, 422)
"""Statuses that waiting does not cure."""
SLOW_CPU_US = 3300
"""Above this a request takes more than a third of a core at 100/s: such a gateway is paced at 20/s."""


class TargetFailed(Exception):
    """The gateway did not start, or refused the request."""


@dataclass(frozen=True)
class Target:
    """A gateway: a command with {port} {up1} {up2} {here} {work} to fill in, or the pid of one that runs already."""

    name: str
    port: int
    command: str = ""
    pid: int = 0
    path: str = "/v1/chat/completions"
    model: str = "mock"
    headers: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    cwd: str | None = None
    stream: bool = True
    boot_s: float = 90
    vars: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """Where and how long to measure."""

    work: Path
    seconds: float
    gateway_core: int
    load_core: int
    realtime: bool
    upstream_pid: int


@dataclass(frozen=True)
class Phases:
    """The phases of one target that runs. Each gives its part of the row."""

    bench: Bench
    target: Target
    pid: int

    def run(self) -> Row:
        small = self._body(1000)
        row: Row = {"rss_idle_mb": rss_mb(self.pid), "errors": 0}
        self._load(Load(small, max(2, self.bench.seconds / 3)))  # warm-up
        self._add(row, "1k", self._closed_loop(small))
        self._add(row, "16k", self._closed_loop(self._body(16000)))
        row |= self._fixed_rate(small, row)
        if self.target.stream:
            row |= self._flooded_streams(row)
            row |= self._paced_streams(row)
        return row | {"rss_mb": rss_mb(self.pid)}

    def _body(self, size: int, stream: bool = False) -> Path:
        return write_body(self.bench.work, self.target.model, size, stream)

    def _load(self, load: Load) -> dict[str, Any]:
        target = self.target
        return run_load(self.bench.work, self.bench.load_core, target.port, target.path, target.headers, load)

    def _measured(self, load: Load) -> dict[str, Any]:
        before = cpu_ns(self.pid)
        figures = self._load(load)
        return figures | {"cpu_us": cpu_us_since(before, cpu_ns(self.pid))}

    def _closed_loop(self, body: Path) -> dict[str, Any]:
        return self._measured(Load(body, self.bench.seconds))

    def _add(self, row: Row, key: str, figures: dict[str, Any]) -> None:
        served = max(1, figures["ok"] + figures["late"])
        row |= {f"rps_{key}": round(figures["rps"]), f"cpu_us_req_{key}": round(figures["cpu_us"] / served, 2)}
        row["errors"] += _failures(figures)
        if figures["errors"]:
            row["error"] = figures["error"]

    def _fixed_rate(self, body: Path, row: Row) -> Row:
        """Latency at a rate that leaves the core idle, in the real-time class where that is allowed."""
        rate = 100 if row["cpu_us_req_1k"] < SLOW_CPU_US else 20
        with self._priority(self.bench.realtime):
            figures = self._measured(
                Load(body, self.bench.seconds * 1.5, connections=64, rate=rate, realtime=self.bench.realtime)
            )
        return {
            "lat100_p50_us": figures["lat_us"]["p50"],
            "lat100_p99_us": figures["lat_us"]["p99"],
            "lat_rate": rate,
            "cpu_us_req_at100": round(figures["cpu_us"] / max(1, figures["lat_us"]["n"]), 2),
            "errors": row["errors"] + _failures(figures),
        }

    def _flooded_streams(self, row: Row) -> Row:
        """Deltas as fast as they are taken."""
        body = self._body(1000, stream=True)
        self._load(Load(body, 0.7, chunks=CHUNKS))
        figures = self._measured(Load(body, self.bench.seconds, chunks=CHUNKS))
        part: Row = {
            "stream_max_chunks_s": round(figures["chunks_s"]),
            "stream_max_cpu_us_chunk": round(figures["cpu_us"] / max(1, figures["chunks"]), 3),
            "errors": row["errors"] + _failures(figures),
        }
        if figures["errors"]:
            part["stream_error"] = figures["error"]
        return part

    def _paced_streams(self, row: Row) -> Row:
        """16 streams of 100 deltas a second, each delta its own packet."""
        body = self._body(1000, stream=True)
        light = self.bench.realtime and row["stream_max_cpu_us_chunk"] < 200
        set_mock(gap_us=10_000)
        with self._priority(light):
            figures = self._measured(
                Load(body, self.bench.seconds, connections=16, chunks=CHUNKS, realtime=light),
            )
        set_mock(gap_us=0)
        return {
            "stream_paced_cpu_us_chunk": round(figures["cpu_us"] / max(1, figures["chunks"]), 3),
            "ttft_p50_us": figures["ttft_us"]["p50"],
            "chunk_p50_us": figures["chunk_us"]["p50"],
            "chunk_p99_us": figures["chunk_us"]["p99"],
            "errors": row["errors"] + _failures(figures),
        }

    @contextmanager
    def _priority(self, realtime: bool) -> Iterator[None]:
        pids = [*tree(self.pid), self.bench.upstream_pid]
        set_realtime(pids, realtime)
        try:
            yield
        finally:
            set_realtime(pids, False)


def _failures(figures: dict[str, Any]) -> int:
    return int(figures["errors"] + figures["unfinished"])


def measure(target: Target, bench: Bench) -> Row:
    """The row of one target; `failed` says why there are no figures. A target that fails does not stop the others."""
    row: Row = {"name": target.name, "t": round(time.time()), "loadavg": f"{os.getloadavg()[0]:.2f}"}
    set_mock(chunks=CHUNKS, gap_us=0, delay_us=0)
    log = bench.work / f"{target.name}.log"
    started = time.monotonic()
    process = _start(target, bench, log) if target.command else None
    try:
        _wait_until_it_answers(target, bench, process, log)
        row["start_s"] = round(time.monotonic() - started, 2)
        time.sleep(0.3)
        return row | Phases(bench, target, process.pid if process else target.pid).run()
    except (TargetFailed, LoadFailed, subprocess.TimeoutExpired, OSError) as error:
        return row | {"failed": f"{str(error)[:300]}; see {log}"}
    finally:
        if process:
            stop(process)


def _start(target: Target, bench: Bench, log: Path) -> subprocess.Popen[bytes]:
    values: dict[str, Any] = {
        "port": target.port,
        "up1": UPSTREAMS[0],
        "up2": UPSTREAMS[1],
        "here": Path(__file__).parent,
        "work": bench.work,
    }
    values |= target.vars
    env = os.environ | {"UPSTREAMS": ",".join(UPSTREAMS), "PORT": str(target.port)}
    env |= {name: value.format(**values) for name, value in target.env.items()}
    command = ["taskset", "-c", str(bench.gateway_core), *shlex.split(target.command.format(**values))]
    with log.open("wb") as output:
        return subprocess.Popen(command, env=env, cwd=target.cwd, stdout=output, stderr=output, start_new_session=True)


def _wait_until_it_answers(target: Target, bench: Bench, process: subprocess.Popen[bytes] | None, log: Path) -> None:
    headers = {"content-type": "application/json", "authorization": f"Bearer {API_KEY}"}
    headers |= dict(header.split(": ", 1) for header in target.headers)
    body = write_body(bench.work, target.model, 1000, False).read_bytes()
    request = urllib.request.Request(f"http://127.0.0.1:{target.port}{target.path}", body, headers)
    deadline = time.monotonic() + target.boot_s
    reason = "nothing was tried"
    while time.monotonic() < deadline:
        if process and process.poll() is not None:
            raise TargetFailed(f"the gateway exited with {process.returncode}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                answer.read()
                return
        except urllib.error.HTTPError as error:
            if error.code in REFUSED:
                raise TargetFailed(f"refused: {error} {error.read()[:200]!r}") from error
            reason = str(error)
        except OSError as error:
            reason = str(error)
        time.sleep(0.02)
    raise TargetFailed(f"no 200 after the start: {reason}")
