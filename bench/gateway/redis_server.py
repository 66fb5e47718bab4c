"""A Redis of the benchmark's own, on a port that router.yaml names."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from router.bundled_redis import server_binary
from router.errors import ConfigError

PORT = 9103


@contextmanager
def running_redis(work: Path, core: int) -> Iterator[None]:
    """Empty, in memory only, on the load's core: its CPU time is not the gateway's."""
    try:
        binary = server_binary()
    except ConfigError as error:
        raise SystemExit(str(error)) from None
    options = ["--port", str(PORT), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(work)]
    options += ["--maxmemory", "1gb", "--maxmemory-policy", "noeviction"]
    with (work / "redis.log").open("wb") as log:
        process = subprocess.Popen(["taskset", "-c", str(core), binary, *options], stdout=log, stderr=log)
    try:
        _wait_for_port(process, work)
        yield
    finally:
        process.terminate()
        process.wait()


def _wait_for_port(process: subprocess.Popen[bytes], work: Path) -> None:
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", PORT)) == 0:
                return
        time.sleep(0.02)
    raise SystemExit(f"Redis did not start; see {work / 'redis.log'}")
