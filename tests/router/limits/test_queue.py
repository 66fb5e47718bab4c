"""The requests that wait for a talk: in order, and refused only by what Redis said about them."""

from __future__ import annotations

import asyncio

import pytest

from router.limits.admission import Admission
from router.limits.bucket import UNITS, Bucket, Limit
from router.limits.queue import Queue, Waiter

NOW, LATE = 1.0, 9.0


@pytest.fixture
def bucket() -> Bucket:
    bucket = Bucket(Limit("key", "app", "requests", 60), NOW, alone=False)
    bucket.until = 100.0
    return bucket


async def joined(queue: Queue, *buckets: Bucket) -> Waiter:
    waiter = Waiter(buckets, 10, LATE)
    queue.join(waiter)
    return waiter


async def test_who_came_first_is_served_first(bucket: Bucket) -> None:
    queue = Queue()
    waiters = [await joined(queue, bucket) for _ in range(3)]
    bucket.held = 2 * UNITS
    queue.serve(NOW, alone=False)
    assert [waiter.verdict.done() for waiter in waiters] == [True, True, False]
    assert (bucket.held, bucket.asked) == (0, UNITS)


async def test_who_came_during_a_talk_is_not_refused_by_it(bucket: Bucket) -> None:
    queue = Queue()
    first = await joined(queue, bucket)
    queue.hear()
    second = await joined(queue, bucket)
    bucket.level = 0
    queue.serve(NOW, alone=False)
    assert first.verdict.result() is bucket
    assert not second.verdict.done()


async def test_while_redis_has_some_it_is_asked_again_but_not_for_ever(bucket: Bucket) -> None:
    queue = Queue()
    waiter = await joined(queue, bucket)
    queue.hear()
    queue.serve(NOW, alone=False)
    assert not waiter.verdict.done()
    queue.serve(LATE, alone=False)
    assert waiter.verdict.result() is bucket
    assert not queue and bucket.asked == 0


async def test_nobody_waits_where_nobody_is_left_to_ask(bucket: Bucket) -> None:
    queue = Queue()
    waiters = [await joined(queue, bucket) for _ in range(2)]
    bucket.held = UNITS
    queue.serve(NOW, alone=True)
    assert isinstance(waiters[0].verdict.result(), Admission)
    assert waiters[1].verdict.result() is bucket


async def test_a_request_asks_for_all_its_buckets(bucket: Bucket) -> None:
    """Or else a talk would take back what it has of one while it asks for another."""
    tokens = Bucket(Limit("key", "app", "tokens", 1000), NOW, alone=False)
    tokens.held = 10 * UNITS
    waiter = await joined(queue := Queue(), bucket, tokens)
    assert (bucket.asked, tokens.asked) == (UNITS, 10 * UNITS)
    queue.leave(waiter)
    queue.leave(waiter)
    assert (bucket.asked, tokens.asked) == (0, 0)


async def test_who_goes_when_he_was_just_served_leaves_his_tokens() -> None:
    tokens = Bucket(Limit("key", "app", "tokens", 1000), NOW, alone=True)
    waiter = await joined(queue := Queue(), tokens)
    waiter.give_back()
    queue.serve(NOW, alone=True)
    assert tokens.open == 1
    waiter.give_back()
    assert (tokens.open, tokens.held) == (0, tokens.capacity)
    gone = await joined(queue, tokens)
    gone.verdict.cancel()
    gone.give_back()
    queue.serve(NOW, alone=True)
    await asyncio.sleep(0)
    assert not queue and tokens.open == 0
