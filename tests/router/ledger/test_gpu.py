"""The bill of self-hosted models: each stretch of time is billed once, and bill = attributed + idle, exactly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis.asyncio as aioredis
from hypothesis import given, settings
from hypothesis import strategies as st

from router.ledger.gpu import GAP_MS, GPU_BILL, GPU_BILL_ORIGIN, LocalClaims, RedisClaims, gpu_bill
from router.ledger.names import PREFIX, hour_field
from router.ledger.pricing import NANO_PER_USD
from router.record.metrics import Metrics
from router.settings import parse
from router.upstream.model import ModelClient
from tests.router.conftest import redis_url, student, teacher
from tests.support.gateway import RunningGateway, running_gateway, two_models
from tests.support.scripted import ScriptedUpstream

__all__ = ["redis_url", "student", "teacher"]

untimed = settings(deadline=None)  # a busy machine is no failure

MS_PER_HOUR = 3_600_000
NS_PER_S = 1_000_000_000
SUMS_S = 1000
# No multiple of anything: what a claim leaves of a nano-dollar must not be lost.
HOURLY = {"teacher": 98_765_432_123, "student": 7}
GPU_PRICE = {
    "price_per_gpu_hour_usd": 3.6,
    "gpus": 1,
    "capacity": {"prefill_tokens_per_s": 1000, "decode_tokens_per_s": 100},
}


@asynccontextmanager
async def emptied(url: str) -> AsyncIterator[aioredis.Redis]:
    client = aioredis.Redis.from_url(url)
    await client.flushdb()
    try:
        yield client
    finally:
        await client.aclose()


async def billed_until(redis: aioredis.Redis, model: str) -> tuple[int, int]:
    """Redis' account: the time (ms), and the rest in parts of a nano-dollar."""
    last, rest = [int(value or 0) for value in await redis.hmget(GPU_BILL, model, f"{model}|rest")]
    return last, rest


async def hourly_sums(redis: aioredis.Redis, model: str) -> int:
    field = hour_field("", "", "", "", model, GPU_BILL_ORIGIN)
    keys = [key async for key in redis.scan_iter(f"{PREFIX}hour:*")]
    return sum([int(await redis.hget(key, field) or 0) for key in keys])


async def test_many_claimers_bill_each_millisecond_once(redis_url: str) -> None:
    """Two gateways of four workers, at once and in any order: together they have the time, and Redis' sums say so."""
    async with emptied(redis_url) as redis:
        claimers = [RedisClaims(redis, SUMS_S) for _ in range(8)]
        assert await claimers[0].claim(HOURLY) == dict.fromkeys(HOURLY, 0)
        begin = {model: (await billed_until(redis, model))[0] for model in HOURLY}
        claimed = dict.fromkeys(HOURLY, 0)
        for pause in (0.002, 0.011, 0.003, 0.02):
            await asyncio.sleep(pause)
            for part in await asyncio.gather(*(claimer.claim(HOURLY) for claimer in claimers)):
                for model, nano in part.items():
                    claimed[model] += nano
        for model, hourly in HOURLY.items():
            end, rest = await billed_until(redis, model)
            assert end > begin[model]
            assert claimed[model] * MS_PER_HOUR + rest == hourly * (end - begin[model])
            assert await hourly_sums(redis, model) == claimed[model]
        assert claimed["teacher"] > 0
        assert all([0 < await redis.ttl(key) <= SUMS_S async for key in redis.scan_iter(f"{PREFIX}hour:*")])


@pytest.mark.parametrize(
    ("gap_ms", "ran_s", "billed"),
    [
        (GAP_MS - 10_000, 0.0, True),  # a restart
        (GAP_MS + 10_000, 0.0, False),  # nobody ran
        (GAP_MS + 10_000, GAP_MS / 1000 + 100, True),  # this worker did, and Redis was away
    ],
)
async def test_a_long_gap_is_billed_only_to_who_was_there(
    redis_url: str, gap_ms: int, ran_s: float, billed: bool
) -> None:
    async with emptied(redis_url) as redis:
        now = [0.0]
        claims = RedisClaims(redis, SUMS_S, clock=lambda: now[0])
        await claims.claim({"m": MS_PER_HOUR})  # a nano-dollar a millisecond
        last, _ = await billed_until(redis, "m")
        await redis.hset(GPU_BILL, "m", last - gap_ms)
        now[0] = ran_s
        nano = (await claims.claim({"m": MS_PER_HOUR}))["m"]
        end, _ = await billed_until(redis, "m")
        assert end >= last
        assert nano == (end - last + gap_ms if billed else 0)


async def test_a_model_that_was_not_configured_meanwhile_is_not_billed_for_it(redis_url: str) -> None:
    now = [0]
    async with emptied(redis_url) as redis:
        claims = RedisClaims(redis, SUMS_S, clock=lambda: now[0])
        await claims.claim({"m": MS_PER_HOUR})
        await claims.claim({})
        last, _ = await billed_until(redis, "m")
        await redis.hset(GPU_BILL, "m", last - 2 * GAP_MS)
        now[0] += 2 * GAP_MS
        assert await claims.claim({"m": MS_PER_HOUR}) == {"m": 0}
    local = LocalClaims(None, clock_ns=lambda: now[0])
    await local.claim({"m": 3600})
    await local.claim({})
    now[0] += NS_PER_S
    assert await local.claim({"m": 3600}) == {"m": 0}
    now[0] += NS_PER_S
    assert await local.claim({"m": 3600}) == {"m": 1}


