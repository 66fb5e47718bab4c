"""SIGTERM under load: two workers, a Redis and a billing upstream as processes, and clients that keep coming.

`run_shutdown` gives a `Shutdown`; its `problems` are the rows and the money that were lost.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
import redis.asyncio as aioredis

from router.evidence.streams import DECISIONS, shard_key
from router.ledger.journal import journals
from router.ledger.names import PREFIX, TEACHER_ONLY
from router.ledger.status import BudgetStatus, read_status
from router.record.row import DecisionRow, decode_row
from router.settings import parse
from tests.support.billing_upstream import MODELS, BillingUpstream, Call
from tests.support.budget_run import Scenario, config_of, running_workers
from tests.support.gateway import STUDENT_PRICE, TEACHER_PRICE
from tests.support.load import Load, Result
from tests.support.redis_process import RedisProcess

PRICES: Mapping[str, Mapping[str, float]] = {"teacher": TEACHER_PRICE, "student": STUDENT_PRICE}
CLIENTS = 60
BEFORE_S = 1.5
AFTER_S = 0.5
SCENARIO = Scenario("SIGTERM", "student", workers=2, hang_ups=0.1)


@dataclass
class Shutdown:
    """`finished`: answers that are complete although SIGTERM came in the middle of them."""

    rows: int = 0
    clients: dict[str, int] = field(default_factory=dict)
    finished: int = 0
    cut_off: int = 0
    completed_calls: int = 0
    nano: int = 0
    exit_s: float = 0.0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Books:
    """What is left in Redis: the rows, and the hours' sums of money by model and origin."""

    rows: Mapping[str, DecisionRow]
    sums: Mapping[tuple[str, str], int]


def run_shutdown(folder: Path, seed: int = 1, *, drain_s: float = 20, tokens: tuple[int, int] = (8, 24)) -> Shutdown:
    """Load, SIGTERM in the middle of it, then the books. `drain_s`: how long running requests may finish."""
    return asyncio.run(_run(folder, seed, drain_s, tokens))


async def _run(folder: Path, seed: int, drain_s: float, tokens: tuple[int, int]) -> Shutdown:
    with RedisProcess(folder) as server, BillingUpstream(folder, tokens) as upstream:
        config = config_of(SCENARIO, upstream.base_url, server.url, folder)
        config["server"]["drain_s"] = drain_s
        with running_workers(folder, config, SCENARIO.workers) as router:
            load = Load(router.port, CLIENTS, BEFORE_S + AFTER_S, seed, hang_ups=SCENARIO.hang_ups)
            running = asyncio.create_task(load.run())
            await asyncio.sleep(BEFORE_S)
            told = time.time()
            router.signal(signal.SIGTERM)
            await asyncio.to_thread(router.process.wait)
            exit_s = round(time.time() - told, 2)
            results = await running
        calls = [call for model in MODELS for call in upstream.calls(model)]
        statuses = await _statuses(config, server.url)
        found = Shutdown(exit_s=exit_s)
        _look(found, results, told, calls, _books(server.url), statuses)
        if left := journals(folder / "ledger"):
            found.problems.append(f"journals are left: {left}")
    return found


async def _statuses(config: Mapping[str, Any], url: str) -> list[BudgetStatus]:
    client = aioredis.Redis.from_url(url)
    try:
        return await read_status(client, parse(json.dumps(config), {}).config.budgets, time.time())
    finally:
        await client.aclose()


def _books(url: str) -> Books:
    sums: Counter[tuple[str, str]] = Counter()
    with redis.Redis.from_url(url) as client:
        rows = [decode_row(fields[b"r"]) for _, fields in client.xrange(shard_key(0, DECISIONS))]
        for key in client.scan_iter(match=f"{PREFIX}hour:*"):
            for name, value in client.hgetall(key).items():
                _, _, _, model, origin = json.loads(name.partition(b"|")[2])
                sums[model, origin] += int(value)
    return Books({row.id: row for row in rows}, sums)


def _look(
    found: Shutdown, results: list[Result], told: float, calls: list[Call], books: Books, statuses: list[BudgetStatus]
) -> None:
    found.rows = len(books.rows)
    found.clients = dict(Counter(result.kind for result in results))
    found.finished = sum(result.kind == "answered" and result.began < told < result.ended for result in results)
    found.cut_off = sum(call.state == "cut off" for call in calls)
    found.problems += _lost_rows(results, books)
    found.problems += _lost_money(found, calls, results, books)
    charged = sum(charge.nano for row in books.rows.values() for charge in row.ch if charge.model == "teacher")
    for status in statuses:
        unproven = status.presumed_nano and not found.cut_off  # a whole answer that was cut off may have cost it all
        if status.reserved_nano or unproven or status.spent_nano != charged:
            found.problems.append(f"the rows say {charged}, the budget {status}")


def _lost_rows(results: list[Result], books: Books) -> list[str]:
    """Who got the head of an answer has a row, and the row of a complete answer says so."""
    problems = [f"{r.request_id}: {r.detail}" for r in results if r.kind == "unexpected"]
    for result in results:
        row = books.rows.get(result.decision_id)
        if result.decision_id and row is None:
            problems.append(f"{result.request_id} ({result.kind}) has no row")
        if result.kind == "answered" and row and row.o != "ok":
            problems.append(f"{result.request_id} was answered, its row says {row.o}")
    return problems


def _lost_money(found: Shutdown, calls: list[Call], results: list[Result], books: Books) -> list[str]:
    problems = []
    of_rows: Counter[tuple[str, str]] = Counter()
    for row in books.rows.values():
        of_rows.update({("", TEACHER_ONLY): row.to})
        for charge in row.ch:
            of_rows[charge.model, charge.origin] += charge.nano
    if +of_rows != +Counter(books.sums):
        problems.append(f"the rows add up to {dict(of_rows)}, the hours' sums to {dict(books.sums)}")
    decisions = {result.request_id: result.decision_id for result in results if result.kind == "answered"}
    for call in calls:
        if call.state != "complete" or call.request_id not in decisions:
            continue
        found.completed_calls += 1
        row = books.rows[decisions[call.request_id]]
        charges = [charge for charge in row.ch if charge.model == call.model]
        nano = call.nano(PRICES[call.model])
        found.nano += nano
        if [(c.nano, c.input, c.cached, c.output, c.estimated) for c in charges] != [
            (nano, call.input, call.cached, call.output, 0)
        ]:
            problems.append(f"{call.request_id}: the upstream billed {call}, the row says {charges}")
    if answered := len(decisions) - found.completed_calls:
        problems.append(f"{answered} answers have no complete call upstream")
    return problems
