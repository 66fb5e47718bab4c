"""The token bucket over several workers: its bound holds whatever the order, the delay or the loss of messages."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from router.limits.bucket import LEASE_S, UNITS, Bucket, Limit, Offer
from router.limits.script import LEASE, REDIS_TIME, bucket_key

MANUAL = LEASE.replace(REDIS_TIME, "{0, ARGV[#ARGV]}").replace("key, text(math", "key, 3600000 + text(math")
WORKERS = 3
NUMBERS = itertools.count()
START_MS = 1_000_000
REFUND = st.tuples(st.just("refund"), st.integers(0, WORKERS - 1), st.integers(1, 30))
ACTIONS = st.one_of(
    st.tuples(st.just("wait"), st.just(0), st.sampled_from((0, 1, 10, 250, 1000, 3001, 10_000, 70_000))),
    st.tuples(st.sampled_from(("talk", "keep", "burst")), st.integers(0, WORKERS - 1), st.integers(0, 10)),
    st.tuples(st.just("take"), st.integers(0, WORKERS - 1), st.integers(1, 30)),
    st.tuples(st.just("send"), st.integers(0, WORKERS - 1), st.integers(0, 10)),
    st.tuples(st.just("reach"), st.integers(0, WORKERS - 1), st.just(0)),
    st.tuples(st.just("answer"), st.integers(0, WORKERS - 1), st.just(0)),
    st.tuples(st.just("lose"), st.integers(0, WORKERS - 1), st.just(0)),
    st.tuples(st.just("die"), st.integers(0, WORKERS - 1), st.just(0)),
)


@dataclass
class Worker:
    """One worker's bucket and the message that it has on its way."""

    bucket: Bucket
    name: str = field(default_factory=lambda: f"w{next(NUMBERS)}")
    offer: Offer | None = None
    sent_ms: int = 0
    reply: tuple[int, int] | None = None
    taken: int = 0
    returning: int = 0


class Cluster:
    """Workers and a real Redis under a clock that the test turns.

    `taken`: (when, units); refunds below zero, at the time when they can be taken again: for what goes by Redis, when
    it hears of it.
    """

    def __init__(self, client: redis.Redis, per_minute: int) -> None:
        self.limit = Limit("key", f"k{next(NUMBERS)}", "requests", per_minute)
        self.now_ms = START_MS
        self.taken: list[tuple[int, int]] = []
        self._client = client
        self.workers = [self._worker() for _ in range(WORKERS)]

    def do(self, action: str, number: int, amount: int) -> None:
        if action == "wait":
            self.now_ms += amount
        elif action == "die":
            self.workers[number] = self._worker()
        else:
            getattr(self, f"_{action}")(self.workers[number], amount)

    def check(self) -> None:
        """No more than b + r·T in any time T."""
        limit = self.limit
        for start, (began, _) in enumerate(self.taken):
            total = 0
            for at, units in self.taken[start:]:
                total += units
                assert total <= limit.per_minute * (UNITS + at - began)

    @property
    def _now(self) -> float:
        return self.now_ms / 1000

    def _worker(self) -> Worker:
        return Worker(Bucket(self.limit, self._now, alone=False))

    def _take(self, worker: Worker, amount: int) -> None:
        for _ in range(amount):
            if worker.bucket.available(self._now) < UNITS:
                return
            worker.bucket.take(UNITS, self._now)
            worker.taken += 1
            self.taken.append((self.now_ms, UNITS))

    def _refund(self, worker: Worker, amount: int) -> None:
        amount = min(amount, worker.taken)
        if amount:
            worker.taken -= amount
            before = worker.bucket.refund
            worker.bucket.settle(amount * UNITS)
            by_redis = worker.bucket.refund - before
            self.taken.append((self.now_ms, by_redis - amount * UNITS))

    def _keep(self, worker: Worker, _: int) -> None:
        """From now on it keeps whatever it has: it seems to be very busy."""
        worker.bucket.use_per_s = 1e12 * UNITS

    def _talk(self, worker: Worker, asked: int) -> None:
        self._send(worker, asked)
        self._reach(worker, 0)
        self._answer(worker, 0)

    def _burst(self, worker: Worker, _: int) -> None:
        """It takes all that it can get."""
        self._take(worker, 1000)
        self._talk(worker, 1000)
        self._take(worker, 1000)

    def _send(self, worker: Worker, asked: int) -> None:
        if worker.offer is None:
            worker.bucket.asked = asked * UNITS
            worker.returning = worker.bucket.refund
            worker.offer, worker.sent_ms = worker.bucket.offer(self._now), self.now_ms

    def _reach(self, worker: Worker, _: int) -> None:
        if worker.offer and worker.reply is None:
            offer = worker.offer
            said = (self.limit.per_minute, offer.returned, offer.kept, offer.least, offer.ahead)
            reply = self._client.eval(MANUAL, 1, bucket_key(self.limit), worker.name, *said, self.now_ms * 1000)
            assert isinstance(reply, list)
            worker.reply = reply[0], reply[1]
            if worker.returning:
                self.taken.append((self.now_ms, -worker.returning))

    def _answer(self, worker: Worker, _: int) -> None:
        if worker.offer and worker.reply:
            worker.bucket.granted(worker.offer, *worker.reply, worker.sent_ms / 1000)
            worker.offer = worker.reply = None

    def _lose(self, worker: Worker, _: int) -> None:
        if worker.offer:
            worker.bucket.unheard(worker.offer)
            worker.offer = worker.reply = None

    def talk(self, number: int, asked: int = 0) -> None:
        self.do("talk", number, asked)


@pytest.fixture(scope="module")
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def cluster(client: redis.Redis) -> Cluster:
    return Cluster(client, 60)


@settings(max_examples=100, deadline=None)
@given(per_minute=st.sampled_from((1, 7, 60, 1000)), actions=st.lists(ACTIONS, min_size=50, max_size=100))
def test_no_interleaving_admits_more_than_the_capacity_and_the_refill(
    client: redis.Redis, per_minute: int, actions: list[tuple[str, int, int]]
) -> None:
    cluster = Cluster(client, per_minute)
    for action in actions:
        cluster.do(*action)
    cluster.check()


@settings(max_examples=100, deadline=None)
@given(per_minute=st.sampled_from((1, 60)), actions=st.lists(st.one_of(ACTIONS, REFUND), min_size=50, max_size=100))
def test_what_comes_back_is_taken_again_and_no_more(
    client: redis.Redis, per_minute: int, actions: list[tuple[str, int, int]]
) -> None:
    cluster = Cluster(client, per_minute)
    for action in actions:
        cluster.do(*action)
    cluster.check()


def test_what_a_worker_holds_does_not_come_on_top_of_a_full_bucket(cluster: Cluster) -> None:
    cluster.talk(0, asked=20)
    for _ in range(40):  # a quiet minute in which the slice is kept alive
        cluster.do("wait", 0, 2900)
        cluster.do("keep", 0, 0)
        cluster.talk(0)
    assert cluster.workers[0].bucket.held >= 20 * UNITS
    cluster.do("burst", 0, 0)
    cluster.do("burst", 1, 0)
    assert len(cluster.taken) == 60


@pytest.mark.parametrize("wait_ms", [1000, int(LEASE_S * 1000)])
def test_nothing_refills_the_room_of_a_slice_that_can_still_be_spent(cluster: Cluster, wait_ms: int) -> None:
    cluster.talk(0, asked=10)
    cluster.do("wait", 0, wait_ms)
    cluster.do("take", 0, 10)
    cluster.do("wait", 0, 1)
    cluster.do("burst", 1, 0)
    cluster.do("burst", 0, 0)
    assert len(cluster.taken) == 60


