"""Budgets through the gateway: what is spent, refused, left to the student, and what happens without Redis."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from router.bundled_redis import bundled_redis
from router.ledger.names import PREFIX
from router.ledger.pricing import NANO_PER_USD
from tests.support.gateway import PATHS, RunningGateway, ask, eventually, flush, running_gateway, two_models
from tests.support.raw_client import RawClient
from tests.support.scripted import CLOSE, HANG, Reply, ScriptedUpstream, Status
from tests.support.scripted import Usage as Told

Json = dict[str, Any]
TEACHER_NANO = 10 * 2_000 + 3 * 8_000  # what the scripted teacher's usual answer costs
MODELS = {"max_output_tokens": 100, "template_tokens": 0, "supports": ["logprobs", "n"]}
USUALLY = {"window": "day", "counts": "teacher", "on_spent": "student"}
FAST = {"sync_s": 0.05, "wait_s": 0.5}


def config(teacher: ScriptedUpstream, student: ScriptedUpstream, budgets: Json, **more: Any) -> Json:
    """Route `auto` to the teacher, with budgets."""
    policy = more.pop("policy", {"kind": "fixed", "model": "teacher"})
    models = {**MODELS, **more.pop("models", {})}
    return two_models(
        teacher.url, student.url, policy=policy, models=models, budgets=budgets, redis={"url": "redis://used"}, **more
    )


def worst(body: Json, output: int = 100) -> float:
    """USD that the gateway reserves for a call to the teacher: a token for every byte that is sent, and the output."""
    sent: Json = {"max_tokens": 100} if not any("max" in name for name in body) else {}
    sent |= {"stream_options": {"include_usage": True}} if body.get("stream") else {}
    fields = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in body.items()}
    size = len(msgspec.json.encode({**fields, "model": "teacher", **sent}))
    return (size * 2_000 + output * 8_000) / NANO_PER_USD


async def answers(gw: RunningGateway, count: int, **more: Any) -> list[str]:
    """Models that answered, or the code of the refusal."""
    found = []
    for _ in range(count):
        answer = await gw.ask("chat", **more)
        found.append(answer.headers.get("x-router-model") or answer.json()["error"]["code"])
    return found


@pytest.mark.parametrize("stream", [False, True])
async def test_a_spent_budget_sends_the_request_to_the_student(
    stream: bool, teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str
) -> None:
    limit = worst(ask("chat", stream=stream)) * 2
    budgets = {"teachers": {**USUALLY, "limit_usd": limit}}
    async with running_gateway(config(teacher, student, budgets), redis_url=redis_url) as gw:
        found = await answers(gw, 60, stream=stream)
        row = (await gw.rows(60))[-1]
        assert "student" in found and found[0] == "teacher"
        assert (row.m, row.r, row.p, row.g) == ("student", "budget:teachers", 0.0, ["budget:teachers"])
        assert len(teacher.requests) * TEACHER_NANO <= limit * NANO_PER_USD
        assert len(teacher.requests) > 10  # what was reserved and not used came back
        assert gw.metric("budget_exhausted_total", budget="teachers", action="student") == found.count("student")


@pytest.mark.parametrize("endpoint", sorted(PATHS))
async def test_a_spent_budget_refuses_with_insufficient_quota(
    endpoint: str, teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str
) -> None:
    budgets = {"everything": {"window": "hour", "limit_usd": 0.0000001}}
    more = {"embeddings": {"model": "teacher"}}
    async with running_gateway(config(teacher, student, budgets, **more), redis_url=redis_url) as gw:
        answer = await gw.ask(endpoint, "teacher" if endpoint == "embeddings" else "auto")
        error = answer.json()["error"]
        assert (answer.status_code, error["type"], error["code"]) == (429, "insufficient_quota", "insufficient_quota")
        assert 1 <= int(answer.headers["retry-after"]) <= 3600
        assert "budget 'everything'" in error["message"] and "$0.0000001" in error["message"]
        assert not teacher.requests and not student.requests
        row = await gw.row()
        assert (row.o, row.st, row.c, row.g) == ("rejected", 429, {}, ["budget:everything"])
        assert gw.metric("budget_exhausted_total", action="refuse") == 1


async def test_the_output_limit_of_the_model_is_sent_where_the_client_set_none(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str
) -> None:
    budgets = {"teachers": {**USUALLY, "limit_usd": 1}}
    async with running_gateway(config(teacher, student, budgets), redis_url=redis_url) as gw:
        await gw.ask("chat")
        await gw.ask("chat", max_tokens=7)
        await gw.ask("chat", max_completion_tokens=8)
        await gw.post("/v1/chat/completions", ask("chat"), x_router_model="student")
        sent = [request.json for request in (*teacher.requests, *student.requests)]
        assert [(body.get("max_tokens"), body.get("max_completion_tokens")) for body in sent] == [
            (100, None),
            (7, None),
            (None, 8),
            (None, None),  # a budget that counts the teacher does not concern the student
        ]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_spent_budget_keeps_the_students_answer_where_a_cascade_would_escalate(
    stream: bool, teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str
) -> None:
    student.default = Reply("unsure", token_logprob=-5.0)
    budgets = {"teachers": {**USUALLY, "limit_usd": 0}}
    cascade = {"kind": "cascade", "escalate_at": 0.5}
    async with running_gateway(config(teacher, student, budgets, policy=cascade), redis_url=redis_url) as gw:
        answer = await gw.ask("chat", stream=stream)
        assert "unsure" in answer.text
        assert answer.headers["x-router-reason"] == "budget:teachers"
        row = await gw.row()
        assert (row.m, row.p, set(row.c), row.o) == ("student", 0.0, {"serve"}, "ok")
        assert not teacher.requests


async def test_an_escalation_that_must_be_refused_is_refused(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str
) -> None:
    student.default = Reply("unsure", token_logprob=-5.0)
    budgets = {"teachers": {"window": "day", "counts": "teacher", "limit_usd": 0}}
    cascade = {"kind": "cascade", "escalate_at": 0.5}
    async with running_gateway(config(teacher, student, budgets, policy=cascade), redis_url=redis_url) as gw:
        answer = await gw.ask("chat")
        assert answer.status_code == 429
        assert set((await gw.row()).c) == {"escalation"}  # the student was paid for nothing


@pytest.mark.parametrize("more", [{"x_router_model": "teacher"}, {}])
async def test_the_student_answers_neither_for_a_teacher_asked_for_nor_what_it_cannot(
    more: dict[str, str], teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str
) -> None:
    budgets = {"teachers": {**USUALLY, "limit_usd": 0}}
    body = ask("chat") if more else ask("chat", tools=[{"type": "function", "function": {"name": "f"}}])
    async with running_gateway(config(teacher, student, budgets), redis_url=redis_url) as gw:
        assert (await gw.post("/v1/chat/completions", body, **more)).status_code == 429
        assert not student.requests


async def test_every_way_out_gives_the_reservation_back(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str
) -> None:
    body = ask("chat", stream=True)
    limit = worst(body) * 3
    budgets = {"teachers": {"window": "day", "counts": "teacher", "limit_usd": limit}}
    settings = config(teacher, student, budgets, ledger=FAST, models={"timeouts": {"total_s": 0.3}})
    async with running_gateway(settings, redis_url=redis_url) as gw:
        for fault in (Status(500), Status(400), CLOSE, Status(429), HANG):
            teacher.script(fault)
            await gw.ask("chat")
        teacher.script(HANG)
        async with RawClient(gw.port) as client:
            await client.post("/v1/chat/completions", body)
            await eventually(lambda: len(teacher.requests) == 6, "the teacher's work")
        await gw.idle()
        leases = [account.lease for account in gw.gateway.ledger._book.accounts()]
        assert [lease.reserved for lease in leases if lease] == [0]
        spent = sum(sum(row.c.values()) for row in await gw.rows(6))
        assert [lease.spent for lease in leases if lease] == [spent]


async def test_what_an_upstream_bills_beyond_the_bound_is_counted(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str
) -> None:
    teacher.default = Reply("x", usage=Told(10, 1_000))
    body = ask("chat", max_tokens=10)
    budgets = {"teachers": {"window": "day", "counts": "teacher", "limit_usd": worst(body, 10)}}
    async with running_gateway(config(teacher, student, budgets, ledger=FAST), redis_url=redis_url) as gw:
        assert (await gw.post("/v1/chat/completions", body)).status_code == 200
        beyond = 10 * 2_000 + 1_000 * 8_000 - round(worst(body, 10) * NANO_PER_USD)
        await eventually(lambda: gw.metric("budget_overshoot_usd_total") > 0, "the overshoot")
        assert round(gw.metric("budget_overshoot_usd_total") * NANO_PER_USD) == beyond
        assert (await gw.post("/v1/chat/completions", body)).status_code == 429


@pytest.mark.parametrize("stream", [False, True])
async def test_many_at_once_never_exceed_the_limit(
    stream: bool, teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str
) -> None:
    limit = worst(ask("chat", stream=stream)) * 10
    budgets = {
        "teachers": {**USUALLY, "limit_usd": limit},
        "route": {**USUALLY, "route": "auto", "window": "24h", "limit_usd": limit * 2},
    }
    async with running_gateway(config(teacher, student, budgets, ledger=FAST), redis_url=redis_url) as gw:
        statuses = await asyncio.gather(*(gw.ask("chat", stream=stream) for _ in range(100)))
        assert {answer.status_code for answer in statuses} == {200}
        assert len(teacher.requests) >= 10 and len(teacher.requests) * TEACHER_NANO <= limit * NANO_PER_USD


async def test_workers_give_back_what_others_wait_for(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str
) -> None:
    """Two gateways, one Redis: the whole limit can be used by either."""
    teacher.default = Reply("x", usage=Told(10, 3), closes_after=True)  # no connection outlives its gateway
    limit = worst(ask("chat")) * 4
    budgets = {"teachers": {"window": "day", "counts": "teacher", "limit_usd": limit}}
    settings = config(teacher, student, budgets, ledger=FAST)
    settings["redis"]["ledger_url"] = redis_url
    await asyncio.to_thread(flush, redis_url)
    async with (
        running_gateway(settings) as one,
        running_gateway(settings) as two,
    ):
        for _ in range(3):
            for gw in (one, two):
                assert (await gw.ask("chat")).status_code == 200
        while (await one.ask("chat")).status_code == 200:
            pass
        left = limit * NANO_PER_USD - len(teacher.requests) * TEACHER_NANO
        assert 0 <= left < worst(ask("chat")) * NANO_PER_USD
        assert (await two.ask("chat")).status_code == 429


def keys(*names: str) -> Json:
    return {
        "server": {"auth": "keys"},
        "keys": [
            {"name": name, "sha256": sha256(name.encode()).hexdigest(), "tenant": f"of-{name}", "permissions": []}
            for name in names
        ],
    }


async def test_each_key_has_a_budget_of_its_own(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str
) -> None:
    budgets = {
        "each": {"each": "key", "window": "month", "counts": "teacher", "limit_usd": worst(ask("chat"))},
        "b-tenant": {"tenant": "of-b", "window": "month", "counts": "teacher", "limit_usd": 0},
    }
    settings = config(teacher, student, budgets, **keys("a", "b", "c"))
    async with running_gateway(settings, redis_url=redis_url) as gw:
        found = {}
        for name in "abc":
            answers = [
                (await gw.post("/v1/chat/completions", ask("chat"), authorization=f"Bearer {name}")).status_code
                for _ in range(2)
            ]
            found[name] = answers
        assert found == {"a": [200, 429], "b": [429, 429], "c": [200, 429]}


async def test_a_budget_of_the_client_does_not_pay_for_audits_but_that_of_the_route_does(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str
) -> None:
    body = ask("chat")
    budgets = {
        "clients": {"each": "key", "window": "day", "counts": "teacher", "limit_usd": 0},
        "route": {"route": "auto", "window": "day", "counts": "teacher", "limit_usd": worst(body)},
    }
    settings = config(
        teacher,
        student,
        budgets,
        policy={"kind": "fixed", "model": "student"},
        route={"audit": {"rate": 1, "second_draw": 0, "confirm": 0}},
        **keys("a"),
    )
    async with running_gateway(settings, redis_url=redis_url) as gw:
        for _ in range(4):
            await gw.post("/v1/chat/completions", body, authorization="Bearer a")
            await gw.idle()
        audited = int(gw.metric("audits_total", result="pair"))
        assert audited == len(teacher.requests) >= 1
        assert gw.metric("audits_total", result="budget") == 1  # after which none is drawn for a while
        assert gw.metric("budget_exhausted_total", budget="route", action="shed") == 1


async def test_a_lowered_limit_holds_at_once_and_a_raised_one_frees(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "router.yaml"
    settings = config(teacher, student, {"teachers": {"window": "day", "counts": "teacher", "limit_usd": 1}})
    settings["ledger"] = {**FAST, "state_dir": str(tmp_path / "ledger")}

    async def limited(gw: RunningGateway, limit: float) -> int:
        settings["budgets"]["teachers"]["limit_usd"] = limit
        path.write_text(json.dumps(settings))
        assert await gw.gateway.reload()
        return (await gw.ask("chat")).status_code

    path.write_text(json.dumps(settings))
    async with running_gateway(settings, redis_url=redis_url, config_path=path) as gw:
        assert (await gw.ask("chat")).status_code == 200
        assert await limited(gw, 0.00001) == 429
        assert await limited(gw, 1) == 200
        assert len(teacher.requests) == 2


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[str]:
    with bundled_redis(tmp_path / "redis") as url:
        yield url


@pytest.fixture
async def without_redis(
    request: pytest.FixtureRequest, teacher: ScriptedUpstream, student: ScriptedUpstream, own_redis: str
) -> AsyncIterator[RunningGateway]:
    """A gateway whose Redis hangs after the first answer."""
    budget = {"window": "day", "counts": "teacher", "limit_usd": 1, "on_redis_loss": request.param}
    settings = config(teacher, student, {"teachers": budget}, ledger={"sync_s": 0.05, "wait_s": 0.1})
    async with running_gateway(settings, redis_url=own_redis) as gw:
        assert (await gw.ask("chat")).status_code == 200
        pid = _redis_pid(own_redis)
        _signal(pid, signal.SIGSTOP)
        try:
            yield gw
        finally:
            _signal(pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("without_redis", "expected"),
    [("student", "student"), ("refuse", "insufficient_quota"), ("allow", "teacher")],
    indirect=["without_redis"],
)
async def test_without_redis_the_leased_rest_serves_and_then_what_is_configured(
    without_redis: RunningGateway, expected: str, teacher: ScriptedUpstream
) -> None:
    gw = without_redis
    lease = gw.gateway.ledger._book.accounts()[0].lease
    assert lease is not None
    lease.ceiling = lease.spent + round(worst(ask("chat")) * NANO_PER_USD)
    assert await answers(gw, 1) == ["teacher"]
    found = await answers(gw, 4)
    assert expected in found and found[-1] == expected
    if expected == "teacher":
        assert gw.metric("budget_waived_usd_total", budget="teachers") > 0
        assert gw.metric("budget_exhausted_total", action="allow") > 0
    assert len(teacher.requests) >= 2


def _redis_pid(url: str) -> int:

    with redis.Redis.from_url(url) as client:
        return int(client.info("server")["process_id"])


def _signal(pid: int, number: signal.Signals) -> None:

    os.kill(pid, number)


async def test_the_sums_of_the_hour_equal_the_rows(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str
) -> None:
    student.default = Reply("unsure", token_logprob=-5.0)
    cascade = {"kind": "cascade", "escalate_at": 0.5}
    settings = config(teacher, student, {}, policy=cascade, route={"audit": {"rate": 0.5}})
    async with running_gateway(settings, redis_url=redis_url) as gw:
        await asyncio.gather(*(gw.ask("chat", stream=bool(i % 2)) for i in range(30)))
        rows = await gw.all_rows(30)
        await gw.gateway.ledger.close()
        spent = sum(charge.nano for row in rows for charge in row.ch)
        estimate = sum(row.to for row in rows)
        assert await asyncio.to_thread(_sums, redis_url) == (spent, estimate)


def _sums(url: str) -> tuple[int, int]:

    with redis.Redis.from_url(url) as client:
        found = [
            (json.loads(name.partition(b"|")[2]), int(value))
            for key in client.keys(f"{PREFIX}hour:*")
            for name, value in client.hgetall(key).items()
        ]
    spent = sum(nano for field, nano in found if field[4] != "teacher_only")
    return spent, sum(nano for field, nano in found if field[4] == "teacher_only")


EACH_KEY = {"each": {"each": "key", "window": "month", "counts": "teacher", "limit_usd": 1}}


async def test_the_first_request_before_a_redis_that_has_just_started_is_served(
    teacher: ScriptedUpstream, student: ScriptedUpstream, own_redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds leases of it has had the time to say so when the gateway is ready."""
    monkeypatch.setattr("router.ledger.ledger.DECLARE_S", 0.2)
    settings = config(teacher, student, {**EACH_KEY, "all": {"window": "day", "limit_usd": 1}}, **keys("a"))
    settings["redis"]["ledger_url"] = own_redis  # which nobody has told that it is new
    async with running_gateway(settings) as gw:
        answer = await gw.post("/v1/chat/completions", ask("chat"), authorization="Bearer a")
        assert answer.status_code == 200


async def test_budgets_that_nobody_used_meanwhile_serve_again_when_redis_is_back(
    teacher: ScriptedUpstream, student: ScriptedUpstream, own_redis: str
) -> None:
    settings = config(teacher, student, EACH_KEY, ledger={"sync_s": 0.05, "wait_s": 0.1}, **keys("a", "b"))
    async with running_gateway(settings, redis_url=own_redis) as gw:
        pid = _redis_pid(own_redis)
        _signal(pid, signal.SIGSTOP)
        statuses = [
            (await gw.post("/v1/chat/completions", ask("chat"), authorization=f"Bearer {name}")).status_code
            for name in "ab"
        ]
        _signal(pid, signal.SIGCONT)
        assert statuses == [429, 429]

        for _ in range(200):
            answer = await gw.post("/v1/chat/completions", ask("chat"), authorization="Bearer a")
            if answer.status_code == 200:
                return
            await asyncio.sleep(0.05)
        pytest.fail("still refused")


@pytest.mark.parametrize("first", ["strict", "lenient"])
async def test_a_budget_that_refuses_is_not_passed_by_one_that_lets_the_student_answer(
    first: str, teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str
) -> None:
    strict = {"window": "day", "counts": "teacher", "limit_usd": 0.0001}
    both = {"strict": strict, "lenient": {**USUALLY, "window": "month", "limit_usd": 0.0001}}
    budgets = {name: both[name] for name in sorted(both, key=lambda name: name != first)}
    async with running_gateway(config(teacher, student, budgets, ledger=FAST), redis_url=redis_url) as gw:
        for _ in range(3):
            answer = await gw.ask("chat")
            assert answer.status_code == 429 and "budget 'strict'" in answer.json()["error"]["message"]


async def test_a_whole_answer_that_nobody_waited_for_stays_charged_as_presumed_spent(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str
) -> None:
    budgets = {"teachers": {"window": "day", "counts": "teacher", "limit_usd": worst(ask("chat")) * 1.5}}
    teacher.script(HANG)
    async with running_gateway(config(teacher, student, budgets, ledger=FAST), redis_url=redis_url) as gw:
        async with RawClient(gw.port) as client:
            await client.post("/v1/chat/completions", ask("chat"))
            await eventually(lambda: teacher.requests, "the teacher's work")
        await gw.idle()
        row = await gw.row()
        kept = round(worst(ask("chat")) * NANO_PER_USD) - sum(row.c.values())
        presumed = "budget_presumed_spent_usd"
        await eventually(lambda: round(gw.metric(presumed) * NANO_PER_USD) == kept, "presumed spent")
        assert (await gw.ask("chat")).status_code == 429
        answer = await gw.post("/v1/router/budgets/teachers/forgive")
        assert answer.json()["forgiven_usd"] == f"{kept / NANO_PER_USD:.9f}"
        assert (await gw.ask("chat")).status_code in (200, 429)  # as soon as this worker has heard of it
