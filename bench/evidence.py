"""What evidence costs on the request path, and how many records a second one core takes to Redis.

    python -m bench.evidence request    # CPU of a request that is not compared: its draws, and counting it
    python -m bench.evidence put        # CPU of a put
    python -m bench.evidence writer     # sustained, writer on one core and Redis on another

The last two run the real writer with its log on disk, the last one against a real Redis (append-only file, everysec).
Exit status 1 where a request costs more than 10 us (the goal is 3), or fewer than 10,000 records/s are sustained.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from policies.base import Decision
from policies.cascade import Cascade
from router.auth import ANYBODY
from router.evidence.counts import read_totals
from router.evidence.redis import TIMEOUT_S
from router.evidence.streams import DECISIONS
from router.evidence.writer import EvidenceWriter
from router.evidence_settings import Evidence
from router.exchange import Trace
from router.gateway import Gateway
from router.record.metrics import Metrics
from router.request import ClientRequest, parse_fields
from router.settings import Settings, parse
from tests.support.redis_process import RedisProcess

Figures = list[tuple[str, str]]

ROW_BYTES = 300
SECONDS = 10.0
TICK_S = 0.01
RATES = (10_000, 20_000, 40_000, 60_000)
PUTS = 10_000
REQUESTS = 50_000
MOST_US = 10.0
LEAST_RATE = 10_000
ROUNDS = 10


def measure_writer() -> Figures:
    """Records are put evenly; sustained is a rate at which nothing is dropped and nothing is left over at the end."""
    return asyncio.run(_writer())


async def _writer() -> Figures:
    figures: Figures = []
    for rate in RATES:
        with tempfile.TemporaryDirectory() as folder, RedisProcess(Path(folder)) as server:
            await _pin(server)
            figures.append((f"{rate:,} records/s for {SECONDS:.0f} s", await _at(rate, Path(folder) / "spool", server)))
    return figures


async def _at(rate: int, spool: Path, server: RedisProcess) -> str:
    writer = EvidenceWriter(Evidence(spool_dir=spool), Redis.from_url(server.url, socket_timeout=TIMEOUT_S), Metrics())
    writer.start()
    before, began = _cpu_s(), time.perf_counter()
    put, longest = 0, 0
    while (passed := time.perf_counter() - began) < SECONDS:
        while put < rate * passed:
            writer.put(DECISIONS, f"{put:022x}", b"x" * ROW_BYTES)
            put += 1
        longest = max(longest, writer.waiting)
        await asyncio.sleep(TICK_S)
    await writer.flush()
    took = time.perf_counter() - began
    cpu = _cpu_s() - before
    async with Redis.from_url(server.url) as client:
        there = sum([await client.xlen(key) async for key in client.scan_iter(match=f"*:{DECISIONS}")])
    dropped = read_totals(spool).dropped
    await writer.close()
    sustained = there >= 0.99 * put and not dropped
    _require(sustained or rate > LEAST_RATE, f"{LEAST_RATE:,} records/s are not sustained: {there} of {put}")
    return (
        f"{there / took:,.0f}/s in Redis, {dropped} dropped, {put - there - dropped} missing, "
        f"at most {longest} waiting, {cpu / took:.0%} of the core"
    )


def measure_request() -> Figures:
    """What the draws and the count add to a request; the same loop without them is subtracted."""
    return asyncio.run(_request())


async def _request() -> Figures:
    figures: Figures = []
    for name, more in (
        ("audit", {}),
        ("audit and every target", {"targeted": {"escalations": 0.1, "low_confidence": 0.1, "novelty": 1e-6}}),
    ):
        with tempfile.TemporaryDirectory() as folder:
            gateway = Gateway(_settings(Path(folder), more), Metrics(), None)
            trace = _answered(gateway)
            sampler, auditor = gateway.auditor.sampler, gateway.auditor
            costs = []
            for _ in range(ROUNDS):
                began = time.process_time()
                for _ in range(REQUESTS):
                    trace.sample = None
                without = time.process_time() - began
                began = time.process_time()
                for _ in range(REQUESTS):
                    trace.sample = None
                    sampler.before(trace)
                    sampler.after(trace)
                    auditor.submit(trace)
                costs.append((time.process_time() - began - without) / REQUESTS * 1e6)
        median = statistics.median(costs)
        figures.append((name, f"{median:.2f} us, median of {ROUNDS} ({min(costs):.2f} to {max(costs):.2f})"))
        _require(median <= MOST_US, f"a request costs {median:.2f} us, more than {MOST_US}")
    return figures


def _settings(folder: Path, audit: dict[str, Any]) -> Settings:
    """A cascade, and audits that hardly ever draw."""
    model = {"base_urls": ["http://127.0.0.1:9/v1"], "price": {"input": 1, "output": 1}}
    route = {"teacher": "teacher", "student": "student", "policy": {"kind": "cascade"}}
    config = {
        "server": {"auth": "none"},
        "evidence": {"spool_dir": str(folder / "spool")},
        "ledger": {"state_dir": str(folder / "ledger")},
        "models": {"teacher": model, "student": model},
        "routes": {"auto": route | {"audit": {"rate": 1e-12, **audit}}},
    }
    return parse(json.dumps(config), {})


def _answered(gateway: Gateway) -> Trace:
    """A request that the student answered, as it is after its answer."""
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "x" * 1000}]}).encode()
    request = ClientRequest("chat", body, [(b"host", b"x"), (b"accept", b"*/*")], ANYBODY, parse_fields(body))
    trace = Trace("0" * 22, request, gateway.runtime.resolve("auto", ANYBODY, None, None))
    assert isinstance(trace.target.policy, Cascade)
    trace.decision = Decision("student", "cascade", 0.0, trace.target.policy.gate)
    trace.arm, trace.reason, trace.outcome, trace.p_wrong = "student", "cascade", "ok", 0.01
    return trace


def measure_put() -> Figures:
    """Process CPU of one put, without what the writer's tasks do with it later."""
    return asyncio.run(_put())


async def _put() -> Figures:
    costs = []
    with tempfile.TemporaryDirectory() as folder:
        writer = EvidenceWriter(Evidence(spool_dir=Path(folder)), None, Metrics())
        writer.start()
        row, ids = b"x" * ROW_BYTES, [f"{number:022x}" for number in range(PUTS)]
        for _ in range(ROUNDS):
            began = time.process_time()
            for record_id in ids:
                writer.put(DECISIONS, record_id, row)
            costs.append((time.process_time() - began) / PUTS * 1e6)
            await writer.flush()
        await writer.close()
    return [
        ("CPU per put, median", f"{statistics.median(costs):.2f} us"),
        ("lowest, highest", f"{min(costs):.2f} us, {max(costs):.2f} us"),
    ]


async def _pin(server: RedisProcess) -> None:
    """This process on the first core, Redis on the last."""
    async with Redis.from_url(server.url) as client:
        os.sched_setaffinity((await client.info("server"))["process_id"], {(os.cpu_count() or 1) - 1})
    os.sched_setaffinity(0, {0})


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise SystemExit(problem)


PARTS: dict[str, Callable[[], Figures]] = {"request": measure_request, "put": measure_put, "writer": measure_writer}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    part = parser.parse_args().part
    table = Table("evidence", part)
    for name, figure in PARTS[part]():
        table.add_row(name, figure)
    Console().print(table)


if __name__ == "__main__":
    main()
