"""Every call to a model is paid once, whatever happens to the request: rows, metrics and usages agree.

That rows and metrics agree is checked at the end of every test by `running_gateway`.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from router.ledger.pricing import NANO_PER_USD, PriceList, price_list
from router.ledger.pricing import Usage as Tokens
from router.price_settings import Price
from tests.support.gateway import (
    PATHS,
    STUDENT_PRICE,
    TEACHER_PRICE,
    RunningGateway,
    ask,
    running_gateway,
    two_models,
)
from tests.support.raw_client import RawClient
from tests.support.scripted import CLOSE, Fault, Reply, ScriptedUpstream, Step, Usage, failing

PRICES: dict[str, PriceList] = {
    "teacher": price_list(Price.model_validate(TEACHER_PRICE)),
    "student": price_list(Price.model_validate(STUDENT_PRICE)),
}
ENDPOINTS = ("chat", "completions", "responses")
CACHED = Usage(prompt_tokens=100, completion_tokens=7, cached_tokens=40, reasoning_tokens=3)


def whole_cost(model: str, upstream: ScriptedUpstream) -> int:
    """What the good answers of an upstream cost by their own account."""
    return sum(PRICES[model].cost(Tokens(served.prompt_tokens, served.completion_tokens)) for served in upstream.served)


async def test_cached_and_reasoning_tokens_are_priced_and_told(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    teacher.default = Reply("x", usage=CACHED)
    policy = {"kind": "fixed", "model": "teacher"}
    async with running_gateway(two_models(teacher.url, student.url, policy=policy)) as gw:
        for stream in (False, True):
            for endpoint in ENDPOINTS:
                await gw.ask(endpoint, stream=stream)
        rows = await gw.rows(6)
        assert {row.tok for row in rows} == {(100, 40, 7, 3)}
        assert {row.c["serve"] for row in rows} == {60 * 2_000 + 40 * 200 + 7 * 8_000}
        assert {row.to for row in rows} == {row.c["serve"] for row in rows}
        for kind, count in (("input", 600), ("cached_input", 240), ("output", 42), ("reasoning", 18)):
            assert gw.metric("tokens_total", kind=kind) == count


@pytest.mark.parametrize("stream", [False, True])
async def test_the_sum_of_the_rows_is_what_the_models_account_for(
    teacher: ScriptedUpstream, student: ScriptedUpstream, stream: bool
) -> None:
    """Served, escalated and audited calls that all ran to their end."""
    policy = {"kind": "cascade", "escalate_at": 0.5}
    config = two_models(teacher.url, student.url, policy=policy, route={"audit": {"rate": 1.0}})
    async with running_gateway(config) as gw:
        for logprob in (-0.01, -3.0, -0.02, -2.0):
            student.script(Reply("a b c", token_logprob=logprob, usage=Usage(33, 3)))
            assert (await gw.ask("chat", stream=stream)).status_code == 200
            await gw.idle()
        rows = await gw.all_rows()
        accounted = whole_cost("teacher", teacher) + whole_cost("student", student)
        assert sum(sum(row.c.values()) for row in rows) == accounted
        origins = {origin for row in rows for origin in row.c}
        assert origins == {"serve", "escalation", "shadow"}


async def test_the_teacher_alone_is_estimated_from_what_was_served(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = Reply("x", usage=Usage(100, 50))
    async with running_gateway(two_models(teacher.url, student.url)) as gw:
        await gw.ask("chat")
        assert (await gw.row()).to == PRICES["teacher"].cost(Tokens(100, 50))
        alone = gw.metric("teacher_only_cost_usd_total", route="auto")
        assert round(alone * NANO_PER_USD) == PRICES["teacher"].cost(Tokens(100, 50))


async def test_the_cost_header_is_the_cost_of_the_row(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    config = two_models(teacher.url, student.url, policy={"kind": "cascade", "escalate_at": 0})
    async with running_gateway(config) as gw:
        told = (await gw.ask("chat")).headers["x-router-cost-usd"]
        assert round(float(told) * NANO_PER_USD) == sum((await gw.row()).c.values())


async def test_failed_tries_cost_nothing_unless_the_model_may_have_worked(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.script(failing(500, "oops"), CLOSE)
    models = {"retries": 2}
    async with running_gateway(two_models(teacher.url, student.url, models=models)) as gw:
        await gw.ask("chat")
        assert set((await gw.row()).c) == {"serve"}


def steps(rng: random.Random) -> Step:
    """What an upstream does with its next request, good or bad."""
    answer = Reply(" ".join(["word"] * rng.randrange(1, 12)), token_logprob=rng.choice([-0.01, -3.0]), gap_s=0.001)
    faults: list[Step] = [
        failing(500, "oops"),
        failing(429, "slow down"),
        failing(400, "no"),
        CLOSE,
        Reply("a b c d", fault=Fault(rng.randrange(4), rng.choice(["close", "reset", "garbage", "error"]))),
        Reply("a b c", usage=None),
    ]
    return rng.choice(faults) if rng.random() < 0.4 else answer


async def one_call(gw: RunningGateway, rng: random.Random, limit: asyncio.Semaphore) -> None:
    endpoint, stream = rng.choice(ENDPOINTS), rng.random() < 0.7
    leaves_after = rng.randrange(2_000) if rng.random() < 0.3 else None
    async with limit, RawClient(gw.port) as client:
        body = ask(endpoint, rng.choice(["auto", "auto", "auto@0", "student"]), stream=stream)
        await client.post(PATHS[endpoint], body, head="connection: close\r\n")
        while (leaves_after is None or len(client.received) < leaves_after) and await client.read_some():
            pass


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_every_request_has_one_row_and_every_answer_its_price(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str, seed: int
) -> None:
    """Retries, fallbacks, escalations, audits, faults and hang-ups at random, many at once."""
    rng = random.Random(seed)
    for upstream in (teacher, student):
        upstream.script(*(steps(rng) for _ in range(200)))
    models: dict[str, Any] = {"retries": 1, "circuit": {"failures": 8, "open_s": 0.05}}
    route = {"audit": {"rate": 0.3}, "fallback": {"teacher": "student"}}
    config = two_models(teacher.url, student.url, policy={"kind": "cascade"}, route=route, models=models)
    async with running_gateway(config, redis_url=redis_url) as gw:
        limit = asyncio.Semaphore(8)
        await asyncio.gather(*(one_call(gw, rng, limit) for _ in range(60)))
        rows = await gw.rows(60)
        assert len(rows) == len({row.id for row in rows}) == 60
        assert {row.o for row in rows} <= {"ok", "cancelled", "interrupted", "rejected", "failed"}
        assert all(row.c for row in rows if row.o in ("ok", "interrupted"))
        for row in rows:
            assert all(cost > 0 for cost in row.c.values())
            assert set(row.c) <= {"serve", "escalation", "retry", "cancelled"}
