"""Speed of the embedded engine: tokens a second, by the clock and by its own CPU time, over HTTP.

    .venv/bin/python bench/embedded.py [--at-once 16] [--tokens 200] [--rounds 3]

On a shared machine tokens per CPU-second is the figure to trust.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from urllib.error import URLError
from urllib.request import Request, urlopen

import psutil

MODELS = ("teacher", "student")
START_S = 30.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for model in MODELS:
        started = time.monotonic()
        with engine(model) as (process, base_url):
            start_s = time.monotonic() - started
            rounds = [load(process, base_url, model, options.at_once, options.tokens) for _ in range(options.rounds)]
            figures = {
                "model": model,
                "at_once": options.at_once,
                "tokens_per_s": round(median(wall for wall, _ in rounds)),
                "tokens_per_cpu_s": round(median(cpu for _, cpu in rounds)),
                "start_s": round(start_s, 2),
                "rss_mb": round(process.memory_info().rss / 2**20),
            }
        print(json.dumps(figures))


@contextlib.contextmanager
def engine(model: str) -> Iterator[tuple[psutil.Process, str]]:
    """The engine as a process of its own, ready when the context begins."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "router.cli", "embedded", "--model", model, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with contextlib.suppress(URLError, OSError), urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                break
            time.sleep(0.02)
        yield psutil.Process(process.pid), f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


def load(process: psutil.Process, base_url: str, model: str, at_once: int, tokens: int) -> tuple[float, float]:
    """Tokens per second and per CPU-second with `at_once` answers of `tokens` tokens each."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "sort banana"}],
        "max_tokens": tokens,
        "ignore_eos": True,
    }
    request = Request(f"{base_url}/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"})

    def ask(_: int) -> int:
        with urlopen(request, timeout=120) as answer:
            count: int = json.load(answer)["usage"]["completion_tokens"]
            return count

    cpu, started = _cpu_s(process), time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        produced = sum(pool.map(ask, range(at_once)))
    return produced / (time.monotonic() - started), produced / (_cpu_s(process) - cpu)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
