"""Versions of trained policies in a real Redis: numbered, bounded, promoted and rolled back in one step."""

from __future__ import annotations

import asyncio

import pytest

from router.errors import BadRequest, Conflict, NotFound
from router.trained import store as store_module
from router.trained.store import KEPT, InForce, TrainedStore
from tests.trained.policies import record

NAME = "auto:difficulty"


async def keep(store: TrainedStore, count: int) -> None:
    for number in range(1, count + 1):
        await store.put(NAME, b"file %d" % number, record(f"{number:08x}"))


async def numbers(store: TrainedStore) -> list[int]:
    return [each.number for each in await store.versions(NAME)]


async def test_versions_are_numbered_by_name_and_nothing_is_in_force_before_a_promotion(store: TrainedStore) -> None:
    await keep(store, 2)
    assert await store.put("other:cascade", b"x", record(kind="cascade")) == 1
    assert await numbers(store) == [1, 2]
    assert await store.names() == [NAME, "other:cascade"]
    assert await store.in_force([NAME, "other:cascade", "unknown:difficulty"]) == {}


async def test_a_file_comes_back_as_it_was_put(store: TrainedStore) -> None:
    data = bytes(range(256)) * 100
    number = await store.put(NAME, data, record())
    assert await store.file(NAME, number) == data
    assert (await store.find(NAME, number)).record == record()


async def test_a_promoted_version_is_in_force_with_its_digest(store: TrainedStore) -> None:
    await keep(store, 2)
    assert await store.promote(NAME, 2) is True
    assert await store.in_force([NAME]) == {NAME: InForce(2, "00000002")}
    assert [each.in_force for each in await store.versions(NAME)] == [False, True]
    assert await store.promote(NAME, 2) is False


async def test_a_rollback_brings_back_what_was_in_force_before_and_another_one_what_was_before_that(
    store: TrainedStore,
) -> None:
    await keep(store, 3)
    for number in (1, 3, 2):
        await store.promote(NAME, number)
    assert await store.rollback(NAME) == 3
    assert await store.rollback(NAME) == 1
    assert await store.in_force([NAME]) == {NAME: InForce(1, "00000001")}
    with pytest.raises(Conflict, match="nothing that is still kept was in force before"):
        await store.rollback(NAME)


async def test_a_promotion_that_was_decided_on_another_version_is_refused(store: TrainedStore) -> None:
    await keep(store, 3)
    with pytest.raises(Conflict, match="promoted meanwhile"):
        await store.promote(NAME, 2, instead_of=1)
    assert await store.promote(NAME, 1, instead_of=None)
    with pytest.raises(Conflict, match="promoted meanwhile"):
        await store.promote(NAME, 2, instead_of=None)
    assert await store.promote(NAME, 2, instead_of=1)


async def test_of_many_promotions_decided_on_the_same_version_one_succeeds(store: TrainedStore) -> None:
    await keep(store, 9)
    await store.promote(NAME, 1)
    tries = [store.promote(NAME, number, instead_of=1) for number in range(2, 10)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert [type(each) for each in results].count(Conflict) == 7
    assert results.count(True) == 1


async def test_the_oldest_versions_go_but_never_the_one_in_force_nor_the_one_before_it(store: TrainedStore) -> None:
    await keep(store, 3)
    await store.promote(NAME, 1)
    await store.promote(NAME, 2)
    for number in range(4, KEPT + 6):
        await store.put(NAME, b"later", record(f"{number:08x}"))
    kept = await numbers(store)
    assert kept[:2] == [1, 2] and kept[2:] == list(range(kept[2], KEPT + 6))
    assert len(kept) <= KEPT + 2 and 3 not in kept
    assert await store.rollback(NAME) == 1
    with pytest.raises(NotFound, match="no version 3"):
        await store.file(NAME, 3)


async def test_a_number_is_never_given_twice(store: TrainedStore) -> None:
    for number in range(1, 2 * KEPT):
        assert await store.put(NAME, b"x", record()) == number


async def test_what_is_not_there_is_told_with_what_is(store: TrainedStore) -> None:
    with pytest.raises(NotFound, match=r"no trained policy 'auto:difficulty'; known: none; `policy train` makes one"):
        await store.find(NAME, None)
    with pytest.raises(NotFound, match="no trained policy"):
        await store.rollback(NAME)
    await keep(store, 2)
    with pytest.raises(NotFound, match="no version 7; kept: 1, 2"):
        await store.promote(NAME, 7)
    assert (await store.find(NAME, None)).number == 2
    await store.promote(NAME, 1)
    assert (await store.find(NAME, None)).number == 1


@pytest.mark.parametrize("name", ["", "auto", "auto:", ":difficulty", "auto:Kind", "a b:difficulty", "auto@2:cascade"])
async def test_a_name_that_is_none_is_refused(store: TrainedStore, name: str) -> None:
    with pytest.raises(BadRequest, match="expected ROUTE:KIND"):
        await store.put(name, b"x", record())


async def test_a_file_that_is_too_large_is_refused(store: TrainedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_BYTES", 3)
    with pytest.raises(BadRequest, match="too large"):
        await store.put(NAME, b"four", record())


async def test_trials_are_counted_since_the_last_change_of_what_is_in_force(store: TrainedStore) -> None:
    await keep(store, 2)
    assert [await store.count_trial(NAME) for _ in range(3)] == [1, 2, 3]
    await store.promote(NAME, 1)
    assert await store.count_trial(NAME) == 1
    await store.promote(NAME, 2)
    await store.count_trial(NAME)
    await store.rollback(NAME)
    assert await store.count_trial(NAME) == 1
