"""What workers share over a real Redis: every count once, one leader, states that outlive everybody."""

from __future__ import annotations

import asyncio
import math
import threading
from dataclasses import dataclass
from typing import Any

import pytest
import redis.asyncio as aioredis
from prometheus_client import CollectorRegistry

from policies.base import Arm
from policies.control.pace import Spending
from router.budget_settings import Budget
from router.control.controllers import Controllers
from router.control.events import shipped
from router.control.leader import Leader
from router.control.metrics import ControlSeries
from router.control.names import EVENTS, LEADER, MEMORY, PREFIX, state_key
from router.control.plan import Plan
from router.control.published import decoded
from router.control.shipper import MOST_WAITING
from router.control.spending import read_spending
from router.control.tally import Tally
from router.evidence.redis import Unreachable
from router.ledger.names import window_key
from router.ledger.pricing import NANO_PER_USD
from tests.control.conftest import KEEPING, Connect
from tests.control.made import FLOOR, Process, count, live_route
from tests.router.evidence.conftest import RedisProcess
from tests.support.gateway import PATIENCE_S
from tests.support.keys import comes_to
from tests.support.policy_parts import Asked

HOUR = Budget(window="hour", limit_usd=10, target_usd=4)


async def counted(redis: aioredis.Redis) -> tuple[int, int]:
    """Requests and audits that the published floor has seen."""
    data = await redis.get(state_key("auto"))
    assert isinstance(data, bytes)
    status = decoded(data).status
    assert status is not None
    return status.requests, status.audits


async def deposed(redis: aioredis.Redis) -> None:
    """As if the leader had not renewed its lock for too long."""
    await redis.delete(LEADER)


async def spend(redis: aioredis.Redis, budget: Budget, start: int, usd: float) -> None:
    nano = round(usd * NANO_PER_USD)
    await redis.hset(window_key("day", budget.window, "UTC", "", start), "", f"{nano} {nano} 0")


async def test_what_all_workers_counted_meets_in_one_floor_that_all_follow(connect: Connect) -> None:
    one, other = Process(connect()), Process(connect())
    await one.work(300, audited=30)
    await other.work(200, audited=20)
    await one.leader.turn()
    await other.leader.turn()
    assert (one.leader.leads, other.leader.leads) == (True, False)
    for process in (one, other):
        await process.follower.refresh()
    assert await counted(one.redis) == (500, 50)
    assert one.live.floor == other.live.floor
    assert one.live.floor is not None and one.live.floor > 0.1
    assert one.boards.named("auto").state == other.boards.named("auto").state


async def test_a_worker_that_has_seen_no_state_yet_lets_the_teacher_serve(connect: Connect) -> None:
    one = Process(connect())
    await one.follower.refresh()
    assert one.live.floor == 0.0
    assert one.live.audit_rate == FLOOR.audit_rate


async def test_a_leader_that_dies_before_it_wrote_down_anything_loses_nothing(connect: Connect) -> None:
    one, other = Process(connect()), Process(connect())
    await one.work(100, audited=10)
    await one.leader.turn()
    assert await one.redis.exists(MEMORY) == 0
    await one.work(50)
    await deposed(other.redis)
    await other.leader.turn()
    assert await counted(other.redis) == (150, 10)


async def test_a_leader_that_dies_after_it_wrote_down_is_not_counted_again(connect: Connect) -> None:
    one, other = Process(connect()), Process(connect())
    await one.work(100, audited=10)
    await one.leader.turn()
    one.now_s += 60
    await one.work(30)
    await one.leader.turn()  # writes down
    await one.work(20, audited=1)
    await one.leader.turn()  # does not
    await deposed(other.redis)
    await other.leader.turn()
    assert await counted(other.redis) == (150, 11)


async def test_a_leader_that_was_frozen_cannot_write_any_more(connect: Connect) -> None:
    one, other = Process(connect()), Process(connect())
    await one.work(100)
    await one.leader.turn()
    await deposed(other.redis)
    await other.leader.turn()
    await other.work(11)
    one.now_s += 60
    await one.leader.turn()  # would write 111 down
    assert not one.leader.leads
    assert await other.redis.exists(MEMORY) == 0
    assert await counted(other.redis) == (100, 0)
    await other.leader.turn()
    assert await counted(other.redis) == (111, 0)


