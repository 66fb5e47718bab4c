"""A thousand streamed requests of which a third hang up at a random point: what is left in the gateway?

    python bench/hangups.py [--requests 1000] [--json FILE]

The gateway runs in a process of its own, before the embedded teacher and student and with a real Redis. It is looked at
before and after: sockets, tasks, memory. Then the money is compared. The models keep their own count of what they
billed, written down before it is sent: every completed request must be in the rows with exactly those tokens and that
price, every cancelled one with a price that is marked as an estimate (or with the exact one, where the end had come),
and Redis' hourly sums must be those of the rows. Exit status 1 when something is left, missing or different.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import redis
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.app import create_app
from router.bundled_redis import bundled_redis
from router.evidence.streams import DECISIONS, shard_key
from router.ledger.names import PREFIX, TEACHER_ONLY
from router.record.row import DecisionRow, RowCharge, decode_row
from router.settings import load
from serving.embedded import server as embedded

HOST = "127.0.0.1"
START_S = 60
STATE_PATH = "/bench/state"
DECISION_HEADER = re.compile(rb"\r\nx-router-decision-id: ([0-9a-f]+)\r\n")
USAGE = re.compile(rb'"usage": ?\{')
ENDPOINTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "upper elephant"}], "max_tokens": 40},
    "/v1/completions": {"prompt": "upper elephant and then some more", "max_tokens": 40},
    "/v1/responses": {"input": "sort elephant"},  # which the student cannot do
}
USUAL_BYTES = 4_000
"""About what a whole streamed answer takes; hang-ups are spread over the beginning of it."""


PRICES: dict[str, dict[str, float]] = {
    "teacher": {"input": 2.0, "output": 8.0},
    "student": {"input": 0.2, "output": 0.8},
}


class Bill(NamedTuple):
    """What a model says that one answer took, in tokens."""

    request_id: str
    model: str
    input: int
    cached: int
    output: int


@dataclass(frozen=True)
class Client:
    """What one client saw; `decision_id` '' where it left before the head of the answer."""

    request_id: str
    decision_id: str
    left_early: bool


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
    parser.add_argument("--model", nargs=3, metavar=("MODEL", "PORT", "RECORD"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.model:
        serve_model(*arguments.model)
        return
    if arguments.serve:
        serve(*arguments.serve)
        return
    figures = measure(arguments.requests, arguments.concurrency, random.Random(arguments.seed))
    print(json.dumps(figures, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures))
    sys.exit(bool(figures["problems"]))


def measure(requests: int, concurrency: int, rng: random.Random) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name, bundled_redis(Path(name) / "redis") as redis_url:
        folder = Path(name)
        teacher, student, port = (_free_port() for _ in range(3))
        record = folder / "billed"
        config = folder / "router.json"  # JSON is YAML
        config.write_text(json.dumps(_config(teacher, student, folder)))
        with (
            _running([__file__, "--model", "teacher", str(teacher), str(record)], teacher, "/health"),
            _running([__file__, "--model", "student", str(student), str(record)], student, "/health"),
        ):
            with _running([__file__, "--serve", str(config), redis_url, str(port)], port, "/readyz"):
                asyncio.run(traffic(port, _plans(concurrency * 4, rng), concurrency, "warm"))  # caches and pools
                _wait_until_idle(port)
                warm, before = len(_rows(redis_url)), _state(port)
                started = time.perf_counter()
                clients = asyncio.run(traffic(port, _plans(requests, rng), concurrency, "r"))
                seconds = time.perf_counter() - started
                _wait_until_idle(port)
                after = _state(port)
            rows, sums = _rows(redis_url), _hourly_sums(redis_url)
        bills = _bills(record)
    figures = _report(requests, clients, seconds, before, after, rows[warm:])
    figures["money"] = money = _compare(rows[warm:], clients, bills)
    if sums != _sums_of(rows):
        figures["problems"].append(f"Redis' hourly sums {sums} are not those of the rows {_sums_of(rows)}")
    figures["problems"] += money.pop("differences")
    return figures


def _report(
    requests: int, clients: list[Client], seconds: float, before: State, after: State, rows: list[DecisionRow]
) -> dict[str, Any]:
    left_early = sum(client.left_early for client in clients)
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


# The money


def _compare(rows: list[DecisionRow], clients: list[Client], bills: Counter[Bill]) -> dict[str, Any]:
    """Every charge is what a model billed for this request, or marked as an estimate; completed answers are exact.

    A client that left before the head of its answer cannot tell which row is its own: there any such bill will do.
    """
    requests = {client.decision_id: client.request_id for client in clients if client.decision_id}
    unclaimed = Counter({bill: count for bill, count in bills.items() if not bill.request_id.startswith("warm")})
    exact, estimated, differences = 0, Counter[tuple[str, str]](), []
    for row in rows:
        for charge in row.ch:
            if charge.estimated:
                estimated[requests.get(row.id, ""), charge.model] += 1
                continue
            bill = _bill_of(row, charge, requests, unclaimed)
            if bill is None or _nano(bill) != charge.nano:
                differences.append(f"row {row.id} ({row.o}): {charge}, but the model billed {bill}")
            else:
                unclaimed[bill] -= 1
                exact += 1
        if row.o != "cancelled" and [c.estimated for c in row.ch if c.origin in ("serve", "shadow")] != [0]:
            differences.append(f"row {row.id} ({row.o}) has no exact price: {row.ch}")
    completed = {requests[row.id] for row in rows if row.o == "ok" and row.id in requests}
    for bill in (+unclaimed).elements():  # of a student that was given up while it answered there is an estimate
        if bill.request_id in completed and not estimated[bill.request_id, bill.model]:
            differences.append(f"the model billed {bill}, which no row has")
    return {
        "exact_charges": exact,
        "estimated_charges": estimated.total(),
        "billed_by_models": sum(bills.values()),
        "billed_and_estimated": unclaimed.total(),
        "differences": differences,
    }


def _bill_of(row: DecisionRow, charge: RowCharge, requests: Mapping[str, str], unclaimed: Counter[Bill]) -> Bill | None:
    usage = (charge.model, charge.input, charge.cached, charge.output)
    shadow = row.id.removesuffix(".shadow")
    request_id = f"{shadow}-shadow" if row.o == "shadow" else requests.get(row.id)
    if request_id is not None:
        bill = Bill(request_id, *usage)
        return bill if unclaimed[bill] > 0 else None
    known = set(requests.values())
    fitting = (bill for bill, n in unclaimed.items() if n > 0 and bill[1:] == usage and bill.request_id not in known)
    return next(fitting, None)


def _nano(bill: Bill) -> int:
    """By hand: the prices are whole nano-dollars a token."""
    price = PRICES[bill.model]
    return bill.input * round(price["input"] * 1000) + bill.output * round(price["output"] * 1000)


def _sums_of(rows: list[DecisionRow]) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for row in rows:
        sums[f" {TEACHER_ONLY}"] += row.to
        for charge in row.ch:
            sums[f"{charge.model} {charge.origin}"] += charge.nano
    return dict(+sums)


def _hourly_sums(redis_url: str) -> dict[str, int]:
    """Nano-dollars by model and origin, over all hours."""
    sums: Counter[str] = Counter()
    with redis.Redis.from_url(redis_url) as client:
        for key in client.scan_iter(match=f"{PREFIX}hour:*"):
            for name, value in client.hgetall(key).items():
                _, _, _, model, origin = json.loads(name.partition(b"|")[2])
                sums[f"{model} {origin}"] += int(value)
    return dict(+sums)


def _bills(record: Path) -> Counter[Bill]:
    return Counter(Bill(*json.loads(line)) for line in record.read_text().splitlines())


def _by_origin(rows: list[DecisionRow]) -> dict[str, str]:
    sums: Counter[str] = Counter()
    for row in rows:
        sums.update(row.c)
    return {origin: f"{nano / 1e9:.9f}" for origin, nano in sums.items()}


def _config(teacher: int, student: int, folder: Path) -> dict[str, Any]:
    model: dict[str, Any] = {"context_tokens": 256, "supports": ["logprobs"]}
    return {
        "server": {"auth": "none"},
        "evidence": {"spool_dir": str(folder / "spool")},
        "ledger": {"state_dir": str(folder / "ledger")},
        "models": {
            "teacher": {"base_urls": [f"http://{HOST}:{teacher}/v1"], "price": PRICES["teacher"], **model},
            "student": {"base_urls": [f"http://{HOST}:{student}/v1"], "price": PRICES["student"], **model},
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


async def traffic(port: int, plans: list[tuple[str, int | None]], concurrency: int, name: str) -> list[Client]:
    """Sends everything. `name`: what the request ids begin with."""
    limit = asyncio.Semaphore(concurrency)
    numbered = enumerate(plans)
    return await asyncio.gather(*(_request(port, f"{name}-{n}", path, leave, limit) for n, (path, leave) in numbered))


async def _request(port: int, request_id: str, path: str, leave_after: int | None, limit: asyncio.Semaphore) -> Client:
    body = json.dumps({"model": "auto", "stream": True, **ENDPOINTS[path]}).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: {request_id}\r\n"
    head += f"content-length: {len(body)}\r\n\r\n"
    async with limit:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(head.encode() + body)
        received = b""
        while leave_after is None or len(received) < leave_after:
            data = await reader.read(256)
            if not data:
                break
            received += data
        left_early = not reader.at_eof()
        writer.transport.abort()
    decision = DECISION_HEADER.search(received)
    return Client(request_id, decision[1].decode() if decision else "", left_early)


# The models' processes


def serve_model(model: str, port: str, record: str) -> None:
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ[variable] = "1"
    app = _Billing(embedded.create_app(embedded.resolve_model(model), model), model, Path(record))
    uvicorn.run(app, host=HOST, port=int(port), log_level="warning", timeout_keep_alive=75, timeout_graceful_shutdown=1)


class _Billing:
    """The application, which writes down the usage that it reports before anybody gets to see it."""

    def __init__(self, app: ASGIApp, model: str, record: Path) -> None:
        self._app = app
        self._model = model
        self._file = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def billed(message: Message) -> None:
            if found := USAGE.search(message.get("body", b"")):
                usage = json.JSONDecoder().raw_decode(message["body"][found.end() - 1 :].decode())[0]
                self._write(dict(scope["headers"])[b"x-request-id"].decode(), usage)
            await send(message)

        await self._app(scope, receive, billed)

    def _write(self, request_id: str, usage: dict[str, Any]) -> None:
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        bill = Bill(request_id, self._model, usage["prompt_tokens"], cached, usage["completion_tokens"])
        os.write(self._file, json.dumps(bill).encode() + b"\n")


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
        return [decode_row(fields[b"r"]) for _, fields in client.xrange(shard_key(0, DECISIONS))]


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