@untimed
@given(st.lists(st.integers(0, 10**13), max_size=20), st.integers(1, 10**15))
def test_without_redis_many_claims_bill_as_much_as_one(steps_ns: list[int], hourly: int) -> None:
    now = [0]
    claims = LocalClaims(None, clock_ns=lambda: now[0])

    async def claimed() -> int:
        total = (await claims.claim({"m": hourly}))["m"]
        for step in steps_ns:
            now[0] += step
            total += (await claims.claim({"m": hourly}))["m"]
        return total

    assert asyncio.run(claimed()) == hourly * sum(steps_ns) // (3600 * NS_PER_S)


async def test_without_redis_one_worker_has_the_time_and_another_follows_it(tmp_path: Path) -> None:
    now = [0]
    one, other = (LocalClaims(tmp_path, clock_ns=lambda: now[0]) for _ in range(2))

    async def after(seconds: int) -> list[Mapping[str, int]]:
        now[0] += seconds * NS_PER_S
        return [await claims.claim({"m": 3600}) for claims in (one, other)]

    assert await after(0) == [{"m": 0}, {}]
    assert await after(5) == [{"m": 5}, {}]
    await one.close()
    assert (await other.claim({"m": 3600})) == {"m": 0}
    now[0] += 3 * NS_PER_S
    assert (await other.claim({"m": 3600})) == {"m": 3}
    await other.close()


@untimed
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10**15)), max_size=50))
def test_idle_is_the_bill_less_what_was_attributed_to_the_nano_dollar(happenings: list[tuple[bool, int]]) -> None:
    metrics = Metrics()
    balance = 0
    for billed, nano in happenings:
        (metrics.machine("m").bill if billed else metrics.machine("m").attribute)(nano)
        balance += nano if billed else -nano
    metrics.machine("m")
    assert metrics.registry.get_sample_value("distill_router_idle_cost_usd", {"model": "m"}) == balance / NANO_PER_USD


async def test_a_lone_request_pays_its_tokens_and_not_the_idle_machine(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str
) -> None:
    """Served and shadow calls are attributed; the rest of what Redis has billed is idle."""
    config = two_models(teacher.url, student.url, route={"audit": {"rate": 1.0, "second_draw": 0.0, "confirm": 0.0}})
    config["models"]["student"]["price"] = GPU_PRICE
    config["models"]["teacher"]["price"] = GPU_PRICE | {"gpus": 2}
    config["models"]["other"] = config["models"]["student"] | {"price": {"input": 1, "output": 1}}
    async with running_gateway(config, redis_url=redis_url) as gw:
        await gw.ask("chat")
        rows = await gw.all_rows(2)
        costs = {charge.model: charge.nano for row in rows for charge in row.ch}
        a_second = 3.6 / 3600 * NANO_PER_USD  # of a GPU
        assert costs == {"student": (20 / 1000 + 3 / 100) * a_second, "teacher": 2 * (10 / 1000 + 3 / 100) * a_second}
        await gw.gateway.gpu_bill.close()  # nothing accrues while two places are looked at
        await check_gpu_books(gw, redis_url, costs)
        assert gw.metric("cost_usd_total", origin="shadow") > 0
        assert gw.metric("gpu_bill_usd_total", model="other") == gw.metric("idle_cost_usd", model="other") == 0


async def check_gpu_books(gw: RunningGateway, url: str, attributed: Mapping[str, int]) -> None:
    """Redis, the counter and the gauge tell the same story, to the nano-dollar."""
    client = aioredis.Redis.from_url(url)
    try:
        for model, nano in attributed.items():
            bill = await hourly_sums(client, model)
            assert bill > 0
            assert round(gw.metric("gpu_bill_usd_total", model=model) * NANO_PER_USD) == bill
            assert round(gw.metric("idle_cost_usd", model=model) * NANO_PER_USD) == bill - nano
    finally:
        await client.aclose()


async def test_the_bill_is_settled_up_to_the_end(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str
) -> None:
    config = two_models(teacher.url, student.url)
    config["models"]["student"]["price"] = GPU_PRICE
    async with running_gateway(config, redis_url=redis_url) as gw:
        await gw.ask("chat")
        metrics = gw.gateway.metrics
    name, labels = "distill_router_gpu_bill_usd_total", {"model": "student"}
    client = aioredis.Redis.from_url(redis_url)
    try:
        billed = await hourly_sums(client, "student")
    finally:
        await client.aclose()
    assert billed > 0
    assert round((metrics.registry.get_sample_value(name, labels) or 0) * NANO_PER_USD) == billed


async def test_the_bill_is_in_the_redis_of_the_ledger(redis_url: str, teacher: ScriptedUpstream) -> None:
    config = two_models(teacher.url, teacher.url)
    config["models"]["student"]["price"] = GPU_PRICE
    config["redis"] = {"url": "redis://127.0.0.1:1", "ledger_url": redis_url}
    metrics = Metrics()
    settings = parse(json.dumps(config), {})
    model = ModelClient("student", settings.config.models["student"], None)
    async with emptied(redis_url) as redis:
        bill = gpu_bill(settings, "redis://127.0.0.1:1", metrics, None, lambda: [model])
        await bill.accrue()
        await bill.close()
        assert await redis.exists(GPU_BILL)


async def test_while_redis_is_away_nothing_breaks_and_nothing_is_billed() -> None:
    config = two_models("http://t/v1", "http://s/v1")
    config["models"]["student"]["price"] = GPU_PRICE
    settings, metrics = parse(json.dumps(config), {}), Metrics()
    model = ModelClient("student", settings.config.models["student"], None)
    bill = gpu_bill(settings, "redis://127.0.0.1:1", metrics, None, lambda: [model])
    bill.start()
    await bill.close()
    for name in ("gpu_bill_usd_total", "idle_cost_usd"):
        assert metrics.registry.get_sample_value(f"distill_router_{name}", {"model": "student"}) == 0
