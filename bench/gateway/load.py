"""The two C programs beside this file: the mock upstream and the load generator, compiled on first use."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
UPSTREAM_PORTS = (9101, 9102)
UPSTREAMS = tuple(f"http://127.0.0.1:{port}" for port in UPSTREAM_PORTS)
READY_S = 5.0
CHUNKS = 64
"""Deltas per stream."""
API_KEY = "sk-1234"
"""What the load generator sends as its bearer token."""

_TEXT = "The quick brown fox jumps over the lazy dog while the teacher explains costs to a student. " * 200
_ENVELOPE_BYTES = 150


class LoadFailed(Exception):
    """The load generator could not run."""


def compile_programs(work: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    for name in ("upstream", "loadgen"):
        source, program = HERE / f"{name}.c", work / name
        if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
            subprocess.run(["gcc", "-O2", "-o", program, source], check=True)


def start_upstream(work: Path, core: int) -> subprocess.Popen[bytes]:
    command = ["taskset", "-c", str(core), str(work / "upstream"), *map(str, UPSTREAM_PORTS)]
    process = subprocess.Popen(command, start_new_session=True)
    deadline = time.monotonic() + READY_S
    while True:  # on a busy core it takes a moment until it listens
        try:
            socket.create_connection(("127.0.0.1", UPSTREAM_PORTS[0]), timeout=READY_S).close()
            return process
        except ConnectionRefusedError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise LoadFailed(f"the mock upstream does not listen at port {UPSTREAM_PORTS[0]}") from None
            time.sleep(0.01)


def set_mock(**knobs: int) -> None:
    """`chunks`, `gap_us` between them, `delay_us` before the answer."""
    query = "&".join(f"{name}={value}" for name, value in knobs.items())
    with urllib.request.urlopen(f"{UPSTREAMS[0]}/_mock?{query}", timeout=5) as answer:
        answer.read()


def write_body(work: Path, model: str, size: int, stream: bool) -> Path:
    """A chat request of about `size` bytes."""
    request: dict[str, Any] = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are helpful."},
            {"role": "user", "content": _TEXT[: size - _ENVELOPE_BYTES]},
        ],
        "temperature": 0.7,
        "max_tokens": 256,
    }
    if stream:
        request |= {"stream": True, "stream_options": {"include_usage": True}}
    path = work / f"body-{model.replace('/', '_')}-{size}-{int(stream)}.json"
    path.write_text(json.dumps(request))
    return path


@dataclass(frozen=True)
class Load:
    """What one run sends: a closed loop over `connections`, or `rate` requests a second; `chunks`: expect streams."""

    body: Path
    seconds: float
    connections: int = 32
    rate: int = 0
    chunks: int = 0
    realtime: bool = False


def run_load(work: Path, core: int, port: int, path: str, headers: tuple[str, ...], load: Load) -> dict[str, Any]:
    """The load generator's figures. Raises LoadFailed."""
    command = ["chrt", "-r", "1"] if load.realtime else []
    command += ["taskset", "-c", str(core), str(work / "loadgen"), "-p", str(port), "-u", path, "-b", str(load.body)]
    command += ["-c", str(load.connections), "-s", str(load.seconds)]
    for header in headers:
        command += ["-H", header]
    if load.rate:
        command += ["-r", str(load.rate)]
    if load.chunks:
        command += ["-n", str(load.chunks)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise LoadFailed(f"loadgen: {done.stderr.strip()}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures
