"""Rate limits as clients meet them: refusals that say when to come back; several gateways; with and without Redis."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest
import redis

from router.ledger.names import PREFIX
from tests.router.evidence.conftest import RedisProcess
from tests.support.gateway import PATHS, PATIENCE_S, RunningGateway, ask, eventually, running_gateway
from tests.support.keys import ADMIN, APP, bearer, keyed, two_gateways
from tests.support.raw_client import RawClient, request_bytes
from tests.support.scripted import Fault, Reply, ScriptedUpstream, Usage, failing

LONG = [{"role": "user", "content": "word " * 600}]  # about 1,000 tokens by its bytes


async def post(gw: RunningGateway, key: str = APP, endpoint: str = "chat", **more: Any) -> httpx.Response:
    body = ask(endpoint, "student" if endpoint == "embeddings" else "auto", **more)
    return await gw.http.post(PATHS[endpoint], json=body, headers=bearer(key))


async def served(gw: RunningGateway, count: int, **more: Any) -> int:
    """How many of so many requests, one after another, are answered; the others are told to come back."""
    statuses = [(await post(gw, **more)).status_code for _ in range(count)]
    assert set(statuses) <= {200, 429}
    return statuses.count(200)


@pytest.fixture(params=["alone", "shared"])
def config(
    request: pytest.FixtureRequest, teacher: ScriptedUpstream, student: ScriptedUpstream, ledger_url: str
) -> dict[str, Any]:
    """Without Redis and with it: one gateway is the same to its clients."""
    return keyed(teacher, student, ledger_url if request.param == "shared" else None, embeddings={"model": "student"})


def limited(config: dict[str, Any], **limits: Any) -> dict[str, Any]:
    """The key `app` with limits."""
    config["keys"][1] |= limits
    return config


async def test_what_is_over_the_limit_is_told_when_to_come_back(config: dict[str, Any]) -> None:
    async with running_gateway(limited(config, requests_per_minute=2)) as gw:
        assert await served(gw, 2) == 2
        refused = await post(gw)
        assert refused.status_code == 429
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert "key 'app': 2 requests per minute" in error["message"]
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert refused.headers["x-ratelimit-limit-requests"] == "2"
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert gw.metric("rate_limited_total", tenant="acme", kind="requests") == 1
        row = (await gw.rows(3))[-1]
        assert (row.k, row.o, row.st, row.r) == ("app", "rejected", 429, "rate_limit_exceeded")
        assert (await post(gw, ADMIN)).status_code == 200  # has no limit


@pytest.mark.parametrize("endpoint", ["chat", "completions", "responses", "embeddings"])
@pytest.mark.parametrize("stream", [False, True])
async def test_every_endpoint_counts(config: dict[str, Any], endpoint: str, stream: bool) -> None:
    more = {"stream": True} if stream and endpoint != "embeddings" else {}
    async with running_gateway(limited(config, requests_per_minute=1)) as gw:
        assert await served(gw, 2, endpoint=endpoint, **more) == 1


async def test_openai_own_client_understands_the_refusal(config: dict[str, Any]) -> None:
    from openai import RateLimitError

    async with running_gateway(limited(config, requests_per_minute=1)) as gw:
        client = gw.openai.with_options(api_key=APP)
        await client.chat.completions.create(**ask("chat"))
        with pytest.raises(RateLimitError) as caught:
            await client.chat.completions.create(**ask("chat"))
        assert caught.value.response.headers["retry-after"]


async def test_a_tenant_shares_its_limit_among_its_keys(config: dict[str, Any]) -> None:
    config["keys"][0]["tenant"] = "acme"
    config["tenants"] = {"acme": {"requests_per_minute": 2}}
    async with running_gateway(limited(config, requests_per_minute=100)) as gw:
        assert await served(gw, 1, key=ADMIN) == 1
        assert await served(gw, 3) == 1
        refused = await post(gw, ADMIN)
        assert "tenant 'acme'" in refused.json()["error"]["message"]


async def test_a_refusal_by_the_tenant_costs_the_key_nothing(config: dict[str, Any]) -> None:
    config["tenants"] = {"acme": {"requests_per_minute": 1}}
    async with running_gateway(limited(config, requests_per_minute=50)) as gw:
        assert await served(gw, 10) == 1
        remaining = (await post(gw)).headers["x-ratelimit-remaining-requests"]
        assert remaining == "0"  # of the tenant
        (bucket,) = [b for b in gw.gateway.limits._buckets.values() if b.limit.scope == "key"]
        assert bucket.left >= 49 * 60_000


async def test_a_request_that_nobody_understands_is_not_counted(config: dict[str, Any]) -> None:
    async with running_gateway(limited(config, requests_per_minute=1)) as gw:
        bad = await gw.http.post("/v1/chat/completions", json={"model": "nobody"}, headers=bearer(APP))
        assert bad.status_code in (400, 404)
        assert await served(gw, 2) == 1


async def test_tokens_are_what_the_answer_took(config: dict[str, Any], student: ScriptedUpstream) -> None:
    student.default = Reply("x", usage=Usage(40, 80))
    async with running_gateway(limited(config, tokens_per_minute=300)) as gw:
        assert await served(gw, 5) == 3  # of 120 tokens each, and 60 are owed
        refused = await post(gw)
        assert refused.headers["x-ratelimit-limit-tokens"] == "300"
        assert refused.headers["x-ratelimit-remaining-tokens"] == "0"
        assert gw.metric("rate_limited_total", tenant="acme", kind="tokens") == 3


async def test_a_long_prompt_is_owed_by_those_who_come_next(config: dict[str, Any], student: ScriptedUpstream) -> None:
    student.default = Reply("x", usage=Usage(1000, 10))
    async with running_gateway(limited(config, tokens_per_minute=100)) as gw:
        assert await served(gw, 2, messages=LONG) == 1
        assert int((await post(gw)).headers["retry-after"]) > 60


async def test_an_estimate_that_was_too_high_comes_back(config: dict[str, Any], student: ScriptedUpstream) -> None:
    student.default = Reply("x", usage=Usage(5, 5))
    async with running_gateway(limited(config, tokens_per_minute=1100)) as gw:
        assert await served(gw, 8, messages=LONG) == 8


async def test_what_failed_takes_no_tokens(config: dict[str, Any], student: ScriptedUpstream) -> None:
    student.default = failing(500, "down")
    config["routes"]["auto"]["fallback"] = {"student": "error"}
    async with running_gateway(limited(config, tokens_per_minute=1100)) as gw:
        for _ in range(4):
            assert (await post(gw, messages=LONG)).status_code == 502


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("why", ["budget", "upstream"])
async def test_what_fails_after_it_was_let_in_stops_nobody_behind_it(
    teacher: ScriptedUpstream, student: ScriptedUpstream, ledger_url: str, why: str, stream: bool
) -> None:
    config = limited(keyed(teacher, student, ledger_url), requests_per_minute=600, tokens_per_minute=20_000)
    config["routes"]["auto"]["fallback"] = {"student": "error"}
    if why == "budget":
        limited(config, budgets=[{"window": "24h", "limit_usd": 1e-7}])
    async with two_gateways(config, student) as gateways:
        student.default = failing(500, "down", headers={"connection": "close"})
        for _ in range(12):
            for gw in gateways:
                answer = await post(gw, stream=stream)
                if why == "budget":
                    assert answer.json()["error"]["code"] == "insufficient_quota"
                else:
                    assert answer.status_code in (502, 503)


async def test_a_burst_on_a_cold_bucket_is_let_in(
    teacher: ScriptedUpstream, student: ScriptedUpstream, ledger_url: str
) -> None:
    config = limited(keyed(teacher, student, ledger_url), requests_per_minute=600, tokens_per_minute=100_000)
    config["tenants"] = {"acme": {"requests_per_minute": 1000}}
    async with two_gateways(config, student) as gateways:

        async def client(number: int) -> list[int]:
            return [(await post(gateways[number % 2])).status_code for _ in range(4)]

        assert {status for each in await asyncio.gather(*map(client, range(20))) for status in each} == {200}


async def test_what_a_client_hung_up_on_is_settled(config: dict[str, Any], student: ScriptedUpstream) -> None:
    student.script(Reply("one two three four five", fault=Fault(4, "hang")))
    async with running_gateway(limited(config, tokens_per_minute=1100)) as gw:
        async with RawClient(gw.port) as client:
            body = ask("chat", stream=True, messages=LONG)
            await client.send(request_bytes(PATHS["chat"], body, head=f"authorization: Bearer {APP}\r\n"))
            await client.read_until(b"two")
        assert (await gw.rows(1))[0].o == "cancelled"
        (bucket,) = gw.gateway.limits._buckets.values()
        assert bucket.open == 0


async def test_audits_are_not_the_clients(config: dict[str, Any], teacher: ScriptedUpstream) -> None:
    config["routes"]["auto"]["audit"] = {"rate": 1.0}
    teacher.default = Reply("x", usage=Usage(100_000, 100_000))
    async with running_gateway(limited(config, tokens_per_minute=1000, requests_per_minute=4)) as gw:
        assert await served(gw, 4) == 4
        await gw.gateway.auditor.idle()
        assert len(await gw.all_rows()) == 8
        (bucket,) = [b for b in gw.gateway.limits._buckets.values() if b.limit.kind == "tokens"]
        assert bucket.left > 0


async def test_two_gateways_admit_together_what_one_would(
    teacher: ScriptedUpstream, student: ScriptedUpstream, ledger_url: str
) -> None:
    began = time.monotonic()
    async with two_gateways(limited(keyed(teacher, student, ledger_url), requests_per_minute=30), student) as gateways:
        counts = await asyncio.gather(*(served(gw, 30) for gw in gateways))
        # What the other holds ahead may be out of reach for a moment; it comes back.
        async with asyncio.timeout(PATIENCE_S):
            while sum(counts) < 30:
                counts = [*counts, *(await asyncio.gather(*(served(gw, 1) for gw in gateways)))]
                await asyncio.sleep(0.05)
    assert sum(counts) <= 30 + 30 * (time.monotonic() - began) / 60


async def test_many_at_once_over_two_gateways_stay_within_the_bound(
    teacher: ScriptedUpstream, student: ScriptedUpstream, ledger_url: str
) -> None:
    began = time.monotonic()
    async with two_gateways(limited(keyed(teacher, student, ledger_url), requests_per_minute=40), student) as gateways:
        answers = await asyncio.gather(*(post(gw) for _ in range(40) for gw in gateways))
        good = sum(answer.status_code == 200 for answer in answers)
    assert 30 <= good <= 40 + 40 * (time.monotonic() - began) / 60


async def test_a_gateway_that_stops_gives_back_what_it_holds(
    teacher: ScriptedUpstream, student: ScriptedUpstream, ledger_url: str
) -> None:
    config = limited(keyed(teacher, student, ledger_url), requests_per_minute=6)
    async with running_gateway(config) as gw:
        assert await served(gw, 1) == 1
        (bucket,) = gw.gateway.limits._buckets.values()
        bucket.use_per_s = 1e12  # it keeps whatever it has
        bucket.asked = 3 * 60_000
        await eventually(lambda: bucket.held >= 3 * 60_000, "a slice")
        bucket.asked = 0
    with redis.Redis.from_url(ledger_url) as client:
        (key,) = client.keys(f"{PREFIX}limit:*")
        assert set(client.hgetall(key)) == {b"level", b"at"}
    async with running_gateway(config) as gw:
        assert await served(gw, 5) == 5


async def test_while_redis_is_away_every_gateway_counts_the_whole_limit(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_process: RedisProcess
) -> None:
    redis_process.start("--save", "")
    async with running_gateway(limited(keyed(teacher, student, redis_process.url), requests_per_minute=4)) as gw:
        assert await served(gw, 1) == 1
        redis_process.stop()
        assert await served(gw, 6) == 3
        redis_process.start("--save", "")
        limits = gw.gateway.limits
        await eventually(lambda: not limits._alone, "limits that are shared again")
        assert await served(gw, 5) == 4  # it has forgotten what was used


async def test_a_frozen_redis_stops_nobody_for_long(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_process: RedisProcess
) -> None:
    redis_process.start("--save", "")
    async with running_gateway(limited(keyed(teacher, student, redis_process.url), requests_per_minute=3)) as gw:
        redis_process.freeze()
        assert await served(gw, 5) == 3
        redis_process.thaw()


async def test_a_full_redis_does_not_lift_the_limit(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_process: RedisProcess
) -> None:
    redis_process.start("--save", "", "--maxmemory-policy", "noeviction")
    async with running_gateway(limited(keyed(teacher, student, redis_process.url), requests_per_minute=3)) as gw:
        assert await served(gw, 1) == 1
        redis_process.call("CONFIG", "SET", "maxmemory", "1")
        assert await served(gw, 4) == 2
        await asyncio.sleep(1.2)  # it looks whether Redis takes writes again
        assert await served(gw, 2) == 0
        redis_process.call("CONFIG", "SET", "maxmemory", "0")


async def test_an_edited_limit_holds_at_once(config: dict[str, Any], tmp_path: Any) -> None:
    import json

    path = tmp_path / "router.yaml"
    path.write_text(json.dumps(limited(config, requests_per_minute=2)))
    async with running_gateway(config, config_path=path) as gw:
        assert await served(gw, 3) == 2
        path.write_text(json.dumps(limited(config, requests_per_minute=1000)))
        assert await gw.gateway.reload()
        assert (await post(gw)).status_code in (200, 429)
        path.write_text(json.dumps(limited(config, requests_per_minute=None)))
        assert await gw.gateway.reload()
        assert await served(gw, 5) == 5


async def test_a_caller_without_limits_never_meets_the_limiter(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_gateway(config) as gw:
        monkeypatch.setattr(gw.gateway.limits, "admit", None)
        assert await served(gw, 2) == 2
