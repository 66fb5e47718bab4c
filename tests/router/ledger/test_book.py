"""Leases of several workers over a real Redis, one situation at a time; `test_machine` does everything at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from router.budget_settings import Budget
from router.bundled_redis import bundled_redis
from router.ledger.book import Book, Need, Talk, recovered
from router.ledger.journal import Journal, orphan
from router.ledger.lease import Account, Hold
from router.ledger.names import ALIVE, RUN, SEQUENCE, hour_key
from router.ledger.scripts import FORGIVE, LOOK, TALK

NOW = datetime(2100, 5, 4, 12, tzinfo=UTC).timestamp()
HOUR = int(NOW) // 3600 * 3600
LIMIT = 1_000
IDLE_S, REFRESH_S = 5.0, 1.0
DAY_S = 86_400


def limited(nano: int = LIMIT, **more: Any) -> Budget:
    return Budget(**{"window": "day", **more, "limit_usd": nano / 1e9})


@dataclass
class Shared:
    """The Redis of a test, and its workers. `declare_ms`: how long it collects declarations after a restart."""

    client: Any
    folder: Path
    declare_ms: int = 0
    run: bytes = b"one"
    workers: list[Worker] = field(default_factory=list)

    def worker(self, **budgets: Budget) -> Worker:
        name = f"w{len(self.workers)}"
        journal = Journal(self.folder, name)
        worker = Worker(self, name, journal, Book(name, journal, IDLE_S, REFRESH_S, DAY_S))
        self.workers.append(worker)
        for budget, settings in (budgets or {"all": limited()}).items():
            worker.account(budget, settings)
        return worker

    def send(self, name: str, talk: Talk) -> list[Any]:
        arguments = [name, talk.number, 60_000, self.declare_ms, msgspec.json.encode(talk.body)]
        reply: list[Any] = self.client.register_script(TALK)(keys=[RUN], args=arguments)
        return reply

    def look(self, account: Account, now: float = NOW) -> tuple[int, int, int]:
        """Ceiling, spent and presumed of the account's window."""
        keys = [account.key(start) for start in account.window(now).counted]
        ceiling, spent, presumed, *_ = self.client.register_script(LOOK)(keys=keys)
        return ceiling, spent, presumed

    def sums(self) -> dict[str, int]:
        return {
            name.decode().partition("|")[2]: int(nano) for name, nano in self.client.hgetall(hour_key(HOUR)).items()
        }

    def loses_its_data(self) -> None:
        """Redis starts anew, and with nothing."""
        self.client.flushall()
        self.run = b"another"

    def recover(self, path: Path) -> None:
        with orphan(path) as entries:
            assert entries is not None
            for talk in recovered(entries):
                self.send(path.stem, talk)


@dataclass
class Worker:
    shared: Shared
    name: str
    journal: Journal
    book: Book
    accounts: dict[str, Account] = field(default_factory=dict)

    def account(self, name: str, budget: Budget, now: float = NOW) -> Account:
        self.accounts[name] = self.book.account(Account(name, "", budget), now)
        return self.accounts[name]

    def talk(self, now: float = NOW, *needs: Need) -> None:
        talk = self.book.talk(now, needs)
        if talk is None:
            return
        reply = self.shared.send(self.name, talk)
        self.book.heard(talk, [reply[0], self.shared.run, *reply[2:]] if reply[0] else reply, now)

    def get(self, amount: int, now: float = NOW, name: str = "all") -> Hold | None:
        """Reserve, as a request that waits for one talk does."""
        account = self.accounts[name]
        held = self.book.reserve([account], amount, now)
        if isinstance(held, Account):
            self.talk(now, Need((account,), amount))
            held = self.book.reserve([account], amount, now)
        return held if isinstance(held, Hold) else None

    def must_get(self, amount: int, now: float = NOW, name: str = "all") -> Hold:
        hold = self.get(amount, now, name)
        assert hold is not None
        return hold

    def pay(self, amount: int, cost: int | None = None) -> None:
        hold = self.must_get(amount)
        hold.take(amount if cost is None else cost)
        hold.release()

    def tally(self, nano: int) -> None:
        self.book.tally(HOUR, "auto", "acme", "k", "m", "serve", nano)

    def die(self) -> Path:
        self.journal.close(remove=False)
        return self.journal.path


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with bundled_redis(tmp_path_factory.mktemp("book")) as url, redis.Redis.from_url(url) as client:
        yield client