async def test_the_lock_of_a_leader_that_died_ends_by_itself(connect: Connect) -> None:
    one = Process(connect())
    await one.redis.set(LEADER, "somebody else", px=50)

    async def leads() -> bool:
        await one.leader.turn()
        return one.leader.leads

    await comes_to(leads, True)


async def test_a_turn_that_is_cut_short_is_ended_before_the_next_leader_goes_on(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, step = threading.Event(), threading.Event(), Controllers.step

    def slow(*arguments: Any) -> None:
        begun.set()
        go_on.wait(PATIENCE_S)
        step(*arguments)

    monkeypatch.setattr(Controllers, "step", slow)
    one, other = Process(connect()), Process(connect())
    await one.work(10, audited=2)
    turn = asyncio.create_task(one.leader.turn())
    await asyncio.to_thread(begun.wait)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    closing = asyncio.create_task(one.leader.close())
    await asyncio.wait([closing], timeout=0.1)  # it has the time to do wrong
    go_on.set()
    await closing
    await other.leader.turn()
    assert other.leader.leads
    assert await counted(other.redis) == (10, 2)


async def test_a_leader_that_closes_leaves_everything_to_the_next_at_once(connect: Connect) -> None:
    one, other = Process(connect()), Process(connect())
    for _ in range(5):
        await one.work(20, audited=2)
    await one.leader.turn()
    await one.leader.close()
    await other.leader.turn()
    assert other.leader.leads
    assert await counted(other.redis) == (100, 10)
    assert await other.redis.xlen(EVENTS) <= 1  # what is in the memory is no longer in the stream


async def test_counts_that_arrive_twice_are_counted_once(connect: Connect) -> None:
    one = Process(connect())
    tally = Tally(one.live.version)
    for _ in range(7):
        tally.decided(0.1, 0.0, "student")
    data = shipped("worker", 1, [("auto", tally)])
    for _ in range(3):
        await one.redis.xadd(EVENTS, {b"d": data})
    await one.leader.turn()
    assert await counted(one.redis) == (7, 0)
    await one.leader.close()
    await one.redis.xadd(EVENTS, {b"d": data})  # and once more, to the next leader
    other = Process(connect())
    await other.leader.turn()
    assert await counted(one.redis) == (7, 0)


async def test_counts_that_never_arrived_are_known(connect: Connect) -> None:
    one = Process(connect())
    for number in (1, 2, 6):
        await one.redis.xadd(EVENTS, {b"d": shipped("worker", number, [])})
    await one.leader.turn()
    assert one.metric("control_shipments_lost_total") == 3


async def test_what_cannot_be_read_is_skipped_and_counted(connect: Connect) -> None:
    one = Process(connect())
    await one.redis.xadd(EVENTS, {b"d": b"\xc1 nonsense"})
    await one.redis.xadd(EVENTS, {b"other": b"field"})
    await one.work(5)
    await one.leader.turn()
    assert one.metric("control_shipments_unreadable_total") == 2
    assert await counted(one.redis) == (5, 0)


async def test_what_was_counted_while_redis_was_away_arrives_when_it_is_back(
    connect_to_killable: Connect, redis_process: RedisProcess
) -> None:
    one = Process(connect_to_killable())
    await one.work(10)
    await one.leader.turn()
    redis_process.kill()
    for _ in range(3):
        count(one.live, 5)
        with pytest.raises(Unreachable):
            await one.shipper.ship()
        with pytest.raises(Unreachable):
            await one.leader.turn()
    redis_process.start(*KEEPING)
    await one.work(1)
    await one.leader.turn()
    assert await counted(one.redis) == (26, 0)
    assert one.metric("control_shipments_dropped_total") == 0


async def test_what_waits_for_redis_is_bounded_and_what_does_not_fit_is_counted(
    connect_to_killable: Connect, redis_process: RedisProcess
) -> None:
    one = Process(connect_to_killable())
    redis_process.kill()
    for number in range(MOST_WAITING + 5):
        count(one.live, 7 if number == 0 else 1)
        with pytest.raises(Unreachable):
            await one.shipper.ship()
    assert one.metric("control_shipments_dropped_total") == 5
    redis_process.start(*KEEPING)
    await one.shipper.ship()
    await one.leader.turn()
    assert await counted(one.redis) == (7 + MOST_WAITING - 1, 0)  # of the time when a floor was followed
    await one.work(1)
    await one.leader.turn()
    assert one.metric("control_shipments_lost_total") == 0  # they are told of as dropped


async def test_a_state_that_cannot_be_read_is_told_once(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    one = Process(connect())
    for turn in range(3):
        await one.redis.set(state_key("auto"), b"{nonsense %d" % turn)
        await one.follower.refresh()
    assert caplog.text.count("cannot be read") == 1
    await one.leader.turn()
    await one.follower.refresh()
    await one.redis.set(state_key("auto"), b"{nonsense")
    await one.follower.refresh()
    assert caplog.text.count("cannot be read") == 2


async def test_while_redis_is_away_the_last_state_stays(
    connect_to_killable: Connect, redis_process: RedisProcess
) -> None:
    one = Process(connect_to_killable())
    await one.work(200, audited=40)
    await one.leader.turn()
    await one.follower.refresh()
    before = one.live.floor
    redis_process.kill()
    with pytest.raises(Unreachable):
        await one.follower.refresh()
    assert one.live.floor == before
    assert before is not None and before > 0


async def test_a_floor_that_nobody_renews_gives_everything_to_the_teacher(connect: Connect) -> None:
    one = Process(connect())
    await one.work(200, audited=40)
    await one.leader.turn()
    await one.follower.refresh()
    assert one.live.floor != 0.0
    one.boards.named("auto").seen_at -= FLOOR.stale_s + 1
    await one.follower.refresh()  # finds the same
    assert one.live.floor == 0.0
    await one.leader.turn()
    one.now_s += 1
    await one.leader.turn()
    await one.follower.refresh()
    assert one.live.floor != 0.0


async def test_a_state_that_was_old_when_a_worker_started_is_old_for_it_too(connect: Connect) -> None:
    one = Process(connect(), now_s=1_000.0)  # published long ago
    await one.work(200, audited=40)
    await one.leader.turn()
    other = Process(connect())
    await other.follower.refresh()
    assert other.live.floor == 0.0
    assert other.live.age_s > FLOOR.stale_s


async def test_a_restarted_worker_follows_the_state_before_anybody_leads(connect: Connect) -> None:
    one = Process(connect())
    one.now_s = 4e9  # not old
    await one.work(200, audited=40)
    await one.leader.turn()
    await one.leader.close()
    other = Process(connect())
    await other.follower.refresh()
    assert not other.leader.leads
    assert other.live.floor is not None and other.live.floor > 0


async def test_a_redis_that_restarts_keeps_what_was_learned(
    connect_to_killable: Connect, redis_process: RedisProcess
) -> None:
    one = Process(connect_to_killable())
    await one.work(200, audited=40)
    await one.leader.turn()
    one.now_s += 60
    await one.work(1)
    await one.leader.turn()
    redis_process.kill()
    with pytest.raises(Unreachable):
        await one.leader.turn()
    redis_process.start(*KEEPING)
    await one.work(9)
    await one.leader.turn()
    assert await counted(one.redis) == (210, 40)


async def test_a_redis_that_lost_everything_lets_the_floor_begin_anew(connect: Connect) -> None:
    one = Process(connect())
    await one.work(200, audited=40)
    await one.leader.turn()
    await one.follower.refresh()
    assert one.live.floor != 0.0
    await one.redis.flushall()
    await one.leader.turn()  # finds that it leads no more
    await one.leader.turn()
    await one.follower.refresh()
    assert one.live.floor == 0.0
    assert one.boards.named("auto").state.phase == "calibrating"


async def test_gateways_with_other_routes_on_one_redis_leave_each_others_floors_alone(connect: Connect) -> None:
    one, other = Process(connect()), Process(connect(), route="other")
    await one.work(200, audited=40)
    await one.leader.turn()
    await one.leader.close()
    await other.work(30)
    await other.leader.turn()
    await other.leader.close()
    again = Process(connect())
    await again.leader.turn()
    assert await counted(again.redis) == (200, 40)


async def test_a_floor_that_was_removed_is_shown_no_more(connect: Connect) -> None:
    """Also where another process, that reloads later, still publishes it."""
    one = Process(connect())
    await one.work(200, audited=40)
    await one.leader.turn()
    await one.follower.refresh()
    one.follower.show()
    assert one.metric("floor_audits", route="auto") == 40
    one.series.forget_floor("auto")  # as at the reload
    one.live = live_route(one.boards, floor=None, paced=True)
    one.now_s += 1
    await one.redis.append(state_key("auto"), " ")  # another text of the same
    await one.follower.refresh()
    one.follower.show()
    assert one.metric("floor_audits", route="auto") == 0
    assert one.metric("floor_phase", route="auto", phase="certified") == 0
    assert math.isnan(one.metric("threshold", route="auto", controller="floor") or 0.0)


async def test_a_damaged_memory_lets_the_controllers_begin_anew(connect: Connect) -> None:
    one = Process(connect())
    await one.redis.hset(MEMORY, mapping={"state": b"\x00 damaged", "cursor": b"0-0"})
    await one.work(5)
    await one.leader.turn()
    assert await counted(one.redis) == (5, 0)


async def test_a_route_that_a_reload_removed_is_published_no_more(connect: Connect) -> None:
    one = Process(connect())
    await one.work(200, audited=40)
    await one.leader.turn()
    await one.redis.delete(state_key("auto"))
    await one.leader.close()
    leader = Leader(one.redis, ControlSeries(CollectorRegistry()), Plan)
    await leader.turn()
    assert await one.redis.exists(state_key("auto")) == 0


@dataclass
class Spender:
    """An hour of requests, every twenty seconds so many, that cost what is expected of them."""

    process: Process
    spent_usd: float = 0.0

    async def go_on(self, steps: int) -> None:
        process = self.process
        for _ in range(steps):
            live = process.live
            extra_usd = live.extra_cost_usd(Asked())
            arm: Arm = "teacher" if (live.pace_usd or 0.0) * extra_usd <= 0.1 else "student"
            self.spent_usd += 50 * extra_usd * (arm == "teacher")
            process.now_s += 20
            await spend(process.redis, HOUR, 3600 * 100, self.spent_usd)
            await process.work(50, loss=0.1, arm=arm)
            await process.leader.turn()
            await process.follower.refresh()


def paced(redis: aioredis.Redis, now_s: float = 3600.0 * 100) -> Process:
    return Process(redis, floor=None, budget=HOUR, now_s=now_s)


async def test_a_pace_follows_what_the_ledger_says_was_spent(connect: Connect) -> None:
    one = paced(connect())
    spender = Spender(one)
    await spender.go_on(150)  # of 180
    assert 0.75 * 4.0 < spender.spent_usd < 4.0
    spender.spent_usd = 4.0  # somebody else took the rest
    await spender.go_on(2)
    assert spender.spent_usd == 4.0
    assert one.live.pace_usd is not None and one.live.pace_usd > 1e9
    assert one.metric("pace_price", route="auto") == one.live.pace_usd


async def test_a_pace_goes_on_where_it_was_under_the_next_leader(connect: Connect) -> None:
    one = paced(connect())
    spender = Spender(one)
    await spender.go_on(30)
    await one.leader.close()
    other = paced(connect(), one.now_s)
    await other.leader.turn()
    await other.follower.refresh()
    assert one.live.pace_usd is not None and one.live.pace_usd > 0.0
    assert other.live.pace_usd == pytest.approx(one.live.pace_usd, rel=0.1)


async def test_a_new_target_is_paced_towards_at_once(connect: Connect) -> None:
    one = paced(connect())
    spender = Spender(one)
    await spender.go_on(30)
    assert one.live.pace_usd != 0.0
    one.budget = HOUR.model_copy(update={"target_usd": 1000.0})
    await spender.go_on(1)
    assert one.live.pace_usd == 0.0


async def test_a_rolling_window_is_paced_in_spans_of_its_length(connect: Connect) -> None:
    """Of parts of three minutes: what was spent in this hour's counts, and not that of the last hour."""
    redis, rolling = connect(), HOUR.model_copy(update={"window": "60m"})
    now_s = 3600 * 100 + 400.0
    for start, usd in ((-180, 3.0), (0, 0.25), (180, 0.25), (360, 0.5)):
        await spend(redis, rolling, 3600 * 100 + start, usd)
    spending = await read_spending(redis, "day", rolling, now_s)
    assert spending == Spending(3600 * 100, 3600 * 101, 1.0)


async def test_every_key_lies_on_one_shard(connect: Connect) -> None:
    one = Process(connect(), budget=HOUR)
    await one.work(10, audited=5)
    await one.leader.turn()
    await one.leader.close()
    keys = [key async for key in one.redis.scan_iter()]
    assert keys and all(key.startswith(PREFIX.encode()) for key in keys)
