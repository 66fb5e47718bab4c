"""Budgets under everything that can happen: a state machine over several workers and a real Redis.

The model counts money as it really is: what calls have cost, what running calls may cost, and what the calls of killed
workers may have cost. After every step Redis must count at least that, and that must be within the limits. What nobody
can know is left out, and counted exactly (`lost`): the money of a worker whose journal is gone too, beyond what it had
told; and after a loss of data what only Redis knew, because its worker had ended, or its window was over.

Time is virtual. Redis' own clock decides on two things only: the keys that show that a worker lives, which the machine
deletes instead, and how long a restarted Redis waits for declarations, which the machine ends when all have spoken.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from router.budget_settings import Budget, rolling
from router.bundled_redis import bundled_redis
from router.ledger import book as book_module
from router.ledger import journal as journal_module
from router.ledger.book import HEAD, NUMBERS, Book, Need, Talk, Tally, recovered
from router.ledger.journal import Journal, orphan
from router.ledger.lease import Account, Hold, Lease
from router.ledger.names import ALIVE, PREFIX, RUN, hour_field
from router.ledger.pricing import NANO_PER_USD
from router.ledger.scripts import FORGIVE, LOOK, TALK
from router.ledger.windows import PARTS

CI = bool(os.environ.get("CI"))
EXAMPLES, STEPS = (520, 200) if CI else (16, 125)
AT_LEAST = 100_000 if CI else 1_500

PRESUMED = "~"  # after the name of a worker
START = datetime(2100, 3, 27, 22, 30, tzinfo=UTC).timestamp()  # Europe/Berlin: a day of 23 hours begins soon
IDLE_S = 5.0
REFRESH_S = 1.0
SUMS_S = 400 * 86_400
SLOTS = 48  # a journal small enough to be full at times
MOST_LEASES = 4  # of a talk, so that leases must take turns
LEASE_MS = 10**9
DECLARE_MS = 10**9
MOST_WORKERS = 4

CALENDARS = (("hour", "Asia/Kathmandu"), ("day", "Europe/Berlin"), ("month", "UTC"))
ROLLING = ("1m", "60m")
SKEWS_S = (0.0, 0.0, 1.3, 2.9)  # less than a part of the shortest rolling window
PAUSES_S = (0.0, 0.4, 3.0, 10.0, 60.0, 190.0)
JUMPS_S = (0.0, 0.3, 0.3, 1.1, 3.0, 9.0, 61.0, 200.0, 1_000.0, 3_700.0, 90_000.0)

anyone = st.integers(0, 59)  # an index, taken modulo what there is
amounts = st.integers(0, 400)
few = st.integers(0, 2)
some_accounts = st.integers(1, 15)  # a bit for each


@dataclass
class Share:
    """What a worker really has of a window. `presumed`: of calls that ended unseen. `beyond`: charged or held without
    a lease (overshoot, a waived bound); `told`: of that, what Redis has heard."""

    spent: int = 0
    held: int = 0
    presumed: int = 0
    beyond: int = 0
    told: int = 0

    @property
    def money(self) -> int:
        return self.spent + self.held + self.presumed


@dataclass(eq=False)
class Running:
    """A call that holds money since `at`."""

    hold: Hold
    at: float
    keys: tuple[str, ...]


@dataclass(eq=False)
class Sent:
    """A talk on its way."""

    worker: Worker
    talk: Talk
    beyond: dict[str, int]


@dataclass(eq=False)
class Worker:
    """`unproved`: windows of which its journal has nothing. `fate`: what became of it."""

    name: str
    book: Book
    journal: Journal
    path: Path
    skew_s: float
    fate: str = "lives"
    accounts: dict[tuple[str, str], Account] = field(default_factory=dict)
    dropped: list[Account] = field(default_factory=list)
    running: list[Running] = field(default_factory=list)
    shares: dict[str, Share] = field(default_factory=lambda: defaultdict(Share))
    on_the_way: Sent | None = None
    declared: bool = True
    unproved: set[str] = field(default_factory=set)
    unproved_sums: list[Tally] = field(default_factory=list)
    sums_told: dict[int, int] = field(default_factory=dict)  # by the identity of one of `tallies`
    tallies: list[Tally] = field(default_factory=list)

    @property
    def lives(self) -> bool:
        return self.fate == "lives"

    def has_said_all(self, run: bytes) -> bool:
        return self.book._run == run.decode() and all(lease.said for lease in self.kept().values())

    def kept(self) -> dict[str, Lease]:
        """The leases that its book still has."""
        return {lease.key: lease for lease in self.book._leases()}


class Budgets(RuleBasedStateMachine):
    client: Any  # redis.Redis, whose answers are typed as bytes or text
    folder: Path
    executed = 0

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.talk_script: Any = self.client.register_script(TALK)
        self.look: Any = self.client.register_script(LOOK)
        self.forgive_script: Any = self.client.register_script(FORGIVE)
        self.directory = TemporaryDirectory(dir=self.folder)
        self.now = START
        self.workers: list[Worker] = []
        self.late: list[Sent] = []
        self.run = 1
        self.declaring = False
        self.saved: dict[bytes, bytes] | None = None
        self.has_lost = False
        self.has_forgiven = False
        self.keys: dict[str, tuple[str, str, int]] = {}  # window key -> budget, member, start
        self.waived: dict[str, int] = defaultdict(int)
        self.lost: dict[str, int] = defaultdict(int)  # what grants could not count
        self.missing: dict[tuple[str, str], int] = defaultdict(int)  # of that, what Redis still lacks: key, worker
        self.forgiven: dict[tuple[str, str], int] = defaultdict(int)
        self.caps: dict[str, int] = {}
        self.moments: dict[tuple[str, str], dict[float, int]] = defaultdict(lambda: defaultdict(int))
        self.sums: dict[tuple[int, str], int] = defaultdict(int)
        self.stored: dict[str, dict[str, tuple[int, int, int]]] | None = None

    # --- the beginning

    @initialize(calendar=st.sampled_from(CALENDARS), roll=st.sampled_from(ROLLING), limits=st.tuples(*[amounts] * 3))
    def configure(self, calendar: tuple[str, str], roll: str, limits: tuple[int, int, int]) -> None:
        window, zone = calendar
        self.budgets = {
            "all": Budget(window=window, timezone=zone, limit_usd=0),
            "rolling": Budget(window=roll, limit_usd=0),
            "each": Budget(each="key", window="hour", limit_usd=0),
        }
        self.present = dict.fromkeys(self.budgets, True)
        for name, limit in zip(self.budgets, limits, strict=True):
            self.set_limit(name, 200 + 3 * limit)
        self.start(0)
        self.start(1)

    def set_limit(self, name: str, nano: int) -> None:
        self.budgets[name] = self.budgets[name].model_copy(update={"limit_usd": nano / NANO_PER_USD})
        assert self.budgets[name].limit_nano == nano

    def start(self, skew: int) -> Worker:
        name = f"w{len(self.workers)}"
        journal = Journal(Path(self.directory.name), name)
        book = Book(name, journal, IDLE_S, REFRESH_S, SUMS_S)
        worker = Worker(name, book, journal, journal.path, SKEWS_S[skew % len(SKEWS_S)])
        self.workers.append(worker)
        self.reload(worker)
        return worker

    def reload(self, worker: Worker) -> None:
        """As `Scopes` and `Ledger.configure` do."""
        wanted = {(name, member) for name, b in self.budgets.items() if self.present[name] for member in members(b)}
        for place in set(worker.accounts) - wanted:
            account = worker.accounts.pop(place)
            worker.book.drop(account)
            worker.dropped.append(account)
        for name, member in sorted(wanted):
            fresh = Account(name, member, self.budgets[name])
            worker.accounts[name, member] = worker.book.account(fresh, self.clock(worker))

    # --- small helpers

    def clock(self, worker: Worker) -> float:
        return self.now - worker.skew_s

    def living(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.lives]

    def pick(self, index: int) -> Worker:
        living = self.living() or [self.start(index)]
        return living[index % len(living)]

    def did(self) -> None:
        Budgets.executed += 1

    def money(self, key: str) -> int:
        return sum(worker.shares[key].money for worker in self.workers if key in worker.shares)

    def beyond(self, key: str) -> int:
        return sum(worker.shares[key].beyond for worker in self.workers if key in worker.shares)

    def allowed(self, keys: list[str]) -> int:
        """Money that no limit could stop: overshoot, waived bounds, forgiven and lost money."""
        return sum(self.beyond(key) + self.waived[key] + self.lost[key] for key in keys)

    # --- requests

    @rule(index=anyone, chosen=some_accounts, amount=amounts, waits=st.booleans())
    def reserve(self, index: int, chosen: int, amount: int, waits: bool) -> None:
        worker = self.pick(index)
        self.did()
        accounts = [account for bit, account in enumerate(worker.accounts.values()) if chosen >> bit & 1]
        held = worker.book.reserve(accounts, amount, self.clock(worker))
        if isinstance(held, Account) and waits:
            self.deliver(self.speak(worker, Need(tuple(accounts), amount)), hears=True)
            held = worker.book.reserve(accounts, amount, self.clock(worker))
        if isinstance(held, Hold):
            self.holds(worker, held, amount)

    @rule(index=anyone, number=few, amount=amounts)
    def reserve_on_a_budget_that_was_just_removed(self, index: int, number: int, amount: int) -> None:
        """A request that began before a reload goes on with the accounts that it has."""
        worker = self.pick(index)
        if not worker.dropped:
            self.reserve(index, 15, amount, waits=True)
            return
        self.did()
        account = worker.dropped[number % len(worker.dropped)]
        held = worker.book.reserve([account], amount, self.clock(worker))
        if isinstance(held, Hold):
            self.holds(worker, held, amount)

    @rule(index=anyone, chosen=some_accounts, amount=st.integers(0, 60))
    def reserve_without_redis(self, index: int, chosen: int, amount: int) -> None:
        worker = self.pick(index)
        self.did()
        accounts = [account for bit, account in enumerate(worker.accounts.values()) if chosen >> bit & 1]
        now = self.clock(worker)
        slacks = [slack_of(account, now) for account in accounts]
        held = worker.book.reserve_anyway(accounts, amount, now)
        for lease, slack in zip(held.leases, slacks, strict=True):
            worker.shares[lease.key].beyond += amount - min(amount, slack)
        self.holds(worker, held, amount)

    def holds(self, worker: Worker, hold: Hold, amount: int) -> None:
        keys = tuple(lease.key for lease in hold.leases)
        at = self.clock(worker)
        for lease in hold.leases:
            account = lease.account
            self.keys.setdefault(lease.key, (account.name, account.member, lease.window.start))
            worker.shares[lease.key].held += amount
            self.moments[account.name, account.member][at] += amount
            if lease.cells is not worker.journal.cells:
                worker.unproved.add(lease.key)
        worker.running.append(Running(hold, at, keys))

    @rule(index=anyone, chosen=some_accounts, amount=amounts, cost=st.integers(0, 10), jump=st.sampled_from(PAUSES_S))
    def call_after_call(self, index: int, chosen: int, amount: int, cost: int, jump: float) -> None:
        """Several requests of one worker, some time apart, so that limits are reached."""
        for number in range(3):
            self.reserve(index, chosen, amount, waits=True)
            if number != 1:
                self.settle(index, -1, cost, 0)
            self.now += jump

    @rule(index=anyone, call=anyone)
    def lose_sight_of_a_call(self, index: int, call: int) -> None:
        """Nobody sees what became of it: what it had reserved stays charged."""
        worker = self.pick(index)
        if not worker.running:
            self.reserve(index, 15, 10, waits=True)
            return
        self.did()
        running = worker.running.pop(call % len(worker.running))
        left = running.hold.left
        running.hold.presume()
        running.hold.release()
        for key in running.keys:
            worker.shares[key].held -= left
            worker.shares[key].presumed += left

    @rule(index=anyone, call=anyone, share=st.sampled_from((*range(11), *range(11), 13)), retries=few)
    def settle(self, index: int, call: int, share: int, retries: int) -> None:
        """The call ends: it cost `share` tenths of what was reserved, after tries that took some of it already."""
        worker = self.pick(index)
        if not worker.running:
            self.reserve(index, call % 15 + 1, 20 * share, waits=True)
            return
        self.did()
        running = worker.running.pop(call % len(worker.running))
        cost = running.hold.left * share // 10
        for _ in range(retries):
            self.charge(worker, running, cost // 3)
        if retries == 1:
            self.charge(worker, running, cost)
            self.release(worker, running)
        else:
            self.charge(worker, running, cost, ends=True)

    @rule(index=anyone, call=anyone, cost=st.integers(0, 90))
    def charge_a_retry(self, index: int, call: int, cost: int) -> None:
        worker = self.pick(index)
        if not worker.running:
            self.reserve(index, call % 15 + 1, 4 * cost, waits=True)
            return
        self.did()
        self.charge(worker, worker.running[call % len(worker.running)], cost)

    def charge(self, worker: Worker, running: Running, cost: int, *, ends: bool = False) -> None:
        left = running.hold.left
        covered = min(cost, left)
        if ends:
            running.hold.settle(cost)
        else:
            running.hold.take(cost)
        for key in running.keys:
            share = worker.shares[key]
            share.spent += cost
            share.held -= left if ends else covered
            share.beyond += cost - covered
            name, member, _ = self.keys[key]
            self.moments[name, member][running.at] += cost - (left if ends else covered)

    def release(self, worker: Worker, running: Running) -> None:
        left = running.hold.left
        running.hold.release()
        running.hold.release()
        for key in running.keys:
            worker.shares[key].held -= left
            name, member, _ = self.keys[key]
            self.moments[name, member][running.at] -= left

    @rule(index=anyone, back=st.integers(0, 2), what=few, nano=st.integers(1, 999))
    def tally(self, index: int, back: int, what: int, nano: int) -> None:
        """A row's money goes into the sums of its hour; some come late."""
        worker = self.pick(index)
        self.did()
        hour = int(self.now) // 3600 * 3600 - 3600 * back
        worker.book.tally(hour, "auto", "acme", "k0", f"model{what}", "serve", nano)
        self.sums[hour, hour_field("", "auto", "acme", "k0", f"model{what}", "serve")] += nano

    # --- talks

    def speak(self, worker: Worker, *needs: Need) -> Sent | None:
        """A new talk; one that is still on its way has been given up."""
        if worker.on_the_way:
            self.late.append(worker.on_the_way)
            worker.on_the_way = None
        talk = worker.book.talk(self.clock(worker), needs)
        if talk is None:
            return None
        return Sent(worker, talk, {key: share.beyond for key, share in worker.shares.items()})

    def run_id(self) -> bytes:
        return b"run%d" % self.run

    def send(self, name: str, talk: Talk) -> list[Any]:
        """The script with its real text; only the run's id in the answer is the machine's."""
        arguments = [name, talk.number, LEASE_MS, DECLARE_MS if self.declaring else 0, msgspec.json.encode(talk.body)]
        reply: list[Any] = self.talk_script(keys=[RUN], args=arguments)
        self.stored = None
        if reply[0]:
            reply[1] = self.run_id()
        return reply

    def deliver(self, sent: Sent | None, *, hears: bool) -> None:
        """A talk reaches Redis, and the answer its worker or nobody."""
        if sent is None:
            return
        worker = sent.worker
        reply = self.send(worker.name, sent.talk)
        if reply[0]:
            self.check_grants(sent, reply)
            self.applied(sent)
        if hears and worker.lives:
            worker.book.heard(sent.talk, reply, self.clock(worker))
        if self.declaring and worker.lives and worker.has_said_all(self.run_id()):
            worker.declared = True
            self.end_declarations()

    def end_declarations(self) -> None:
        if self.declaring and all(worker.declared for worker in self.living()):
            self.declaring = False
            self.client.hset(RUN, "until", 0)

    def applied(self, sent: Sent) -> None:
        worker = sent.worker
        for lease, _ in sent.talk.leases:
            key = lease.key
            self.keys.setdefault(key, (lease.account.name, lease.account.member, lease.window.start))
            worker.shares[key].told = sent.beyond.get(key, 0)
            self.forgiven.pop((key, worker.name), None)
            self.missing.pop((key, worker.name), None)
        for tally, value in sent.talk.tallies:
            worker.sums_told[id(tally)] = value
            worker.tallies.append(tally)

    def check_grants(self, sent: Sent, reply: list[Any]) -> None:
        """Nothing is granted beyond the limit that is in force, nor while a restarted Redis collects declarations."""
        for number, (lease, _) in enumerate(sent.talk.leases):
            granted, ceiling, *_ = reply[HEAD + NUMBERS * number :]
            entry = sent.talk.body["leases"][number]
            limit = entry[6]
            if not granted:
                continue
            assert not self.declaring
            assert ceiling <= limit
            prefix = lease.key.rpartition(":")[0]
            keys = [lease.key, *(f"{prefix}:{start}" for start in entry[10])]
            assert sum(self.money(key) for key in keys) + granted <= limit + self.allowed(keys)
            self.caps[lease.key] = max(limit, self.caps.get(lease.key, 0))

    @rule(index=anyone, answer=st.sampled_from(("heard", "heard", "heard", "unsent", "unheard", "slow", "late")))
    def talk(self, index: int, answer: str) -> None:
        worker = self.pick(index)
        self.did()
        sent = self.speak(worker)
        if sent is None:
            return
        if answer == "slow":
            worker.on_the_way = sent
        elif answer == "late":
            self.late.append(sent)
        elif answer != "unsent":
            self.deliver(sent, hears=answer == "heard")

    @rule(index=anyone)
    def arrive(self, index: int) -> None:
        """A slow talk reaches Redis and is answered; others have spoken meanwhile."""
        worker = self.pick(index)
        if worker.on_the_way is None:
            self.talk(index, "slow")
            return
        self.did()
        sent, worker.on_the_way = worker.on_the_way, None
        self.deliver(sent, hears=True)

    @rule(number=anyone, twice=st.booleans())
    def arrive_late(self, number: int, twice: bool) -> None:
        """A talk that its worker has given up reaches Redis, perhaps after newer ones or the worker's end."""
        if not self.late:
            self.talk(number, "late")
            return
        self.did()
        sent = self.late.pop(number % len(self.late))
        self.deliver(sent, hears=False)
        if twice:
            self.deliver(sent, hears=False)

    @rule(index=anyone, what=few, late=st.booleans(), answer=st.sampled_from(("heard", "unsent", "unheard", "late")))
    def fold(self, index: int, what: int, late: bool, answer: str) -> None:
        """An hour is over, and its sums are folded; then one comes late."""
        self.tally(index, 0, what, 5)
        self.deliver(self.speak(self.pick(index)), hears=True)
        self.now += 4_600
        self.talk(index, answer)
        if late:
            self.tally(index, 1, what, 7)
            self.tally(index, 2, what, 9)

    @rule(index=anyone)
    def rest(self, index: int) -> None:
        """A worker without requests holds no slack after a while."""
        worker = self.pick(index)
        self.did()
        self.deliver(self.speak(worker), hears=True)
        self.now += IDLE_S + 0.1
        self.deliver(self.speak(worker), hears=True)
        assert all(lease.slack <= 0 for lease in worker.kept().values())

    # --- time, configuration

    @rule(jump=st.sampled_from(JUMPS_S))
    def advance(self, jump: float) -> None:
        self.did()
        self.now += jump

    @rule(which=few, limit=st.integers(0, 1_500))
    def edit_limit(self, which: int, limit: int) -> None:
        self.did()
        self.set_limit(list(self.budgets)[which], limit)

    @rule(which=few)
    def remove_or_add_a_budget(self, which: int) -> None:
        self.did()
        name = list(self.budgets)[which]
        self.present[name] = not self.present[name]

    @rule(index=anyone)
    def reload_configuration(self, index: int) -> None:
        self.did()
        self.reload(self.pick(index))

    # --- lives and deaths of workers

    @rule(skew=anyone)
    def start_worker(self, skew: int) -> None:
        if len(self.living()) < MOST_WORKERS:
            self.did()
            self.start(skew)
        else:
            self.reload_configuration(skew)

    @rule(index=anyone, journal=st.sampled_from(("left", "left", "gone")))
    def crash(self, index: int, journal: str) -> None:
        """SIGKILL, or with its journal gone the end of the machine."""
        if len(self.workers) < 40:
            self.did()
            self.dies(self.pick(index), journal_left=journal == "left")

    def dies(self, worker: Worker, *, journal_left: bool) -> None:
        kept = worker.kept()
        worker.fate = "left a journal" if journal_left else "left nothing"
        for key in worker.shares:
            if not journal_left and key in kept:
                worker.unproved.add(key)
            if not worker.declared:
                self.loses(key, worker.name, worker.shares[key].money - self.counted(key, worker.name))
        if worker.on_the_way:
            self.late.append(worker.on_the_way)
        for tally in worker.book._dirty:
            if not journal_left or tally.cells is not worker.journal.cells:
                worker.unproved_sums.append(tally)
        worker.journal.close(remove=not journal_left)
        self.end_declarations()

    def loses(self, key: str, worker: str, nano: int) -> None:
        if nano > 0:
            self.lost[key] += nano
            self.missing[key, worker] = max(nano, self.missing[key, worker])

    @rule(number=anyone, talks=st.sampled_from((3, 3, 3, 2, 1, 0)), unlinked=st.booleans())
    def recover(self, number: int, talks: int, unlinked: bool) -> None:
        """Somebody speaks for a dead worker, all of it or until it dies itself; and perhaps once more later."""
        dead = [worker for worker in self.workers if worker.path.exists() and not worker.lives]
        if not dead:
            self.crash(number, "left")
            return
        self.did()
        self.speaks_for(dead[number % len(dead)], talks)
        if talks == 3 and unlinked:
            dead[number % len(dead)].path.unlink()

    def speaks_for(self, worker: Worker, talks: int) -> None:
        with orphan(worker.path) as entries:
            assert entries is not None
            for number, talk in enumerate(recovered(entries)[:talks]):
                reply = self.send(worker.name, talk)
                if number == 1 and reply[0]:
                    self.journal_was_told(worker, {e.name.split("|", 2)[2] for e in entries if e.name[0] == "w"})
        if talks == 3:
            worker.fate = "recovered"

    def journal_was_told(self, worker: Worker, keys: set[str]) -> None:
        for key in keys & set(worker.shares):
            worker.shares[key].told = worker.shares[key].beyond
            self.forgiven.pop((key, worker.name), None)
            self.missing.pop((key, worker.name), None)

    @rule(index=anyone, finishes=st.booleans(), answer=st.sampled_from(("heard", "unsent", "unheard", "repeated")))
    def end(self, index: int, finishes: bool, answer: str) -> None:
        """SIGTERM: running calls end or are given up, everything is said, then the last words."""
        worker = self.pick(index)
        self.did()
        while finishes and worker.running:
            running = worker.running.pop()
            self.charge(worker, running, running.hold.left // 2)
            self.release(worker, running)
        worker.book.return_all()
        for _ in range(50):
            if worker.book.quiet:
                break
            self.deliver(self.speak(worker), hears=True)
        assert worker.book.quiet or worker.running
        if worker.running or answer == "unsent":
            self.dies(worker, journal_left=True)
            return
        for _ in range(2 if answer == "repeated" else 1):
            self.send(worker.name, worker.book.last_words())
        self.dies(worker, journal_left=answer == "unheard")
        worker.unproved.clear()
        if answer != "unheard":
            worker.fate = "ended"

    @rule(index=anyone)
    def expire(self, index: int) -> None:
        """Redis has not heard of a worker for the length of a lease, dead or not."""
        if self.workers:
            self.did()
            self.client.delete(ALIVE + self.workers[index % len(self.workers)].name)

    # --- what happens to Redis

    @rule()
    def save(self) -> None:
        self.did()
        keys = [key for key in self.client.keys(PREFIX + "*") if not key.startswith(ALIVE.encode())]
        with self.client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.dump(key)
            self.saved = dict(zip(keys, pipeline.execute(), strict=True))

    @rule(loses_data=st.just(False))
    def restart_redis(self, loses_data: bool) -> None:
        """With all its data, or with those of the last save. Talks on their way are gone with the connections."""
        if loses_data and self.saved is None:
            self.save()
            return
        self.did()
        self.late.clear()
        for worker in self.workers:
            worker.on_the_way = None
            worker.declared = not worker.lives
        if loses_data:
            self.restore()
        self.run += 1
        self.declaring = True
        self.client.hset(RUN, "id", "other")
        self.stored = None
        self.end_declarations()

    def restore(self) -> None:
        assert self.saved is not None
        with self.client.pipeline(transaction=False) as pipeline:
            pipeline.flushall()
            for saved, content in self.saved.items():
                pipeline.restore(saved, 0, content)
            pipeline.execute()
        self.stored = None
        self.has_lost = True
        for key in self.keys:
            self.forget(key)

    def forget(self, key: str) -> None:
        """What nobody can tell a Redis that has gone back: the money of those who are gone, and of leases that are."""
        gone = 0
        for worker in self.workers:
            if key not in worker.shares or (worker.lives and key in worker.kept()):
                continue
            short = worker.shares[key].money - self.counted(key, worker.name)
            if worker.fate == "left a journal":
                self.loses(key, worker.name, short)
            else:
                gone += max(0, short)
        self.loses(key, "", gone - self.counted(key, ""))

    @rule(which=st.integers(0, 3))
    def forgive(self, which: int) -> None:
        """An operator says that what dead workers may have spent was not."""
        self.did()
        places = [(name, member) for name, budget in self.budgets.items() for member in members(budget)]
        place = places[which % len(places)]
        keys = [key for key, (name, member, _) in self.keys.items() if (name, member) == place]
        if not keys:
            return
        self.has_forgiven = True
        before = {key: self.fields(key) for key in keys}
        freed = self.forgive_script(keys=keys)
        self.stored = None
        for key, fields in before.items():
            after = self.fields(key)
            for name, (ceiling, *_) in fields.items():
                fallen = ceiling - after[name][0]
                freed -= fallen
                self.waived[key] += fallen
                self.forgiven[key, name] += fallen
        assert freed == 0

    # --- what must hold

    def fields(self, key: str) -> dict[str, tuple[int, int, int]]:
        """What Redis has of a window, by worker: ceiling, spent, reserved."""
        if self.stored is None:
            with self.client.pipeline(transaction=False) as pipeline:
                for known in self.keys:
                    pipeline.hgetall(known)
                found = dict(zip(self.keys, pipeline.execute(), strict=True))
            self.stored = {known: dict(parsed(content)) for known, content in found.items()}
        return self.stored.get(key, {})

    def counted(self, key: str, worker: str) -> int:
        """The worker's ceiling, and what is presumed apart from it."""
        fields = self.fields(key)
        return sum(fields[name][0] for name in (worker, worker + PRESUMED) if name in fields)

    @invariant()
    def redis_counts_all_money(self) -> None:
        if self.declaring and self.has_lost:
            return  # not all have spoken yet; nothing is granted
        for key in self.keys:
            unheard = sum(w.shares[key].beyond - w.shares[key].told for w in self.workers if key in w.shares)
            excused = sum(nano for (place, _), nano in [*self.missing.items(), *self.forgiven.items()] if place == key)
            counted = sum(ceiling for ceiling, _, _ in self.fields(key).values())
            assert counted >= self.money(key) - unheard - excused, key

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        for key, (name, _, _) in self.keys.items():
            if not rolling(self.budgets[name].window):
                assert self.money(key) <= self.caps.get(key, 0) + self.allowed([key]), key

    @invariant()
    def no_span_of_a_rolling_window_exceeds_its_limit(self) -> None:
        length = rolling(self.budgets["rolling"].window)
        assert length is not None
        since = self.now - length.total_seconds() + max(SKEWS_S)
        spent = sum(nano for at, nano in self.moments["rolling", ""].items() if at > since)
        oldest = since - length.total_seconds() / PARTS
        keys = [key for key, (name, _, start) in self.keys.items() if name == "rolling" and start > oldest]
        assert spent <= max((self.caps.get(key, 0) for key in keys), default=0) + self.allowed(keys)

    @invariant()
    def nobody_spends_what_is_not_leased(self) -> None:
        for worker in self.living():
            for key, lease in worker.kept().items():
                share = worker.shares.get(key, Share())
                assert (lease.spent, lease.reserved, lease.presumed) == (share.spent, share.held, share.presumed)
                assert share.spent + share.held <= lease.ceiling + share.beyond

    # --- the end

    def teardown(self) -> None:
        try:
            if self.workers:
                self.end_all()
                self.check_end()
        finally:
            for worker in self.living():
                worker.journal.close(remove=True)
            self.directory.cleanup()

    def end_all(self) -> None:
        """Redis is there, every call ends, every worker, and every journal is read."""
        for number, worker in enumerate(list(self.living())):
            for _ in range(3):
                self.deliver(self.speak(worker), hears=True)
            self.end(0, finishes=True, answer=("heard", "unheard", "unsent")[number % 3])
        for worker in self.workers:
            if worker.path.exists():
                self.speaks_for(worker, 3)
        for worker in self.workers:
            self.client.delete(ALIVE + worker.name)

    def check_end(self) -> None:
        self.redis_counts_all_money()
        self.stored = None
        for key in self.keys:
            ceiling, spent, presumed, slack, alive = self.look(keys=[key])
            assert (ceiling, slack, alive) == (spent + presumed, 0, 0)
            if not self.has_lost:
                self.check_settled(key)
        if not self.has_lost:
            self.check_sums()

    def check_settled(self, key: str) -> None:
        """What can be proved is spent to the nano-dollar, and what cannot is presumed."""
        proved = [worker for worker in self.workers if key in worker.shares and key not in worker.unproved]
        unproved = {worker.name for worker in self.workers if key in worker.unproved}
        fields = [values for name, values in self.fields(key).items() if name.removesuffix(PRESUMED) not in unproved]
        assert sum(spent for _, spent, _ in fields) == sum(worker.shares[key].spent for worker in proved), key
        presumed = sum(ceiling - spent for ceiling, spent, _ in fields)
        unseen = sum(worker.shares[key].held + worker.shares[key].presumed for worker in proved)
        assert presumed <= unseen if self.has_forgiven else presumed == unseen, key

    def check_sums(self) -> None:
        found: dict[tuple[int, str], int] = defaultdict(int)
        for key in self.client.keys(PREFIX + "hour:*"):
            hour = int(key.rpartition(b":")[2])
            for name, value in self.client.hgetall(key).items():
                found[hour, "|" + name.decode().partition("|")[2]] += int(value)
        expected = self.sums.copy()
        for worker in self.workers:
            for tally in worker.unproved_sums:
                place = tally.field.partition("|")[2]
                expected[tally.hour, f"|{place}"] -= tally.value - worker.sums_told.get(id(tally), 0)
        assert {place: nano for place, nano in found.items() if nano} == {p: n for p, n in expected.items() if n}


def members(budget: Budget) -> tuple[str, ...]:
    return ("k0", "k1") if budget.each else ("",)


def slack_of(account: Account, now: float) -> int:
    lease = account.lease
    return max(0, lease.slack) if lease and now < lease.window.end else 0


def parsed(content: dict[bytes, bytes]) -> Iterator[tuple[str, tuple[int, int, int]]]:
    for name, value in content.items():
        if not name.startswith(b"*"):
            ceiling, spent, reserved = map(int, value.split())
            yield name.decode(), (ceiling, spent, reserved)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with bundled_redis(tmp_path_factory.mktemp("machine")) as url, redis.Redis.from_url(url) as client:
        client.config_set("appendonly", "no")
        yield client


def test_budgets_hold_and_no_money_is_lost_whatever_happens(
    client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "SLOTS", SLOTS)
    monkeypatch.setattr(book_module, "MOST_LEASES", MOST_LEASES)
    machine = type("Machine", (Budgets,), {"client": client, "folder": tmp_path})
    Budgets.executed = 0
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=CI,  # a run of the suite means the same everywhere; other examples come up locally
            print_blob=True,
            report_multiple_bugs=False,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        ),
    )
    assert Budgets.executed >= AT_LEAST