@pytest.fixture
def shared(client: redis.Redis, tmp_path: Path) -> Iterator[Shared]:
    client.flushall()
    shared = Shared(client, tmp_path)
    yield shared
    for worker in shared.workers:
        if not worker.journal._file.closed:
            worker.journal.close(remove=True)


# --- leases


def test_two_workers_share_a_limit(shared: Shared) -> None:
    a, b = shared.worker(), shared.worker()
    assert a.get(600) is not None
    assert b.get(500) is None
    assert b.get(400) is not None
    assert shared.look(a.accounts["all"])[0] == LIMIT


def test_requests_that_wait_are_granted_whole_or_not_at_all(shared: Shared) -> None:
    a = shared.worker()
    a.talk(NOW, *[Need((a.accounts["all"],), 600)] * 3, Need((a.accounts["all"],), 300))
    assert shared.look(a.accounts["all"])[0] == 900


def test_most_reservations_need_no_talk(shared: Shared) -> None:
    a = shared.worker()
    for _ in range(3):
        a.must_get(10)
        a.talk()
    lease = a.accounts["all"].lease
    assert lease is not None
    assert lease.slack >= 10
    assert isinstance(a.book.reserve([a.accounts["all"]], 10, NOW), Hold)


def test_an_idle_worker_gives_its_slack_back(shared: Shared) -> None:
    a, b = shared.worker(), shared.worker()
    for _ in range(3):
        a.pay(100, 10)
        a.talk()
    a.talk(NOW + IDLE_S + 1)
    assert b.get(LIMIT - 30) is not None


def test_slack_that_a_waiting_request_was_given_comes_back_when_it_has_gone(shared: Shared) -> None:
    a, b = shared.worker(), shared.worker()
    for later in (1, 1.3):  # nobody uses the account
        a.talk(NOW + IDLE_S + later)
    later = NOW + IDLE_S + 2
    a.talk(later, Need((a.accounts["all"],), 700))
    a.talk(later + 0.25)
    assert b.get(900, later + 0.25) is not None


def test_a_request_that_waits_for_one_budget_does_not_starve_another(shared: Shared) -> None:
    a, b = shared.worker(all=limited(1_000), small=limited(10)), shared.worker(all=limited(1_000), small=limited(10))
    a.must_get(1_000).release()
    a.talk(NOW, Need((a.accounts["all"], a.accounts["small"]), 100))
    b.talk(NOW + 1)
    assert not b.accounts["all"].standing.starved
    assert shared.client.hget(a.accounts["all"].lease.key, "*starved") is None  # type: ignore[union-attr]


def test_a_lowered_limit_holds_for_the_slack_too(shared: Shared) -> None:
    a = shared.worker()
    a.must_get(10)
    a.talk()
    a.account("all", limited(5))
    assert a.get(1) is None
    a.account("all", limited(100))
    assert a.get(90) is not None
    assert a.get(1) is None


def test_workers_whose_clocks_differ_share_a_rolling_limit(shared: Shared) -> None:
    """The one ahead is in the next part already; the other must count what it has there."""
    a, b = (shared.worker(all=limited(window="1m")) for _ in range(2))
    part = a.accounts["all"].window(NOW)
    assert a.get(LIMIT, part.end + 0.1) is not None
    assert b.get(1, part.end - 0.1) is None


# --- budgets that are removed while requests run


def test_a_request_that_began_before_its_budget_was_removed_is_still_counted(shared: Shared) -> None:
    a = shared.worker()
    hold = a.must_get(300)
    account = a.accounts["all"]
    a.book.drop(account)
    more = a.book.reserve_anyway([account], 100, NOW)
    for each in (hold, more):
        each.take(90)
        each.release()
    a.talk()
    a.talk()
    assert shared.look(account) == (180, 180, 0)


def test_a_budget_that_is_added_again_goes_on_where_it_was(shared: Shared) -> None:
    """Two leases of one window would overwrite each other in Redis."""
    a = shared.worker()
    old = a.accounts["all"]
    a.pay(400)
    a.book.drop(old)
    new = a.account("all", limited())
    a.must_get(500)
    held = a.book.reserve_anyway([old], 50, NOW)
    a.talk()
    assert shared.look(new)[0] >= 950
    held.take(20)
    held.release()
    a.talk()
    assert shared.look(new)[:2] == (920, 420)