def test_a_slice_that_redis_has_forgotten_cannot_be_spent(cluster: Cluster) -> None:
    cluster.talk(0, asked=10)
    cluster.do("wait", 0, 5000)
    cluster.do("burst", 1, 0)
    cluster.do("burst", 0, 0)
    cluster.check()
    assert len(cluster.taken) == 52


def test_what_comes_back_does_not_come_on_top_of_what_has_refilled(cluster: Cluster) -> None:
    cluster.talk(0, asked=10)
    cluster.do("take", 0, 10)
    for _ in range(4):
        cluster.talk(0)
        cluster.do("wait", 0, 2900)
    cluster.do("refund", 0, 10)
    cluster.do("burst", 1, 0)
    cluster.do("take", 0, 10)
    assert len([units for _, units in cluster.taken if units > 0]) == 10 + 60
    cluster.check()


def test_what_a_dead_worker_held_comes_back_by_the_refill(cluster: Cluster) -> None:
    cluster.talk(0, asked=60)
    cluster.do("die", 0, 0)
    cluster.talk(1, asked=60)
    assert cluster.workers[1].bucket.available(cluster.now_ms / 1000) == 0
    cluster.do("wait", 0, int(LEASE_S * 1000) + 60_000)
    cluster.talk(1, asked=60)
    assert cluster.workers[1].bucket.held == 60 * UNITS


def test_an_idle_worker_gives_everything_back(cluster: Cluster) -> None:
    cluster.talk(0, asked=40)
    cluster.do("wait", 0, 250)
    cluster.talk(0)
    assert not cluster.workers[0].bucket.talks
    cluster.talk(1, asked=60)
    assert cluster.workers[1].bucket.held == 60 * UNITS


def test_tokens_are_owed_by_all_workers_until_the_refill_has_paid_them(client: redis.Redis) -> None:
    cluster = Cluster(client, 60)
    cluster.talk(0, asked=1)
    bucket = cluster.workers[0].bucket
    bucket.take(90 * UNITS, cluster.now_ms / 1000)  # a long prompt while there was anything left
    cluster.talk(0)
    cluster.talk(1, asked=1)
    assert cluster.workers[1].bucket.available(cluster.now_ms / 1000) <= 0
    cluster.do("wait", 0, 30_000)
    cluster.talk(1, asked=1)
    assert cluster.workers[1].bucket.available(cluster.now_ms / 1000) <= 0
    cluster.do("wait", 0, 1_000)
    cluster.talk(1, asked=1)
    assert cluster.workers[1].bucket.held == UNITS


def test_alone_a_worker_counts_the_whole_limit_and_goes_on_from_redis_last_word(cluster: Cluster) -> None:
    cluster.talk(0, asked=10)
    cluster.do("take", 0, 10)
    bucket = cluster.workers[0].bucket
    bucket.go_alone(cluster.now_ms / 1000)
    cluster.do("take", 0, 100)
    assert len(cluster.taken) == 60
    cluster.do("wait", 0, 2000)
    cluster.do("take", 0, 100)
    assert len(cluster.taken) == 62
    cluster.check()


@given(
    steps=st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 40)), max_size=60), per_minute=st.integers(1, 99)
)
def test_alone_no_order_admits_more_than_the_capacity_and_the_refill(
    steps: list[tuple[int, int]], per_minute: int
) -> None:
    bucket = Bucket(Limit("key", "k", "requests", per_minute), 0.0, alone=True)
    now_ms, taken = 0, []
    for wait_ms, wanted in steps:
        now_ms += wait_ms
        for _ in range(wanted):
            if bucket.available(now_ms / 1000) >= UNITS:
                bucket.take(UNITS, now_ms / 1000)
                taken.append(now_ms)
    for start, began in enumerate(taken):
        for end, at in enumerate(taken[start:], start + 1):
            assert (end - start) * UNITS <= per_minute * (UNITS + at - began + 1)
