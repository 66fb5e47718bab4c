"""A thousand streamed requests of which a third hang up at a random point: what is left in the gateway?

    python bench/hangups.py [--requests 1000] [--json FILE]

The gateway runs in a process of its own, before the embedded teacher and student and with a real Redis. It is looked at
before and after: sockets, tasks, memory. Then its decision rows are counted: each must have a price, and whoever hung
up while the answer was still coming must be marked `cancelled`. Exit status 1 when something is left or missing.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import redis
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from router.app import create_app
from router.bundled_redis import bundled_redis
from router.evidence.writer import DECISIONS
from router.record.row import DecisionRow, decode_row
from router.settings import load

HOST = "127.0.0.1"
START_S = 60
STATE_PATH = "/bench/state"
ENDPOINTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "upper elephant"}], "max_tokens": 40},
    "/v1/completions": {"prompt": "upper elephant and then some more", "max_tokens": 40},
    "/v1/responses": {"input": "sort elephant"},  # which the student cannot do
}
USUAL_BYTES = 4_000
"""About what a whole streamed answer takes; hang-ups are spread over the beginning of it."""


@dataclass(frozen=True)
class State:
    """The gateway's process at one moment. `upstream_sockets` are its pool, kept open on purpose."""

    client_sockets: int
    upstream_sockets: int
    tasks: int
    rss_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--serve", nargs=3, metavar=("CONFIG", "REDIS", "PORT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(*arguments.serve)
        return
    figures = measure(arguments.requests, arguments.concurrency, random.Random(arguments.seed))
    print(json.dumps(figures, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures))
    sys.exit(bool(figures["problems"]))


def measure(requests: int, concurrency: int, rng: random.Random) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, bundled_redis(Path(folder) / "redis") as redis_url:
        teacher, student, port = (_free_port() for _ in range(3))
        config = Path(folder) / "router.json"  # JSON is YAML
        config.write_text(json.dumps(_config(teacher, student, Path(folder) / "spool")))
        with (
            _running(
                ["-m", "router.cli", "embedded", "--model", "teacher", "--port", str(teacher)], teacher, "/health"
            ),
            _running(
                ["-m", "router.cli", "embedded", "--model", "student", "--port", str(student)], student, "/health"
            ),
            _running([__file__, "--serve", str(config), redis_url, str(port)], port, "/readyz"),
        ):
            asyncio.run(traffic(port, _plans(concurrency * 4, rng), concurrency))  # warms caches and pools
            _wait_until_idle(port)
            warm, before = len(_rows(redis_url)), _state(port)
            started = time.perf_counter()
            plans = _plans(requests, rng)
            left_early = asyncio.run(traffic(port, plans, concurrency))
            seconds = time.perf_counter() - started
            _wait_until_idle(port)
            after, rows = _state(port), _rows(redis_url)[warm:]
    return _report(requests, left_early, seconds, before, after, rows)


def _report(
    requests: int, left_early: int, seconds: float, before: State, after: State, rows: list[DecisionRow]
) -> dict[str, Any]:
    served = [row for row in rows if row.o != "shadow"]
    outcomes = Counter(row.o for row in served)
    unpriced = sum(1 for row in rows if not row.c)
    problems = [
        f"{what}"
        for what, wrong in (
            (f"{requests - len(served)} requests have no row", len(served) != requests),
            (f"{unpriced} calls have no price", unpriced > 0),
            (f"outcomes other than ok and cancelled: {dict(outcomes)}", set(outcomes) - {"ok", "cancelled"}),
            (f"{left_early} clients left early, {outcomes['cancelled']} marked", outcomes["cancelled"] > left_early),
            ("client sockets are left", after.client_sockets > before.client_sockets),
            ("tasks are left", after.tasks > before.tasks),
        )
        if wrong
    ]
    return {
        "requests": requests,
        "seconds": round(seconds, 1),
        "hung_up": left_early,
        "before": asdict(before),
        "after": asdict(after),
        "rows": dict(outcomes),
        "shadow_rows": len(rows) - len(served),
        "unpriced": unpriced,
        "cost_usd_by_origin": _by_origin(rows),
        "problems": problems,
    }


def _by_origin(rows: list[DecisionRow]) -> dict[str, str]:
    sums: Counter[str] = Counter()
    for row in rows:
        sums.update(row.c)
    return {origin: f"{nano / 1e9:.9f}" for origin, nano in sums.items()}