def test_a_request_may_wait_for_a_budget_that_was_just_removed(shared: Shared) -> None:
    a = shared.worker()
    account = a.accounts["all"]
    a.book.drop(account)
    assert a.get(300) is not None


def test_what_a_removed_budget_was_granted_comes_back_from_the_one_in_its_place(shared: Shared) -> None:
    a, b = shared.worker(), shared.worker()
    old = a.accounts["all"]
    a.book.drop(old)
    new = a.account("all", limited())
    tomorrow = NOW + DAY_S
    for later in (0, 0.3, 7, 7.3):  # nobody uses the new one
        a.talk(tomorrow - 20 + later)
    a.talk(tomorrow + DAY_S, Need((old,), 700))
    assert a.book.reserve([new], 800, tomorrow + DAY_S) is new
    for later in (0.3, 7):
        a.talk(tomorrow + DAY_S + later)
    assert b.get(LIMIT, tomorrow + DAY_S + 8) is not None


def test_a_removed_budget_gives_its_slack_back(shared: Shared) -> None:
    a, b = shared.worker(), shared.worker()
    a.must_get(700).release()
    a.book.drop(a.accounts["all"])
    a.talk()
    assert b.get(LIMIT) is not None


# --- answers and talks that are lost


def test_a_grant_whose_answer_is_lost_comes_back(shared: Shared) -> None:
    a, b = shared.worker(), shared.worker()
    talk = a.book.talk(NOW, [Need((a.accounts["all"],), 800)])
    assert talk is not None
    shared.send(a.name, talk)
    assert b.get(300) is None
    a.talk(NOW + 1)
    assert b.get(LIMIT) is not None


def test_a_late_talk_changes_nothing(shared: Shared) -> None:
    a = shared.worker()
    a.must_get(100)
    late = a.book.talk(NOW + 2)
    assert late is not None
    a.pay(50)
    a.talk(NOW + 4)
    before = shared.look(a.accounts["all"])
    assert shared.send(a.name, late) == [0]
    assert shared.look(a.accounts["all"]) == before


# --- ends


def test_a_worker_that_ends_returns_everything_with_one_talk(shared: Shared) -> None:
    a, b = shared.worker(), shared.worker()
    for _ in range(4):
        a.pay(100, 10)
        a.talk()
    a.pay(100, 10)
    a.book.return_all()
    a.talk()
    assert a.book.quiet
    shared.send(a.name, a.book.last_words())
    assert shared.look(b.accounts["all"]) == (50, 50, 0)
    assert b.get(LIMIT - 50) is not None


def test_last_words_may_be_said_twice(shared: Shared) -> None:
    a = shared.worker()
    a.pay(100)
    a.tally(100)
    a.talk()
    a.book.return_all()
    a.talk()
    for _ in range(2):
        shared.send(a.name, a.book.last_words())
    assert shared.look(a.accounts["all"]) == (100, 100, 0)
    assert list(shared.sums().values()) == [100]


def test_last_words_whose_answer_is_lost_and_the_journal_agree(shared: Shared) -> None:
    a = shared.worker()
    a.pay(100)
    a.tally(100)
    a.talk()
    a.book.return_all()
    a.talk()
    shared.send(a.name, a.book.last_words())
    shared.recover(a.die())
    assert shared.look(a.accounts["all"]) == (100, 100, 0)
    assert list(shared.sums().values()) == [100]


def test_a_journal_settles_what_is_known_and_presumes_the_rest(shared: Shared) -> None:
    a, b = shared.worker(), shared.worker()
    for _ in range(3):
        a.pay(100, 10)
        a.talk()
    a.must_get(40)
    a.pay(10)
    a.tally(40)
    shared.recover(a.die())
    assert shared.look(a.accounts["all"]) == (80, 40, 40)
    assert list(shared.sums().values()) == [40]
    assert b.get(LIMIT - 80) is not None


def test_a_journal_that_is_read_twice_counts_once(shared: Shared) -> None:
    a = shared.worker()
    a.pay(100)
    a.tally(100)
    path = a.die()
    shared.recover(path)
    shared.recover(path)
    assert shared.look(a.accounts["all"]) == (100, 100, 0)
    assert list(shared.sums().values()) == [100]


