"""The ledger of one worker: reservations on the request path, and one task that talks with Redis behind it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import redis.asyncio as aioredis

from router.auth import Caller
from router.errors import BudgetSpent
from router.evidence.redis import Unreachable
from router.ledger.book import Book, Need, Talk, recovered
from router.ledger.gauges import BudgetGauges
from router.ledger.journal import Journal, journals, orphan
from router.ledger.lease import Account, Hold
from router.ledger.names import HOUR_S, RUN, TEACHER_ONLY
from router.ledger.pricing import NANO_PER_USD, usd
from router.ledger.purse import Purse, Scopes
from router.ledger.refusal import described, lost_budget, short_among, spent_among, was_just_full
from router.ledger.scripts import TALK
from router.record.metrics import Metrics
from router.record.row import DecisionRow
from router.settings import Config

log = logging.getLogger("distill_router.ledger")

DECLARE_S = 3.0  # after a restart of Redis: every living worker talks several times in it
REFRESH_S = 1.0
HURRIED_S = 0.05  # between two talks while requests wait for money
CLOSE_S = 3.0


@dataclass(slots=True, eq=False)
class Waiter:
    """A request that waits for money."""

    need: Need
    granted: asyncio.Future[Hold]


class Ledger:
    """One per process. `redis` None: no budgets, no sums; everything is allowed."""

    def __init__(self, config: Config, redis: aioredis.Redis | None, metrics: Metrics) -> None:
        self._config = config.ledger
        self._redis = redis
        self._metrics = metrics
        self._talk_script: Any = redis.register_script(TALK) if redis else None
        self._worker = uuid.uuid4().hex[:12]
        self._journal: Journal | None = None
        self._book = self._new_book(None)
        self._scopes = Scopes(config, self._book, time.time())
        self._purses: dict[tuple[Caller, str, bool], Purse] = {}
        self._waiters: list[Waiter] = []
        self._wanted = asyncio.Event()
        self._away = False
        self._gauges = BudgetGauges(metrics)
        self._talking_since: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._warned = False

    def _new_book(self, journal: Journal | None) -> Book:
        config = self._config
        return Book(self._worker, journal, config.lease_s / 2, REFRESH_S, config.sums_days * 86_400)

    async def start(self, config: Config) -> None:
        """Settle what dead workers left, then begin to talk."""
        if self._redis is None:
            return
        await self._recover()
        try:
            self._journal = await asyncio.to_thread(Journal, self._config.state_dir, self._worker)
        except OSError as error:
            log.error("ledger.state_dir %s: no journal, a killed worker's leases will count as spent: %s",
                      self._config.state_dir, error)  # fmt: skip
        self._book = self._new_book(self._journal)
        self.configure(config)
        self._metrics.ledger_up.set(1)  # until it is found away: a worker that has nothing to say never hears from it
        await self._turn()
        if self._book.declaring_s:  # Redis was started a moment ago: what others hold is known then
            await asyncio.sleep(self._book.declaring_s)
            self._book.declaring_s = 0.0
        self._gauges.show(self._book.accounts(), time.time())
        self._task = asyncio.create_task(self._run(), name="ledger")

    def configure(self, config: Config) -> None:
        """Budgets as a new configuration has them; limits hold at once, what is spent stays."""
        old = self._book.accounts()
        self._scopes = Scopes(config, self._book, time.time())
        self._purses.clear()
        for account in old:
            if not self._scopes.knows(account):
                self._book.drop(account)
                self._metrics.forget_budget(account.name, account.member)

    async def close(self) -> None:
        """Say everything, give back everything, and end. What Redis does not hear stays in the journal."""
        if self._task is None or self._redis is None:
            return
        self._closing = True  # not cancelled: redis-py's wait_for may swallow that (before Python 3.12)
        self._wanted.set()
        await self._task
        self._book.return_all()
        told = False
        with contextlib.suppress(*Unreachable):
            async with asyncio.timeout(CLOSE_S):
                told = await self._say_last_words()
        self._gauges.count(self._book.accounts())
        if self._journal:
            self._journal.close(remove=told)
        await self._redis.aclose()

    # --- the request path

    def purse(self, caller: Caller, route: str, *, background: bool = False) -> Purse:
        """The budgets that pay for a caller's requests on a route ('' for a model by name).

        `background`: for calls that the client did not ask for, which its own budgets do not pay.
        """
        place = (caller, route, background)
        purse = self._purses.get(place)
        if purse is None:
            if len(self._purses) > 10_000:  # keys come and go
                self._purses.clear()
            purse = self._purses[place] = self._scopes.purse(self, caller, route, background, time.time())
        return purse

    def tally(self, row: DecisionRow) -> None:
        """Add a row's money to the sums of its hour."""
        if self._redis is None:
            return
        hour = int(row.t) // HOUR_S * HOUR_S
        for charge in row.ch:
            if charge.nano:
                self._book.tally(hour, row.rt, row.tn, row.k, charge.model, charge.origin, charge.nano)
        if row.to:
            self._book.tally(hour, row.rt, row.tn, row.k, "", TEACHER_ONLY, row.to)

    async def reserve(self, accounts: tuple[Account, ...], amount: int) -> Hold:
        """Hold `amount` nano-dollars on every account. Raises BudgetSpent."""
        held = self._book.reserve(accounts, amount, time.time())
        return held if isinstance(held, Hold) else await self._obtain(accounts, amount)

    def exhausted(self, budget: str, action: str) -> None:
        """A budget did not pay for a call; `action`: what was done about it."""
        self._metrics.budget_exhausted.labels(budget, action).inc()

    async def _obtain(self, accounts: tuple[Account, ...], amount: int) -> Hold:
        """Ask Redis, and wait a while for what other workers have leased or running calls have reserved."""
        now = time.time()
        if refusal := spent_among(accounts, amount, now):
            raise refusal
        if self._unheard():
            return self._without_redis(accounts, amount)
        if was_just_full(accounts, amount, now):
            raise short_among(accounts, amount, now)
        waiter = Waiter(Need(accounts, amount), asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        self._wanted.set()
        try:
            await asyncio.wait({waiter.granted}, timeout=self._config.wait_s)
        except asyncio.CancelledError:
            if waiter.granted.done() and waiter.granted.exception() is None:
                waiter.granted.result().release()
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        if waiter.granted.done():
            return waiter.granted.result()
        if self._unheard():
            return self._without_redis(accounts, amount)
        held = self._book.reserve(accounts, amount, time.time())
        if isinstance(held, Hold):
            return held
        raise short_among(accounts, amount, time.time())

    def _unheard(self) -> bool:
        """Whether Redis cannot be asked: it is away, hangs, or still collects what workers hold after its restart."""
        hangs = self._talking_since is not None and time.monotonic() - self._talking_since > self._config.wait_s / 2
        return self._away or hangs or self._book.declaring_s > 0

    def _without_redis(self, accounts: tuple[Account, ...], amount: int) -> Hold:
        """The leased rest is used up: as the budgets say for that."""
        now = time.time()
        held = self._book.reserve(accounts, amount, now)
        if isinstance(held, Hold):
            return held
        short = [account for account in accounts if not self._book.covers(account, amount, now)]
        strict = [account for account in short if account.budget.redis_loss != "allow"]
        if strict:
            why = "Redis is away" if self._away else "Redis has just started and collects what workers hold"
            raise lost_budget(min(strict, key=lambda account: account.budget.redis_loss == "student"), why)
        for account in short:
            self._metrics.budget_waived.labels(account.name).inc(amount / NANO_PER_USD)
            self.exhausted(account.name, "allow")
            log.warning("%s: Redis is away, the bound is waived for $%s", described(account), usd(amount))
        return self._book.reserve_anyway(accounts, amount, now)

    # --- behind the request path

    async def _run(self) -> None:
        recover_at = time.monotonic() + self._config.lease_s
        while not self._closing:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HURRIED_S if self._waiters or self._book.behind else self._config.sync_s):
                    await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._turn()
                self._gauges.show(self._book.accounts(), time.time())
                if time.monotonic() > recover_at and not self._away:
                    recover_at = time.monotonic() + self._config.lease_s
                    await self._recover()
            except Exception:  # the edge of a background task
                log.exception("the ledger's talk with Redis failed")
                self._lost()
            if self._waiters and not self._wanted.is_set():
                await asyncio.sleep(HURRIED_S)

    async def _turn(self) -> None:
        """One talk, and what follows from its answer."""
        talk = self._book.talk(time.time(), [waiter.need for waiter in self._waiters])
        if talk is None:
            return
        try:
            await self._say(talk)
        except Unreachable as error:
            if not self._away:
                log.warning("Redis is away, budgets live on what is leased: %s", error)
            self._lost()
            return
        if self._away:
            log.warning("Redis is back")
        self._away = False
        self._metrics.ledger_up.set(1)
        self._metrics.ledger_syncs.labels("ok").inc()
        self._serve_waiters()
        if self._book.unjournalled and not self._warned:
            self._warned = True
            log.warning("the journal is full: what this worker leases further on is presumed spent if it is killed")

    async def _say(self, talk: Talk) -> None:
        self._talking_since = time.monotonic()
        try:
            self._book.heard(talk, await self._send(self._worker, talk), time.time())
        finally:
            self._talking_since = None

    async def _send(self, worker: str, talk: Talk) -> Any:
        arguments = [worker, talk.number, int(self._config.lease_s * 1e3), int(DECLARE_S * 1e3)]
        return await self._talk_script(keys=[RUN], args=[*arguments, msgspec.json.encode(talk.body)])

    def _lost(self) -> None:
        self._away = True
        self._metrics.ledger_up.set(0)
        self._metrics.ledger_syncs.labels("failed").inc()
        for waiter in self._waiters:
            if not waiter.granted.done():
                try:
                    waiter.granted.set_result(self._without_redis(waiter.need.accounts, waiter.need.amount))
                except BudgetSpent as error:
                    waiter.granted.set_exception(error)

    def _serve_waiters(self) -> None:
        """First come, first served; a smaller request may pass one that there is not enough for."""
        now = time.time()
        for waiter in self._waiters:
            if waiter.granted.done():
                continue
            held = self._book.reserve(waiter.need.accounts, waiter.need.amount, now)
            if isinstance(held, Hold):
                waiter.granted.set_result(held)
            elif refusal := spent_among(waiter.need.accounts, waiter.need.amount, now):
                waiter.granted.set_exception(refusal)

    async def _say_last_words(self) -> bool:
        """Whether Redis knows everything now."""
        while not self._book.quiet:
            talk = self._book.talk(time.time())
            if talk is None:
                return False
            await self._say(talk)
            await asyncio.sleep(0)
        await self._send(self._worker, self._book.last_words())
        return True

    async def _recover(self) -> None:
        """Speak for workers that died on this machine."""
        for path in await asyncio.to_thread(journals, self._config.state_dir):
            try:
                await self._speak_for(path)
            except Unreachable as error:
                log.warning("the journal %s of a worker that died waits for Redis: %s", path.name, error)
                return

    async def _speak_for(self, path: Path) -> None:
        with contextlib.ExitStack() as stack:
            entries = await asyncio.to_thread(stack.enter_context, orphan(path))
            if entries is None:
                return
            for talk in recovered(entries):
                await self._send(path.stem, talk)
            with contextlib.suppress(OSError):  # what is said twice changes nothing
                await asyncio.to_thread(path.unlink, missing_ok=True)
            held = sum(entry.counters[1] for entry in entries if entry.name.startswith("window|"))
            log.warning("the journal of worker %s, which is gone, is settled: $%s presumed spent", path.stem, usd(held))
