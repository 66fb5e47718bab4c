"""How budgets stand, as it is read from Redis while workers lease from it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
import redis.asyncio as aioredis

from router.budget_settings import Budget
from router.bundled_redis import bundled_redis
from router.ledger.book import Book, Need, recovered
from router.ledger.journal import Journal, orphan
from router.ledger.lease import Account, Hold
from router.ledger.names import ALIVE, RUN, window_key
from router.ledger.scripts import TALK
from router.ledger.status import BudgetStatus, declare_nothing, forgive, read_status

NOW = datetime(2100, 5, 4, 12, tzinfo=UTC).timestamp()
DAY_S = 86_400
ALL = Budget(window="day", limit_usd=1e-6, target_usd=5e-7)
EACH = Budget(each="key", window="day", limit_usd=1e-6)
# What a name may hold: a bracket, a quote or a space may not.
NAMES = ["a", "a:b", "a:4102444800", "a/b", "a.b-c_d", "window:x", "key:day", "x" * 128]


class Desk:
    """A worker, and a redis client that reads."""

    def __init__(self, client: Any, reader: aioredis.Redis, folder: Path, name: str = "w") -> None:
        self.client, self.reader, self.name = client, reader, name
        self.journal = Journal(folder, name)
        self.book = Book(name, self.journal, 5, 1, DAY_S)

    def account(self, name: str, budget: Budget, member: str = "", now: float = NOW) -> Account:
        return self.book.account(Account(name, member, budget), now)

    def reserve(self, account: Account, amount: int, now: float = NOW) -> Hold:
        self.talk(now, Need((account,), amount))
        hold = self.book.reserve([account], amount, now)
        assert isinstance(hold, Hold)
        return hold

    def spend(self, account: Account, amount: int, now: float = NOW) -> None:
        hold = self.reserve(account, amount, now)
        hold.take(amount)
        hold.release()
        self.talk(now)

    def talk(self, now: float = NOW, *needs: Need) -> None:
        if talk := self.book.talk(now, needs):
            self.book.heard(talk, self.send(talk.number, talk.body), now)

    def send(self, number: int, body: Any) -> Any:
        script: Any = self.client.register_script(TALK)
        return script(keys=[RUN], args=[self.name, number, 60_000, 0, msgspec.json.encode(body)])

    def die(self, *, recovers: bool) -> None:
        self.journal.close(remove=False)
        self.client.delete(ALIVE + self.name)
        with orphan(self.journal.path) as entries:
            assert entries is not None
            for talk in recovered(entries) if recovers else ():
                self.send(talk.number, talk.body)

    async def status(self, at: float = NOW, /, **budgets: Budget) -> list[BudgetStatus]:
        return await read_status(self.reader, budgets, at)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with bundled_redis(tmp_path_factory.mktemp("status")) as url:
        yield url


@pytest.fixture
async def desk(url: str, tmp_path: Path) -> AsyncIterator[Desk]:
    with redis.Redis.from_url(url) as client:
        client.flushall()
        reader = aioredis.Redis.from_url(url)
        desk = Desk(client, reader, tmp_path)
        yield desk
        if not desk.journal._file.closed:
            desk.journal.close(remove=True)
        await reader.aclose()


async def test_a_budget_that_nobody_has_used_is_there(desk: Desk) -> None:
    (found,) = await desk.status(all=ALL)
    start = int(NOW) // DAY_S * DAY_S
    assert found == BudgetStatus("all", "", "day", start, start + DAY_S, 1_000, 500, 0, 0, 0)


async def test_spent_and_reserved_are_told_apart(desk: Desk) -> None:
    account = desk.account("all", ALL)
    desk.spend(account, 300)
    desk.reserve(account, 200)
    (found,) = await desk.status(all=ALL)
    assert found.spent_nano == 300
    assert 200 <= found.reserved_nano <= 700
    assert found.presumed_nano == 0


async def test_what_dead_workers_held_is_presumed_spent_until_it_is_forgiven(desk: Desk) -> None:
    account = desk.account("all", ALL)
    desk.spend(account, 300)
    desk.reserve(account, 200)
    desk.die(recovers=True)
    (found,) = await desk.status(all=ALL)
    assert (found.spent_nano, found.reserved_nano, found.presumed_nano) == (300, 0, 200)
    assert await forgive(desk.reader, "all", "", ALL, NOW) == 200
    (found,) = await desk.status(all=ALL)
    assert (found.spent_nano, found.reserved_nano, found.presumed_nano) == (300, 0, 0)
    assert await forgive(desk.reader, "all", "", ALL, NOW) == 0


async def test_a_worker_that_left_no_journal_is_forgiven_too(desk: Desk) -> None:
    desk.reserve(desk.account("all", ALL), 200)
    desk.die(recovers=False)
    (found,) = await desk.status(all=ALL)
    assert found.presumed_nano == await forgive(desk.reader, "all", "", ALL, NOW) >= 200


async def test_living_workers_are_not_forgiven(desk: Desk) -> None:
    desk.reserve(desk.account("all", ALL), 200)
    assert await forgive(desk.reader, "all", "", ALL, NOW) == 0
    (found,) = await desk.status(all=ALL)
    assert found.reserved_nano >= 200


async def test_only_the_named_member_is_forgiven(desk: Desk) -> None:
    for member in ("a", "b"):
        desk.reserve(desk.account("each", EACH, member), 100)
    desk.die(recovers=True)
    assert await forgive(desk.reader, "each", "a", EACH, NOW) == 100
    assert [found.presumed_nano for found in await desk.status(each=EACH)] == [0, 100]


@pytest.mark.parametrize("name", NAMES)
async def test_members_are_found_whatever_their_names(desk: Desk, name: str) -> None:
    desk.spend(desk.account("each", EACH, name), 70)
    (found,) = await desk.status(each=EACH)
    assert (found.member, found.spent_nano) == (name, 70)


@pytest.mark.parametrize("name", NAMES)
async def test_budgets_are_told_apart_whatever_their_names(desk: Desk, name: str) -> None:
    desk.spend(desk.account(name, EACH, "m"), 70)
    desk.spend(desk.account("each", EACH, name), 30)
    found = await read_status(desk.reader, {name: EACH, "each": EACH}, NOW)
    assert [(status.budget, status.member, status.spent_nano) for status in found] == [
        (name, "m", 70),
        ("each", name, 30),
    ]


async def test_members_come_in_order_and_budgets_as_in_the_file(desk: Desk) -> None:
    for member in ("b", "a", "c"):
        desk.spend(desk.account("each", EACH, member), 10)
    found = await desk.status(z=ALL, each=EACH, a=ALL)
    assert [(status.budget, status.member) for status in found] == [
        ("z", ""),
        ("each", "a"),
        ("each", "b"),
        ("each", "c"),
        ("a", ""),
    ]


async def test_members_of_another_window_are_not_listed(desk: Desk) -> None:
    before = desk.account("each", EACH, "yesterday")
    desk.spend(before, 10, NOW - DAY_S)
    desk.book.drop(before)
    desk.spend(desk.account("each", EACH, "today"), 10)
    desk.spend(desk.account("each", EACH.model_copy(update={"window": "month"}), "monthly"), 10)
    assert [status.member for status in await desk.status(each=EACH)] == ["today"]


async def test_a_budget_of_one_member_shows_it(desk: Desk) -> None:
    budget = Budget(tenant="acme", window="day", limit_usd=1e-6)
    desk.spend(desk.account("b", budget, "acme"), 40)
    (found,) = await desk.status(b=budget)
    assert (found.member, found.spent_nano) == ("acme", 40)


async def test_own_budgets_of_a_key_are_added(desk: Desk) -> None:
    own = Budget(key="k", window="day", limit_usd=1e-6)
    desk.spend(desk.account("key:day", own, "k"), 40)
    found = await read_status(desk.reader, {}, NOW, [("key:day", "k", own)])
    assert [(status.budget, status.member, status.spent_nano) for status in found] == [("key:day", "k", 40)]


async def test_a_rolling_window_sums_its_parts_until_they_have_left_it(desk: Desk) -> None:
    budget = Budget(window="60m", limit_usd=1e-6)
    account = desk.account("rolling", budget)
    for minutes in (0, 20, 40):
        desk.spend(account, 100, NOW + minutes * 60)
    seen = {}
    for minutes in (40, 59, 64, 84, 104):
        (found,) = await desk.status(NOW + minutes * 60, rolling=budget)
        seen[minutes] = found.spent_nano
        assert found.window_start <= NOW + minutes * 60 - 3_600 < found.window_start + 180
        assert found.window_end is None
    assert seen == {40: 300, 59: 300, 64: 200, 84: 100, 104: 0}


async def test_forgiving_a_rolling_window_reaches_all_its_parts(desk: Desk) -> None:
    budget = Budget(window="60m", limit_usd=1e-6)
    account = desk.account("rolling", budget)
    desk.reserve(account, 100)
    desk.reserve(account, 50, NOW + 1_200)
    desk.die(recovers=True)
    assert await forgive(desk.reader, "rolling", "", budget, NOW + 1_300) == 150


async def test_a_window_is_kept_for_its_time_and_no_longer(desk: Desk) -> None:
    desk.spend(desk.account("all", ALL), 1)
    start = int(NOW) // DAY_S * DAY_S
    assert desk.client.execute_command("TTL", window_key("all", "day", "UTC", "", start)) > 0


async def test_a_server_of_our_own_grants_at_once(desk: Desk, url: str) -> None:
    declare_nothing(url)
    body: dict[str, Any] = {"leases": [], "needs": [], "sums": [], "windows": [], "hours": []}
    script: Any = desk.client.register_script(TALK)
    assert script(keys=[RUN], args=["w", 1, 60_000, 60_000, msgspec.json.encode(body)])[2] == 0