def test_an_end_is_remembered_longer_than_any_sum_that_could_be_counted_twice(shared: Shared) -> None:
    """A journal that could not be deleted may be read again months later."""
    a = shared.worker()
    a.pay(100)
    shared.recover(a.die())
    assert shared.client.ttl(SEQUENCE + a.name) >= 399 * DAY_S


def test_a_worker_that_left_no_journal_keeps_its_whole_lease(shared: Shared) -> None:
    a, b = shared.worker(), shared.worker()
    a.must_get(600)
    a.talk(NOW + 1)
    shared.client.delete(ALIVE + a.name)
    ceiling, spent, presumed = shared.look(a.accounts["all"])
    assert (ceiling, spent) == (presumed, 0)
    assert ceiling >= 600
    assert b.get(LIMIT) is None


# --- a Redis that restarts


def test_after_a_restart_nothing_is_granted_before_all_have_declared(shared: Shared) -> None:
    a, b = shared.worker(), shared.worker()
    a.must_get(700)
    b.talk(NOW)
    shared.declare_ms = 60_000
    shared.loses_its_data()
    b.talk(NOW + 1)
    assert b.get(500, NOW + 1.1) is None
    assert b.book.declaring_s > 0
    for later in (2.0, 3.0):
        a.talk(NOW + later)
    shared.client.hset(RUN, "until", 0)
    assert shared.look(a.accounts["all"])[0] >= 700
    b.talk(NOW + 5)
    assert b.get(500, NOW + 6) is None


def test_an_account_that_nobody_uses_is_declared_too(shared: Shared) -> None:
    a = shared.worker()
    a.pay(700)
    for later in (1, 7, 7.3, 14, 14.3):
        a.talk(NOW + later)
    idle = a.book.talk(NOW + 20)
    assert idle is not None
    assert idle.body["leases"] == []
    shared.loses_its_data()
    a.tally(1)  # something to say
    for later in (22, 22.3, 22.6):
        a.talk(NOW + later)
    assert shared.look(a.accounts["all"]) == (700, 700, 0)


def test_what_ended_workers_left_is_known_from_those_that_live(shared: Shared) -> None:
    a, b = shared.worker(), shared.worker()
    a.pay(600)
    a.book.return_all()
    a.talk()
    shared.send(a.name, a.book.last_words())
    b.pay(100)
    b.talk(NOW + 2)
    shared.declare_ms = 60_000
    shared.loses_its_data()
    for later in (3, 4, 5):
        b.talk(NOW + later)
    assert shared.look(b.accounts["all"])[1] == 700


def test_a_worker_that_ends_while_others_declare_is_not_taken_for_part_of_what_they_say(shared: Shared) -> None:
    """What ended workers left is declared as its sum: nothing may be added to that before."""
    first, dead, b = shared.worker(), shared.worker(), shared.worker()
    first.pay(300)
    first.book.return_all()
    first.talk()
    shared.send(first.name, first.book.last_words())
    dead.pay(200)
    b.pay(100)
    b.talk(NOW + 2)
    path = dead.die()
    shared.declare_ms = 60_000
    shared.loses_its_data()
    shared.recover(path)
    for later in (3, 4, 5):
        b.talk(NOW + later)
    assert shared.look(b.accounts["all"])[1] == 600


def test_a_server_that_is_started_anew_is_noticed(tmp_path: Path) -> None:
    """By the run id that Redis itself reports; its data are in the append-only file."""
    with bundled_redis(tmp_path / "data") as url, redis.Redis.from_url(url) as client:
        shared = Shared(client, tmp_path)
        a = shared.worker()
        first = shared.send("probe", Talk(1, {"leases": [], "needs": [], "sums": [], "windows": [], "hours": []}))
        a.must_get(700)
        a.talk(NOW + 1)
    with bundled_redis(tmp_path / "data") as url, redis.Redis.from_url(url) as client:
        shared.client, shared.declare_ms = client, 60_000
        second = shared.send("probe", Talk(2, {"leases": [], "needs": [], "sums": [], "windows": [], "hours": []}))
        assert shared.look(a.accounts["all"])[0] >= 700
    a.journal.close(remove=True)
    assert first[1] != second[1]
    assert first[2] == 0
    assert second[2] > 0


# --- hourly sums


def test_a_sum_that_comes_late_is_added_to_its_hour(shared: Shared) -> None:
    a = shared.worker()
    a.tally(100)
    a.talk(NOW)
    a.talk(NOW + 3_600 + 901)
    a.tally(7)
    a.talk(NOW + 3_600 + 902)
    a.talk(NOW + 3_600 + 904)
    assert list(shared.sums().values()) == [107]


