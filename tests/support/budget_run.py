"""Budgets under load and kills: several workers, a Redis and a billing upstream as processes, 400 clients at once.

`run_budget` gives a `Report`; its `problems` are what must never be. The upstream's own record is the truth.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil
import redis.asyncio as aioredis

from router.auth import ANYBODY
from router.ledger.bound import worst_nano
from router.ledger.journal import journals
from router.ledger.pricing import NANO_PER_USD
from router.ledger.status import BudgetStatus, read_status
from router.request import ClientRequest, parse_fields
from router.settings import Config, parse
from router.upstream.model import ModelClient
from router.wire.body import outgoing
from tests.support.billing_upstream import MODELS, BillingUpstream, Call
from tests.support.gateway import STUDENT_PRICE, TEACHER_PRICE
from tests.support.keys import sha256
from tests.support.load import Load, Result, request_body
from tests.support.redis_process import RedisProcess
from tests.support.router_process import Router, until

Fault = Literal["worker", "gateway", "redis", "redis loses all"]
Faults = tuple[tuple[float, Fault], ...]
LEASE_S = 2.0
MARGIN_S = 1.5
REDIS_AWAY_S = 0.5
CALLS = 50
KEYS = {"sk-a": ("a", "x"), "sk-b": ("b", "x"), "sk-c": ("c", "y"), "sk-d": ("d", "y")}


@dataclass(frozen=True)
class Scenario:
    """One run. `faults`: what is killed, and when (seconds after the start). `scoped`: budgets of keys and tenants too.

    `hang_ups`, `streams`: shares of the requests. `calls`: the limit, in calls at their dearest. `tokens`, `token_s`,
    `cached`: how the upstream answers.
    """

    name: str
    on_spent: Literal["student", "refuse"] = "refuse"
    window: str = "month"
    scoped: bool = False
    appendfsync: Literal["everysec", "always"] = "everysec"
    hang_ups: float = 0.0
    streams: float = 0.5
    calls: int = CALLS
    tokens: tuple[int, int] = (8, 24)
    token_s: float = 0.03
    cached: bool = True
    faults: Faults = ()
    seconds: float = 8.0
    workers: int = 4
    clients: int = 400


@dataclass(frozen=True)
class Balance:
    """One budget of one member at the end; nano-dollars."""

    budget: str
    member: str
    limit: int
    billed: int
    spent: int
    presumed: int
    reserved: int


@dataclass
class Report:
    """What happened in one run. `released_s`: from the clients' end until nothing was reserved."""

    scenario: str
    seed: int
    balances: list[Balance] = field(default_factory=list)
    clients: dict[str, int] = field(default_factory=dict)
    teacher_calls: int = 0
    student_calls: int = 0
    cut_off_calls: int = 0
    killed: int = 0
    released_s: float = 0.0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def used(self) -> float:
        """How much of its limit the budget billed that came closest to it."""
        return max(balance.billed / balance.limit for balance in self.balances)


@dataclass
class Kills:
    """Who was killed: the ports of clients whose connection a dead worker had, and how many processes."""

    ports: set[int] = field(default_factory=set)
    count: int = 0
    whole_gateway: list[tuple[float, float]] = field(default_factory=list)

    def excuses(self, result: Result) -> bool:
        """Whether a broken connection is the fault of a kill."""
        while_away = any(began <= result.ended and result.began <= ended for began, ended in self.whole_gateway)
        return result.port in self.ports or while_away


def config_of(scenario: Scenario, upstream: str, redis_url: str, folder: Path) -> dict[str, Any]:
    """The gateway's configuration, with a limit of so many times the dearest call."""
    model: dict[str, Any] = {
        "base_urls": [upstream],
        "max_output_tokens": 64,
        "template_tokens": 16,
        "retries": 0,
        "health": {"interval_s": 3600},
        "max_in_flight": 1024,
    }
    config: dict[str, Any] = {
        "server": {"auth": "keys" if scenario.scoped else "none", "workers": scenario.workers, "reload": False},
        "redis": {"url": redis_url},
        "evidence": {"spool_dir": str(folder / "spool")},
        "ledger": {"state_dir": str(folder / "ledger"), "lease_s": LEASE_S},
        "models": {"teacher": model | {"price": TEACHER_PRICE}, "student": model | {"price": STUDENT_PRICE}},
        "routes": {
            "auto": {"teacher": "teacher", "student": "student", "policy": {"kind": "fixed", "model": "teacher"}}
        },
    }
    if scenario.scoped:
        config["keys"] = [
            {"name": name, "sha256": sha256(key), "tenant": tenant} for key, (name, tenant) in KEYS.items()
        ]
    worst = worst_call(parse(json.dumps(config), {}).config)
    return config | {"budgets": _budgets(scenario, worst)}


