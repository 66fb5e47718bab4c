"""Ten minutes of traffic while Redis and the gateway are killed, filled and frozen: is any record lost without a count?

    python bench/faults.py [--seconds 600] [--rate 200] [--models-rate 10] [--json FILE]

200 requests a second go to a C upstream (route `mock`, 5% audited), 10 a second to the demo's models (route `auto`, a
cascade, 20% audited), half of them streamed, through a gateway of two workers with a Redis that keeps an append-only
file; the archive follows all the time. On the way Redis is killed and started again, filled to its limit, frozen; a
worker and the whole gateway are killed (SIGKILL), once together with Redis. What must hold at the end:

- no client sees an error but for requests in flight on a process that was killed, and while no gateway was there;
- no record is in the streams or in the archive twice;
- produced = in Redis (ever added) + still in the spool + dropped by reason;
- every answer that a client got has its row in the archive, or its loss is among the counted ones, or among what the
  full Redis trimmed before the archive, which writes a file a minute, took it.

Exit status 1 where any of this fails. Needs gcc and redis-server 7, which counts what was ever added to a stream.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow.dataset
import redis

from router.cli.demo import CALIBRATION
from router.evidence.counts import read_totals
from router.evidence.retention import SHIPMENTS, day_key, window
from router.evidence.scripts import marker_key
from router.evidence.spool import read_spool
from router.evidence.streams import DECISIONS, STREAMS, SUMS_SHARD, shard_key
from serving.demo.tasks import workload
from tests.support.load import Answer
from tests.support.redis_process import RedisProcess
from tests.support.router_process import COMMAND, Router, environment, until
from tests.support.server_process import HOST, free_port

SHARDS = 2
MAXMEMORY = 96 * 1024 * 1024
JUNK = 256 * 1024
PATIENCE_S = 60.0
SETTLE_S = 8.0
# What happens when, as a share of the run.
FAULTS = (
    (0.08, "kill redis"),
    (0.11, "start redis"),
    (0.20, "fill redis"),
    (0.32, "empty redis"),
    (0.38, "kill worker"),
    (0.45, "kill gateway"),
    (0.55, "freeze redis"),
    (0.58, "thaw redis"),
    (0.66, "kill redis and gateway"),
    (0.69, "start redis"),
    (0.78, "kill gateway"),
    (0.86, "kill redis"),
    (0.87, "start redis"),
)


@dataclass
class Outcome:
    """What the clients saw. `excused`: in flight on a killed process; `absent`: no gateway was there to connect to."""

    sent: int = 0
    answered: int = 0
    excused: int = 0
    absent: int = 0
    wrong: list[str] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)


@dataclass
class Away:
    """When processes that clients talk to were killed, and when a gateway was there again."""

    kills: list[tuple[float, float]] = field(default_factory=list)
    spans: list[tuple[float, float]] = field(default_factory=list)

    def in_flight(self, began: float, ended: float) -> bool:
        return any(began <= until and since <= ended for since, until in self.kills)

    def no_gateway(self, began: float, ended: float) -> bool:
        return any(began <= until and since <= ended for since, until in self.spans)


@dataclass
class Figures:
    """The books at the end."""

    seconds: float
    clients: dict[str, int]
    produced: int
    added: dict[str, int]
    shipments: int
    waiting: int
    dropped: int
    crashed: int
    lost: int
    archived: dict[str, int]
    trimmed: int
    duplicates: int
    rows_missing: int
    problems: list[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--models-rate", type=float, default=10)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        figures = run(Path(folder), options.seconds, options.rate, options.models_rate)
    text = json.dumps(asdict(figures), indent=1)
    print(text)
    if options.json:
        options.json.write_text(text)
    sys.exit(bool(figures.problems))


def run(folder: Path, seconds: float, rate: float, models_rate: float) -> Figures:
    with ExitStack() as stack:
        server = stack.enter_context(RedisProcess(folder, binary=_redis_seven()))
        _limit(server)
        mock = _mock(stack, folder)
        models = {name: _model(stack, folder, name) for name in ("teacher", "student")}
        router = stack.enter_context(Router(folder, _config(folder, server, mock, models), "--workers", "2"))
        archive = _follow(stack, folder, router)
        outcome, away = Outcome(), Away()
        asyncio.run(_traffic(router, server, outcome, away, seconds, rate, models_rate))
        time.sleep(SETTLE_S)
        router.process.send_signal(signal.SIGTERM)
        router.process.wait(PATIENCE_S)
        time.sleep(SETTLE_S)
        archive.send_signal(signal.SIGINT)
        archive.wait(PATIENCE_S)
        subprocess.run(_archiving(router, folder), env=environment(), check=True, timeout=PATIENCE_S, cwd=folder)
        return _books(folder, server, outcome, seconds)


def _config(folder: Path, server: RedisProcess, mock: str, models: dict[str, str]) -> dict[str, Any]:
    free = {"price": {"input": 2, "output": 8}, "health": {"interval_s": 3600}, "max_in_flight": 1024, "retries": 0}
    toy = free | {"context_tokens": 512, "bytes_per_token": 1.0, "supports": ["tools", "logprobs"]}
    cascade = {"kind": "cascade", "escalate_at": 0.3, "calibration": json.loads(CALIBRATION.read_text())}
    return {
        "server": {"auth": "none", "reload": False, "drain_s": 10},
        "redis": {"url": server.url},
        "evidence": {"spool_dir": str(folder / "spool"), "shards": SHARDS, "decisions_max": 10_000_000},
        "ledger": {"state_dir": str(folder / "ledger")},
        "models": {
            "mock-teacher": free | {"base_urls": [mock]},
            "mock-student": free | {"base_urls": [mock]},
            **{name: toy | {"base_urls": [url]} for name, url in models.items()},
        },
        "routes": {
            "mock": {
                "teacher": "mock-teacher",
                "student": "mock-student",
                "policy": {"kind": "split", "student_share": 0.5, "sticky": False},
                "audit": {"rate": 0.05},
            },
            "auto": {"teacher": "teacher", "student": "student", "policy": cascade, "audit": {"rate": 0.2}},
        },
    }


# --- processes


def _redis_seven() -> str:
    binary = shutil.which("redis-server")
    if binary is None or " v=7" not in subprocess.run([binary, "-v"], capture_output=True, text=True).stdout:
        raise SystemExit("redis-server 7 is needed: apt install redis-server")
    return binary


def _mock(stack: ExitStack, folder: Path) -> str:
    source, program = Path(__file__).parent / "gateway" / "upstream.c", folder / "upstream"
    subprocess.run(["gcc", "-O2", "-o", program, source], check=True)
    port = free_port()
    stack.enter_context(_Process([str(program), str(port)], folder / "upstream.log"))
    return f"http://{HOST}:{port}/v1"


def _model(stack: ExitStack, folder: Path, name: str) -> str:
    port = free_port()
    command = [*COMMAND, "embedded", "--model", name, "--port", str(port)]
    stack.enter_context(_Process(command, folder / f"{name}.log"))
    return f"http://{HOST}:{port}/v1"


def _archiving(router: Router, folder: Path) -> list[str]:
    return [*COMMAND, "disagreements", "archive", "--config", str(router.path), "--to", str(folder / "archive")]


def _follow(stack: ExitStack, folder: Path, router: Router) -> subprocess.Popen[bytes]:
    process = _Process([*_archiving(router, folder), "--follow"], folder / "archive.log")
    stack.enter_context(process)
    return process.process


class _Process:
    """A child that ends with the context."""

    def __init__(self, command: list[str], log: Path) -> None:
        with log.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=environment(), cwd=log.parent)

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def _limit(server: RedisProcess) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", MAXMEMORY)


def _fill(server: RedisProcess) -> None:
    """Junk until Redis refuses it."""
    with redis.Redis.from_url(server.url) as client, suppress(redis.ResponseError):
        for number in range(MAXMEMORY // JUNK):
            client.set(f"junk:{number}", b"x" * JUNK)


def _empty(server: RedisProcess) -> None:
    with redis.Redis.from_url(server.url) as client:
        for key in client.scan_iter("junk:*"):
            client.delete(key)


# --- traffic and faults


async def _traffic(
    router: Router,
    server: RedisProcess,
    outcome: Outcome,
    away: Away,
    seconds: float,
    rate: float,
    models_rate: float,
) -> None:
    rng = random.Random(1)
    asking: set[asyncio.Task[None]] = set()

    async def send(requests: Iterator[bytes], per_second: float) -> None:
        started = time.monotonic()
        number = 0
        while (now := time.monotonic()) < started + seconds:
            if now < started + number / per_second:
                await asyncio.sleep(started + number / per_second - now)
            number += 1
            task = asyncio.create_task(_ask(router.port, next(requests), outcome, away))
            asking.add(task)
            task.add_done_callback(asking.discard)

    faults = asyncio.create_task(_faults(router, server, away, seconds))
    await asyncio.gather(send(_mock_requests(rng), rate), send(_model_requests(rng), models_rate))
    await faults
    if asking:
        await asyncio.wait(asking)


async def _faults(router: Router, server: RedisProcess, away: Away, seconds: float) -> None:
    started = time.monotonic()
    for share, fault in FAULTS:
        await asyncio.sleep(max(0.0, started + share * seconds - time.monotonic()))
        print(f"{time.monotonic() - started:6.1f} s  {fault}", flush=True)
        await asyncio.to_thread(_strike, fault, router, server, away)


def _strike(fault: str, router: Router, server: RedisProcess, away: Away) -> None:
    if "kill redis" in fault:
        server.kill()
    if fault == "start redis":
        server.start()
        _limit(server)
    if fault == "fill redis":
        _fill(server)
    if fault == "empty redis":
        _empty(server)
    if fault == "freeze redis":
        server.freeze()
    if fault == "thaw redis":
        server.thaw()
    if fault == "kill worker":
        since = time.monotonic()
        router.workers()[0].kill()
        away.kills.append((since, time.monotonic()))
    if "gateway" in fault:
        _restart(router, away)


def _restart(router: Router, away: Away) -> None:
    processes = [process for process in router.family() if "redis" not in process.name()]
    since = time.monotonic()
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    away.kills.append((since, time.monotonic()))
    router.process.wait()
    away.spans.append((since, float("inf")))
    router.__enter__()
    until(router.answers, "the gateway again")
    away.spans[-1] = (since, time.monotonic())


async def _ask(port: int, request: bytes, outcome: Outcome, away: Away) -> None:
    outcome.sent += 1
    began = time.monotonic()
    answer = Answer()
    stream = b'"stream": true' in request
    try:
        async with asyncio.timeout(PATIENCE_S):
            await answer.exchange(port, request, None, None)
        kind, detail = answer.judge(stream)
    except TimeoutError:
        kind, detail = "unexpected", "no end"
    ended = time.monotonic()
    if kind == "answered":
        outcome.answered += 1
        outcome.decisions.append(answer.headers()["x-router-decision-id"])
    elif kind == "broken" and away.in_flight(began, ended):
        outcome.excused += 1
    elif kind == "broken" and not answer.headers() and away.no_gateway(began, ended):
        outcome.absent += 1
    else:
        outcome.wrong.append(f"{kind} after {ended - began:.2f} s: {detail[:200]}")


def _mock_requests(rng: random.Random) -> Iterator[bytes]:
    while True:
        yield _request("mock", [{"role": "user", "content": f"question {rng.random()}"}], rng.random() < 0.5)


def _model_requests(rng: random.Random) -> Iterator[bytes]:
    seed = 0
    while True:
        seed += 1
        for example in workload(500, seed):
            message = {"role": "user", "content": example.prompt}
            yield _request("auto", [message], rng.random() < 0.5, list(example.tools))


def _request(model: str, messages: list[Any], stream: bool, tools: list[Any] | None = None) -> bytes:
    body = {"model": model, "messages": messages, "stream": stream, **({"tools": tools} if tools else {})}
    data = json.dumps(body).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(data)}\r\n\r\n".encode() + data


# --- the books


def _books(folder: Path, server: RedisProcess, outcome: Outcome, seconds: float) -> Figures:
    totals = read_totals(folder / "spool")
    keys = [(stream, shard_key(shard, stream)) for stream in STREAMS for shard in range(SHARDS)]
    added: Counter[str] = Counter()
    twice = 0
    with redis.Redis.from_url(server.url, decode_responses=False) as client:
        for stream, key in keys:
            if client.exists(key):
                added[stream] += client.xinfo_stream(key)["entries-added"]
                twice += _twice([_id(fields[b"r"]) for _, fields in client.xrange(key)])
        days = window(time.time(), 2)
        hashes = [client.hget(shard_key(SUMS_SHARD, day_key(day)), SHIPMENTS) for day in days]
        shipments = sum(int(float(value)) for value in hashes if value)
        waiting = sum(1 for stream in STREAMS for _ in read_spool(folder / "spool", stream, _marker(client)))
    archived, archived_twice, rows = _archived(folder / "archive")
    missing = len(set(outcome.decisions) - rows)
    figures = Figures(
        seconds=seconds,
        clients={
            "sent": outcome.sent,
            "answered": outcome.answered,
            "in flight on a killed process": outcome.excused,
            "no gateway there": outcome.absent,
            "wrong": len(outcome.wrong),
        },
        produced=totals.produced,
        added=dict(added),
        shipments=shipments,
        waiting=waiting,
        dropped=totals.dropped,
        crashed=totals.crashed,
        lost=totals.lost,
        archived=archived,
        trimmed=sum(added[stream] - archived.get(stream, 0) for stream in STREAMS),
        duplicates=twice + archived_twice,
        rows_missing=missing,
        problems=outcome.wrong[:10],
    )
    accounted = sum(added.values()) + shipments + waiting + totals.dropped + totals.crashed + totals.lost
    if accounted != totals.produced:
        figures.problems.append(f"produced {totals.produced}, accounted for {accounted}")
    if figures.duplicates:
        figures.problems.append(f"{figures.duplicates} records are there twice")
    trimmed_rows = added[DECISIONS] - archived.get(DECISIONS, 0)
    if missing > totals.dropped + totals.crashed + totals.lost + trimmed_rows:
        figures.problems.append(f"{missing} rows of answered requests are missing, more than were counted as lost")
    return figures


def _marker(client: redis.Redis) -> Callable[[str, int], int]:
    """What Redis has of each producer."""
    return lambda producer, shard: int(client.get(marker_key(shard, producer)) or 0)


def _archived(folder: Path) -> tuple[dict[str, int], int, set[str]]:
    """Records by stream, how many of them are there twice, and the ids of decision rows."""
    counts: dict[str, int] = {}
    twice = 0
    rows: set[str] = set()
    for stream in STREAMS:
        if not (folder / stream).exists():
            continue
        ids = pyarrow.dataset.dataset(folder / stream, format="parquet").to_table(columns=["id"])["id"].to_pylist()
        counts[stream] = len(ids)
        twice += _twice(ids) if stream != "labels" else 0
        if stream == "decisions":
            rows = set(ids)
    return counts, twice, rows


def _twice(ids: list[str]) -> int:
    return len(ids) - len(set(ids))


def _id(record: bytes) -> str:
    return str(json.loads(record)["id"])


if __name__ == "__main__":
    main()