@pytest.mark.parametrize("reaches_redis", [True, False])
def test_a_fold_whose_answer_is_lost_counts_once(shared: Shared, reaches_redis: bool) -> None:
    a = shared.worker()
    a.tally(100)
    a.talk(NOW)
    fold = a.book.talk(NOW + 4_502)
    assert fold is not None
    assert fold.body["hours"] == [hour_key(HOUR)]
    if reaches_redis:
        shared.send(a.name, fold)
    a.tally(7)
    for later in (4_504, 4_505, 4_507):
        a.talk(NOW + later)
    assert list(shared.sums().values()) == [107]


def test_a_worker_that_dies_while_it_folds_counts_once(shared: Shared) -> None:
    for reaches_redis in (True, False):
        shared.client.flushall()
        a = shared.worker()
        a.tally(100)
        a.talk(NOW)
        fold = a.book.talk(NOW + 4_502)
        assert fold is not None
        if reaches_redis:
            shared.send(a.name, fold)
        a.tally(7)
        shared.recover(a.die())
        assert list(shared.sums().values()) == [107]


# --- calls that nobody saw the end of


def given_up(worker: Worker, amount: int, cost: int) -> None:
    hold = worker.must_get(amount)
    hold.take(cost)
    hold.presume()


def test_what_a_call_that_was_given_up_may_have_cost_stays_charged_as_presumed(shared: Shared) -> None:
    a, b = shared.worker(), shared.worker()
    given_up(a, 600, 100)
    a.talk()
    assert shared.look(a.accounts["all"])[1:] == (100, 500)
    given_up(a, 200, 50)
    a.talk()
    assert shared.look(a.accounts["all"])[1:] == (150, 650)
    assert b.get(LIMIT - 150 - 650 + 1) is None
    a.talk(NOW + IDLE_S + 1)  # which gives its slack back
    assert b.get(LIMIT - 150 - 650) is not None


def test_presumed_money_that_was_forgiven_does_not_come_back(shared: Shared) -> None:
    a = shared.worker()
    given_up(a, 600, 100)
    a.talk()
    account = a.accounts["all"]
    forgive: Any = shared.client.register_script(FORGIVE)
    assert forgive(keys=[account.key(account.window(NOW).start)]) == 500
    given_up(a, 200, 50)
    a.talk()
    assert shared.look(account)[1:] == (150, 150)


@pytest.mark.parametrize("dies", [False, True])
def test_presumed_money_outlives_its_worker(shared: Shared, dies: bool) -> None:
    a = shared.worker()
    given_up(a, 600, 100)
    if dies:  # before Redis has heard of it
        shared.recover(a.die())
    else:
        a.book.return_all()
        a.talk()
        assert a.book.quiet
        shared.send(a.name, a.book.last_words())
    assert shared.look(a.accounts["all"])[1:] == (100, 500)


def test_presumed_money_is_said_again_to_a_redis_that_lost_it(shared: Shared) -> None:
    a = shared.worker()
    given_up(a, 600, 100)
    a.talk()
    shared.loses_its_data()
    a.talk(NOW + 2)
    a.talk(NOW + 4)
    assert shared.look(a.accounts["all"])[1:] == (100, 500)


# --- several budgets


def test_who_waits_for_a_spent_budget_holds_nothing_of_another(shared: Shared) -> None:
    budgets = {"all": limited(), "small": limited(100)}
    a, b = shared.worker(**budgets), shared.worker(**budgets)
    hold = b.must_get(80, name="small")
    both = Need((a.accounts["all"], a.accounts["small"]), 90)
    a.talk(NOW, both)
    assert b.get(1000) is not None
    hold.release()
    b.talk()
    assert shared.look(a.accounts["all"])[0] == 1000


def test_a_grant_whose_answer_was_lost_comes_back(shared: Shared) -> None:
    a, b = shared.worker(), shared.worker()
    lost = a.book.talk(NOW, [Need((a.accounts["all"],), 600)])
    assert lost is not None
    shared.send(a.name, lost)  # and nobody hears the answer
    assert shared.look(a.accounts["all"])[0] == 600
    a.talk(NOW + 0.1)
    assert b.get(LIMIT) is not None