def _config(teacher: int, student: int, spool: Path) -> dict[str, Any]:
    model: dict[str, Any] = {"context_tokens": 256, "supports": ["logprobs"]}
    return {
        "server": {"auth": "none"},
        "evidence": {"spool_dir": str(spool)},
        "models": {
            "teacher": {"base_urls": [f"http://{HOST}:{teacher}/v1"], "price": {"input": 2.0, "output": 8.0}, **model},
            "student": {"base_urls": [f"http://{HOST}:{student}/v1"], "price": {"input": 0.2, "output": 0.8}, **model},
        },
        "routes": {
            "auto": {
                "teacher": "teacher",
                "student": "student",
                "policy": {"kind": "cascade", "escalate_at": 0.3, "score_tokens": 4},
                "audit": {"rate": 0.01},
            }
        },
    }


# The clients


def _plans(requests: int, rng: random.Random) -> list[tuple[str, int | None]]:
    """For each request its path, and after how many bytes the client leaves (None: it stays)."""
    paths = list(ENDPOINTS)
    return [(rng.choice(paths), rng.randrange(USUAL_BYTES) if rng.random() < 1 / 3 else None) for _ in range(requests)]


async def traffic(port: int, plans: list[tuple[str, int | None]], concurrency: int) -> int:
    """Sends everything; how many clients left before the server had closed the connection."""
    limit = asyncio.Semaphore(concurrency)
    return sum(await asyncio.gather(*(_request(port, path, leave_after, limit) for path, leave_after in plans)))


async def _request(port: int, path: str, leave_after: int | None, limit: asyncio.Semaphore) -> bool:
    body = json.dumps({"model": "auto", "stream": True, **ENDPOINTS[path]}).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    async with limit:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(head.encode() + body)
        received = 0
        while leave_after is None or received < leave_after:
            data = await reader.read(256)
            if not data:
                break
            received += len(data)
        left_early = not reader.at_eof()
        writer.transport.abort()
    return left_early


# The gateway's process


def serve(config: str, redis_url: str, port: str) -> None:
    app = create_app(load(Path(config)), redis_url=redis_url)
    uvicorn.run(_Watched(app, os.getpid()), host=HOST, port=int(port), log_level="warning", ws="none")


class _Watched:
    """The application with one more path, which tells the state of its process."""

    def __init__(self, app: ASGIApp, pid: int) -> None:
        self._app = app
        self._process = psutil.Process(pid)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != STATE_PATH:
            await self._app(scope, receive, send)
            return
        gc.collect()
        own_port = scope["server"][1]
        sockets = [c for c in self._process.net_connections("tcp") if c.status == psutil.CONN_ESTABLISHED]
        clients = sum(1 for c in sockets if c.laddr.port == own_port)
        rss_mb = round(self._process.memory_info().rss / 2**20, 1)
        state = State(clients, len(sockets) - clients, len(asyncio.all_tasks()), rss_mb)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": json.dumps(asdict(state)).encode()})


def _state(port: int) -> State:
    return State(**json.loads(_get(port, STATE_PATH)))


def _wait_until_idle(port: int) -> None:
    """Until only the request that asks is there, and what is running stays the same for a second."""
    deadline = time.monotonic() + START_S
    seen: list[tuple[int, int]] = []
    while time.monotonic() < deadline:
        state = _state(port)
        seen = [*seen[-9:], (state.client_sockets, state.tasks)]
        if len(seen) == 10 and len(set(seen)) == 1 and state.client_sockets <= 1:
            return
        time.sleep(0.1)


def _rows(redis_url: str) -> list[DecisionRow]:
    with redis.Redis.from_url(redis_url) as client:
        return [decode_row(fields[b"r"]) for _, fields in client.xrange(DECISIONS)]


@contextmanager
def _running(arguments: list[str], port: int, path: str) -> Iterator[None]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, *arguments], env=environment)
    try:
        _wait_ready(process, port, path)
        yield
    finally:
        process.terminate()
        process.wait(START_S)


def _wait_ready(process: subprocess.Popen[bytes], port: int, path: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            _get(port, path)
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{process.args!r} did not start")


def _get(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=10) as answer:
        content: bytes = answer.read()
    return content


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