def _budgets(scenario: Scenario, worst: int) -> dict[str, Any]:
    common: dict[str, Any] = {"window": scenario.window, "counts": "teacher", "on_spent": scenario.on_spent}
    limit = scenario.calls * worst / NANO_PER_USD
    budgets: dict[str, Any] = {"all": common | {"limit_usd": limit}}
    if scenario.scoped:
        budgets |= {
            "each-key": common | {"each": "key", "limit_usd": limit * 0.35},
            "tenant-x": common | {"tenant": "x", "limit_usd": limit * 0.6},
            "route": common | {"route": "auto", "limit_usd": limit * 0.9},
        }
    return budgets


def worst_call(config: Config) -> int:
    """The dearest that one of the load's requests can get with the teacher."""
    teacher = ModelClient("teacher", config.models["teacher"], None)
    worst = []
    for stream in (True, False):
        body = request_body(stream)
        request = ClientRequest("chat", body, [], ANYBODY, parse_fields(body))
        worst.append(worst_nano(request, teacher, outgoing(request, teacher, bounded=True), teacher.prices))
    return max(worst)


def run_budget(scenario: Scenario, seed: int, folder: Path) -> Report:
    """One run from start to end."""
    return asyncio.run(_Run(scenario, seed, folder).run())


class _Run:
    def __init__(self, scenario: Scenario, seed: int, folder: Path) -> None:
        self._scenario = scenario
        self._folder = folder
        self._rng = random.Random(seed)
        self._seed = seed
        self._kills = Kills()
        self._report = Report(scenario.name, seed)

    async def run(self) -> Report:
        scenario, started = self._scenario, time.monotonic()
        with (
            RedisProcess(self._folder, scenario.appendfsync) as self._redis,
            BillingUpstream(self._folder, scenario.tokens, scenario.token_s, cached=scenario.cached) as self._upstream,
        ):
            config = config_of(scenario, self._upstream.base_url, self._redis.url, self._folder)
            self._config = parse(json.dumps(config), {}).config
            with running_workers(self._folder, config, scenario.workers) as self._router:
                results = await self._load()
                await self._released()
            statuses = await self._statuses()
            calls = {model: self._upstream.calls(model) for model in MODELS}
        if left := journals(self._folder / "ledger"):
            self._problem(f"journals are left after the gateway's end: {left}")
        self._books(statuses, calls["teacher"], {result.request_id: result.key for result in results})
        self._count(results, calls)
        self._report.seconds = round(time.monotonic() - started, 1)
        return self._report

    async def _load(self) -> list[Result]:
        scenario = self._scenario
        keys = tuple(KEYS) if scenario.scoped else ("",)
        load = Load(
            self._router.port, scenario.clients, scenario.seconds, self._seed, keys, scenario.hang_ups, scenario.streams
        )
        faults = asyncio.create_task(self._do_faults())
        results = await load.run()
        await faults
        return results

    # --- what is killed

    async def _do_faults(self) -> None:
        started = time.monotonic()
        doing = {"worker": self._kill_worker, "gateway": self._kill_gateway}
        for at, fault in self._scenario.faults:
            await asyncio.sleep(max(0.0, started + at - time.monotonic()))
            if fault in doing:
                await asyncio.to_thread(doing[fault])
            else:
                await self._kill_redis(loses_all=fault == "redis loses all")

    def _kill_worker(self) -> None:
        """Stopped first, so that it takes no connection between the look at its connections and its death."""
        workers = self._router.workers()
        if workers:
            self._kill(self._rng.choice(workers))

    def _kill(self, worker: psutil.Process) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.suspend()
            self._kills.ports |= {link.raddr.port for link in worker.net_connections("tcp") if link.raddr}
            worker.kill()
            self._kills.count += 1

    def _kill_gateway(self) -> None:
        """All of it, and a new one on the same port."""
        began = time.time()
        for process in self._router.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                self._kills.count += 1
        self._router.process.wait()
        self._router.__enter__()
        self._kills.whole_gateway.append((began, time.time()))

    async def _kill_redis(self, *, loses_all: bool) -> None:
        self._redis.kill()
        self._kills.count += 1
        if loses_all:
            self._redis.lose_everything()
        await asyncio.sleep(REDIS_AWAY_S)
        await asyncio.to_thread(self._redis.start)

    # --- what must hold

    async def _released(self) -> None:
        """One lease lifetime after the end, with the workers still there, nothing is reserved."""
        started = time.monotonic()
        while reserved := sum(status.reserved_nano for status in await self._statuses()):
            if time.monotonic() - started > LEASE_S + MARGIN_S:
                self._problem(f"{reserved} nano-dollars are still reserved {LEASE_S + MARGIN_S:g} s after the end")
                return
            await asyncio.sleep(0.1)
        self._report.released_s = round(time.monotonic() - started, 1)

    async def _statuses(self) -> list[BudgetStatus]:
        client = aioredis.Redis.from_url(self._redis.url)
        try:
            return await read_status(client, self._config.budgets, time.time())
        finally:
            await client.aclose()

    def _books(self, statuses: list[BudgetStatus], calls: list[Call], keys: Mapping[str, str]) -> None:
        for status in statuses:
            mine = [call for call in calls if _pays(status, keys[call.request_id])]
            billed = sum(call.nano(TEACHER_PRICE) for call in mine)
            balance = Balance(status.budget, status.member, status.limit_nano, billed, status.spent_nano,
                              status.presumed_nano, status.reserved_nano)  # fmt: skip
            self._report.balances.append(balance)
            self._judge(balance)

    def _judge(self, balance: Balance) -> None:
        name = f"budget {balance.budget} {balance.member}".strip()
        if balance.billed > balance.limit:
            self._problem(f"{name}: billed {balance.billed} is {balance.billed - balance.limit} above its limit")
        if balance.reserved:
            self._problem(f"{name}: {balance.reserved} are reserved after the gateway's end")
        if balance.spent + balance.presumed < balance.billed:
            missing = balance.billed - balance.spent - balance.presumed
            self._problem(f"{name}: {missing} of what was billed are neither spent nor presumed spent")
        exact = not (self._scenario.faults or self._scenario.hang_ups)
        if exact and (balance.spent, balance.presumed) != (balance.billed, 0):
            self._problem(f"{name}: spent {balance.spent}, presumed {balance.presumed}, but billed {balance.billed}")

    def _count(self, results: list[Result], calls: Mapping[str, list[Call]]) -> None:
        report = self._report
        report.clients = dict(Counter(result.kind for result in results))
        report.killed = self._kills.count
        report.teacher_calls, report.student_calls = len(calls["teacher"]), len(calls["student"])
        report.cut_off_calls = sum(call.state == "cut off" for call in calls["teacher"])
        for result in results:
            if result.kind in ("failed", "unexpected"):
                self._problem(f"{result.request_id}: {result.detail}")
            if result.kind == "broken" and not self._kills.excuses(result):
                self._problem(f"{result.request_id}: the connection broke, and no worker that had it was killed")

    def _problem(self, text: str) -> None:
        self._report.problems.append(text)


def _pays(status: BudgetStatus, key: str) -> bool:
    """Whether a call with this API key was for the budget's account."""
    name, tenant = KEYS.get(key, ("", ""))
    return status.member in ("", "auto", name, tenant)


@contextlib.contextmanager
def running_workers(folder: Path, config: Mapping[str, Any], workers: int) -> Iterator[Router]:
    """`distill-router serve`, once all of its workers take requests."""
    with Router(folder, config, "--workers", str(workers)) as router:
        until(lambda: router.log.read_text().count("Application startup complete") == workers, "all workers")
        yield router
