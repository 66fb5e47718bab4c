"""`/v1/usage`: a key sees what it has spent, an admin what anybody has; the figures are those of the rows."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import redis

from router.api.usage import MAX_DAYS, _running
from router.ledger.names import HOUR_S, TEACHER_ONLY, hour_field, hour_key
from router.ledger.status import declare_nothing
from tests.router.evidence.conftest import RedisProcess, redis_process
from tests.support.gateway import RunningGateway, ask, eventually, running_gateway, two_models
from tests.support.keys import ADMIN, APP, bearer, comes_to, keyed
from tests.support.scripted import ScriptedUpstream

__all__ = ["redis_process"]

DAY_S = 86_400


@pytest.fixture
def ledger(redis_url: str) -> redis.Redis:
    client = redis.Redis.from_url(redis_url)
    client.flushall()
    declare_nothing(redis_url)
    return client


@pytest.fixture
def config(teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str, ledger: redis.Redis) -> dict[str, Any]:
    return keyed(teacher, student, redis_url)


async def usage(gw: RunningGateway, key: str = APP, **query: Any) -> httpx.Response:
    return await gw.http.get("/v1/usage", params=query, headers=bearer(key))


async def total(gw: RunningGateway) -> Any:
    return (await usage(gw)).json()["total_usd"]


def day(ago: int) -> str:
    return datetime.fromtimestamp(time.time() - ago * DAY_S, UTC).date().isoformat()


def spend(ledger: redis.Redis, ago: int, nano: int, *, key: str = "app", origin: str = "serve", **labels: str) -> None:
    """A sum as a worker keeps it: at noon, so many days ago."""
    hour = (int(time.time()) // DAY_S - ago) * DAY_S + 12 * HOUR_S
    names = {"worker": "w1", "route": "auto", "tenant": "acme", "model": "teacher", **labels}
    field = hour_field(names["worker"], names["route"], names["tenant"], key, names["model"], origin)
    ledger.hincrby(hour_key(hour), field, nano)


async def test_a_key_sees_its_own_spend_by_day_model_and_origin(config: dict[str, Any], ledger: redis.Redis) -> None:
    spend(ledger, 1, 1_500_000_000)
    spend(ledger, 1, 500_000_000, worker="w2")
    spend(ledger, 1, 7, worker="", route="other")
    spend(ledger, 1, 9, model="student", origin="escalation")
    spend(ledger, 2, 1)
    spend(ledger, 40, 5_000_000_000)
    spend(ledger, 1, 3_000_000_000, model="", origin=TEACHER_ONLY)
    spend(ledger, 1, 99, key="application")
    spend(ledger, 1, 99, key="", model="teacher", origin="gpu_bill")
    async with running_gateway(config) as gw:
        answer = (await usage(gw)).json()
        assert answer["total_usd"] == "2.000000017"
        assert answer["teacher_only_usd"] == "3.000000000"
        assert (answer["key"], answer["since"], answer["until"]) == ("app", day(29), day(0))
        assert answer["data"] == [
            {"date": day(2), "model": "teacher", "origin": "serve", "cost_usd": "0.000000001"},
            {"date": day(1), "model": "student", "origin": "escalation", "cost_usd": "0.000000009"},
            {"date": day(1), "model": "teacher", "origin": "serve", "cost_usd": "2.000000007"},
        ]
        assert (await usage(gw, days=1)).json()["data"] == []
        longer = await gw.http.get("/v1/usage", params={"key": "app", "days": 60}, headers=bearer(ADMIN))
        assert longer.json()["total_usd"] == "7.000000017"


async def test_more_than_a_month_is_for_admins(config: dict[str, Any]) -> None:
    async with running_gateway(config) as gw:
        assert (await usage(gw, days=31)).status_code == 200
        refused = await usage(gw, days=32)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
        assert "more than 31 days" in refused.json()["error"]["message"]
        assert (await usage(gw, ADMIN, days=MAX_DAYS)).status_code == 200


async def test_a_key_has_one_call_running_at_a_time(config: dict[str, Any], ledger: redis.Redis) -> None:
    async with running_gateway(config) as gw:
        ledger.client_pause(60_000, all=False)  # scripts wait
        running = asyncio.create_task(usage(gw))
        await eventually(lambda: "app" in _running.get(gw.gateway, ()), "a running call")
        refused = await usage(gw)
        other = asyncio.create_task(usage(gw, ADMIN))
        ledger.client_unpause()
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert "another usage call" in refused.json()["error"]["message"]
        assert [(await running).status_code, (await other).status_code] == [200, 200]
        assert (await usage(gw)).status_code == 200


async def test_what_was_just_spent_is_there(config: dict[str, Any]) -> None:
    async with running_gateway(config) as gw:
        await gw.http.post("/v1/chat/completions", json=ask("chat"), headers=bearer(APP))
        (row,) = await gw.rows(1)
        await comes_to(lambda: total(gw), f"0.{sum(row.c.values()):09d}")


async def test_others_are_for_admins(config: dict[str, Any], ledger: redis.Redis) -> None:
    spend(ledger, 0, 1)
    spend(ledger, 0, 2, key="second")
    spend(ledger, 0, 4, key="third", tenant="blue")
    async with running_gateway(config) as gw:
        own = await gw.http.get("/v1/usage", params={"key": "app"}, headers=bearer(APP))
        assert own.json()["total_usd"] == "0.000000001"
        for query in ({"key": "second"}, {"tenant": "acme"}, {"key": ""}):
            refused = await gw.http.get("/v1/usage", params=query, headers=bearer(APP))
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
        sums = {("key", "second"): 2, ("tenant", "acme"): 3, ("tenant", "blue"): 4, ("key", "nobody"): 0}
        for (of, name), nano in sums.items():
            answer = await gw.http.get("/v1/usage", params={of: name}, headers=bearer(ADMIN))
            assert answer.json()["total_usd"] == f"0.{nano:09d}"
        assert (await gw.http.get("/v1/usage")).status_code == 401


@pytest.mark.parametrize(
    "query",
    [
        {"days": 0},
        {"days": -1},
        {"days": MAX_DAYS + 1},
        {"days": "x"},
        {"days": "9" * 5000},
        {"key": "a", "tenant": "b"},
    ],
)
async def test_bad_queries_are_openai_errors(config: dict[str, Any], query: dict[str, Any]) -> None:
    async with running_gateway(config) as gw:
        answer = await gw.http.get("/v1/usage", params=query, headers=bearer(ADMIN))
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] in ("days", "tenant")


@pytest.mark.parametrize("name", ['"', "*", "%00", '","', "a\nb", "\\", "é", "]"])
async def test_a_hostile_name_finds_nothing(config: dict[str, Any], ledger: redis.Redis, name: str) -> None:
    spend(ledger, 0, 1)
    async with running_gateway(config) as gw:
        for of in ("key", "tenant"):
            answer = await gw.http.get("/v1/usage", params={of: name}, headers=bearer(ADMIN))
            assert (answer.status_code, answer.json()["total_usd"]) == (200, "0.000000000")


async def test_limits_and_budgets_of_the_key_and_its_tenant_are_shown(config: dict[str, Any]) -> None:
    config["keys"][1] |= {"requests_per_minute": 60, "budgets": [{"window": "24h", "limit_usd": 2}]}
    config["tenants"] = {"acme": {"tokens_per_minute": 1000}}
    config["budgets"] = {
        "everything": {"window": "month", "limit_usd": 1000},
        "admins": {"key": "admin", "window": "day", "limit_usd": 7},
        "keys": {"each": "key", "window": "day", "counts": "teacher", "limit_usd": 5},
        "acme": {"tenant": "acme", "window": "month", "limit_usd": 50},
    }
    async with running_gateway(config) as gw:
        answer = (await usage(gw)).json()
        assert answer["limits"] == [
            {"of": "key", "name": "app", "requests_per_minute": 60},
            {"of": "tenant", "name": "acme", "tokens_per_minute": 1000},
        ]
        shown = {(budget["budget"], budget["member"]): budget["limit_usd"] for budget in answer["budgets"]}
        assert shown == {
            ("keys", "app"): "5.000000000",
            ("acme", "acme"): "50.000000000",
            ("key:24h", "app"): "2.000000000",
        }


async def test_without_authentication_all_is_under_no_name(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str
) -> None:
    async with running_gateway(two_models(teacher.url, student.url), redis_url=redis_url) as gw:
        await gw.ask("chat")
        (row,) = await gw.rows(1)
        await comes_to(lambda: total(gw), f"0.{sum(row.c.values()):09d}")


async def test_without_redis_it_says_so(
    config: dict[str, Any], teacher: ScriptedUpstream, student: ScriptedUpstream, redis_process: RedisProcess
) -> None:
    async with running_gateway({**config, "redis": None}) as gw:
        answer = await usage(gw)
        assert answer.status_code == 409 and "set `redis`" in answer.json()["error"]["message"]
    async with running_gateway(keyed(teacher, student, redis_process.url)) as gw:
        answer = await usage(gw)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
