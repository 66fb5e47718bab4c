"""The client hangs up: the upstream is ended, the call is paid once, the row says so, nothing is left."""

from __future__ import annotations

import asyncio
import gc
import random
from typing import Any

import psutil
import pytest

from tests.support.gateway import PATHS, RunningGateway, ask, eventually, running_gateway, two_models
from tests.support.raw_client import RawClient, request_bytes
from tests.support.scripted import HANG, Fault, Reply, ScriptedUpstream, Usage
from tests.support.wire import Exchange, framed, render_head

ENDPOINTS = ("chat", "completions", "responses", "embeddings")
STREAMS = ("chat", "completions", "responses")
CASCADE = {"kind": "cascade", "escalate_at": 0.9, "score_tokens": 5}
STALLS = Reply("one two three four five", fault=Fault(4, "hang"))
LARGE_EVENT = framed(b'data: {"choices": [{"index": 0, "delta": {"content": "%b"}}]}\n\n' % (b"x" * 60_000))
EVENT_STREAM = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}


@pytest.fixture
def config(teacher: ScriptedUpstream, student: ScriptedUpstream) -> dict[str, Any]:
    return two_models(teacher.url, student.url, embeddings={"model": "student"})


def model_for(endpoint: str) -> str:
    return "student" if endpoint == "embeddings" else "auto"


async def cancelled(gw: RunningGateway, upstream: ScriptedUpstream) -> None:
    """The upstream was told, and exactly one row says so, with a price."""
    await asyncio.wait_for(upstream.client_gone.wait(), 30)
    row = await gw.row()
    assert (row.o, row.e, set(row.c)) == ("cancelled", 1, {"cancelled"})
    assert row.c["cancelled"] > 0
    assert gw.metric("requests_total", outcome="cancelled") == 1
    await eventually(lambda: upstream.open_connections == 0, "an upstream without connections")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("cut", ["in the head", "before the body", "in the body"])
async def test_before_the_request_is_complete_nothing_happens(
    config: dict[str, Any], student: ScriptedUpstream, endpoint: str, cut: str
) -> None:
    data = request_bytes(PATHS[endpoint], ask(endpoint, model_for(endpoint)))
    body = data.index(b"\r\n\r\n") + 4
    end = {"in the head": body - 10, "before the body": body, "in the body": body + 5}[cut]
    async with running_gateway(config) as gw:
        async with RawClient(gw.port) as client:
            await client.send(data[:end])
            await asyncio.sleep(0.01)
        await gw.ask(endpoint, model_for(endpoint))  # by now the other is gone
        assert len(await gw.rows(1)) == 1
    assert len(student.requests) == 1


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_while_it_waits_for_a_whole_answer(
    config: dict[str, Any], student: ScriptedUpstream, endpoint: str
) -> None:
    student.default = HANG
    async with running_gateway(config) as gw:
        async with RawClient(gw.port) as client:
            await client.post(PATHS[endpoint], ask(endpoint, model_for(endpoint)))
            await student.arrived(1)
        await cancelled(gw, student)


@pytest.mark.parametrize("endpoint", STREAMS)
async def test_before_the_first_event_of_a_stream(
    config: dict[str, Any], student: ScriptedUpstream, endpoint: str
) -> None:
    student.default = Reply("x", fault=Fault(0, "hang"))
    async with running_gateway(config) as gw:
        async with RawClient(gw.port) as client:
            await client.post(PATHS[endpoint], ask(endpoint, stream=True))
            await student.arrived(1)
        await cancelled(gw, student)


@pytest.mark.parametrize("native", [False, True], ids=["translated", "native"])
@pytest.mark.parametrize("endpoint", STREAMS)
async def test_in_the_middle_of_a_stream(
    config: dict[str, Any], student: ScriptedUpstream, endpoint: str, native: bool
) -> None:
    config["models"]["student"]["supports"] = ["logprobs", "responses"] if native else ["logprobs"]
    student.default = STALLS if not native else Reply("one two three four five", fault=Fault(7, "hang"))
    async with running_gateway(config) as gw:
        async with RawClient(gw.port) as client:
            await client.post(PATHS[endpoint], ask(endpoint, stream=True))
            await client.read_until(b"two")
        await cancelled(gw, student)
        assert (await gw.row()).tok[2] >= 2


@pytest.mark.parametrize("endpoint", STREAMS)
async def test_while_the_gate_holds_the_answer(
    config: dict[str, Any], student: ScriptedUpstream, endpoint: str
) -> None:
    student.default = STALLS
    config["routes"]["auto"]["policy"] = CASCADE
    async with running_gateway(config) as gw:
        async with RawClient(gw.port) as client:
            await client.post(PATHS[endpoint], ask(endpoint, stream=True))
            await student.arrived(1)
            await eventually(lambda: student.requests[0].served and student.requests[0].served.tokens_sent >= 3)
        await cancelled(gw, student)


async def test_between_two_tries_nothing_is_charged(config: dict[str, Any], student: ScriptedUpstream) -> None:
    """The failed try is not charged, and no other was begun."""
    await student.stop()
    config["models"]["student"]["retries"] = 10
    config["models"]["student"]["circuit"] = {"failures": 1000}
    async with running_gateway(config) as gw:
        async with RawClient(gw.port) as client:
            await client.post(PATHS["chat"], ask("chat"))
            await eventually(lambda: gw.gateway.runtime.models["student"].replicas[0].circuit.consecutive >= 2)
        row = (await gw.rows(1))[0]
        assert (row.o, row.c) == ("cancelled", {})


async def test_after_the_answer_it_is_no_cancellation(config: dict[str, Any]) -> None:
    async with running_gateway(config) as gw:
        for stream, mark in ((False, b"total_tokens"), (True, b"[DONE]")):
            async with RawClient(gw.port) as client:
                await client.post(PATHS["chat"], ask("chat", stream=stream))
                await client.read_until(mark)
                await gw.idle()
        assert [(row.o, row.e, set(row.c)) for row in await gw.rows(2)] == [("ok", 0, {"serve"})] * 2


async def test_a_client_that_only_reads_slowly_holds_the_upstream_back(
    config: dict[str, Any], student: ScriptedUpstream
) -> None:
    """What waits in the gateway is bounded: it stops reading, and the upstream has to wait."""
    sent = 0

    async def torrent(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.send(render_head(200, EVENT_STREAM))
        while True:
            await exchange.send(LARGE_EVENT)
            sent += len(LARGE_EVENT)

    student.default = torrent
    async with running_gateway(config) as gw:
        async with RawClient(gw.port) as client:
            await client.post(PATHS["chat"], ask("chat", stream=True))
            await client.read_until(b"x")
            await _stands_still(lambda: sent)
            assert sent < 32 * 1024 * 1024  # the kernel's buffers on both sides are part of it
            before = sent
            while sent == before:
                assert await client.read_some()
        await asyncio.wait_for(student.client_gone.wait(), 30)
        assert (await gw.row()).o == "cancelled"


async def _stands_still(value: Any) -> None:
    """Until a number has not changed for a while."""
    last, since = value(), 0
    while since < 20:
        await asyncio.sleep(0.01)
        since = since + 1 if value() == last else 0
        last = value()


async def test_a_client_that_stops_reading_is_given_up_at_the_deadline(
    config: dict[str, Any], student: ScriptedUpstream
) -> None:
    async def torrent(exchange: Exchange) -> None:
        await exchange.send(render_head(200, EVENT_STREAM))
        while True:
            await exchange.send(LARGE_EVENT)

    student.default = torrent
    config["models"]["student"]["timeouts"] = {"total_s": 0.3}
    async with running_gateway(config) as gw, RawClient(gw.port) as client:
        await client.post(PATHS["chat"], ask("chat", stream=True))
        await client.read_until(b"x")
        await asyncio.wait_for(student.client_gone.wait(), 30)
        row = (await gw.rows(1))[0]
        assert (row.o, row.e) == ("interrupted", 1)


async def test_a_hundred_streams_of_which_a_third_hang_up_leave_nothing(
    config: dict[str, Any], student: ScriptedUpstream, teacher: ScriptedUpstream
) -> None:
    rng = random.Random(7)
    student.default = Reply(" ".join(["word"] * 30), usage=Usage(20, 30), gap_s=0.001)
    teacher.default = student.default
    config["routes"]["auto"] |= {"policy": CASCADE, "audit": {"rate": 0.1}}
    process = psutil.Process()
    async with running_gateway(config) as gw:
        await gw.ask("chat", stream=True)
        await gw.idle()
        files = process.num_fds()
        tasks = len(asyncio.all_tasks())
        plans = [rng.randrange(8_000) if rng.random() < 1 / 3 else None for _ in range(100)]
        limit = asyncio.Semaphore(20)
        await asyncio.gather(*(_one(gw, rng.choice(STREAMS), plan, limit) for plan in plans))
        rows = (await gw.rows(101))[1:]
        assert len(rows) == 100
        assert all(row.o in ("ok", "cancelled") and row.c for row in rows)
        cut = [row for row in rows if row.o == "cancelled"]
        assert 0 < len(cut) <= sum(plan is not None for plan in plans)
        assert all("cancelled" in row.c for row in cut if not row.c.get("serve"))
        await teacher.drop_connections()
        await student.drop_connections()
        gc.collect()
        await eventually(lambda: process.num_fds() <= files, "as many files as before")
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks, "as many tasks as before")


async def _one(gw: RunningGateway, endpoint: str, hangs_up_after: int | None, limit: asyncio.Semaphore) -> None:
    """One stream; it is left after so many bytes, or read to its end."""
    async with limit, RawClient(gw.port) as client:
        await client.post(PATHS[endpoint], ask(endpoint, stream=True), head="connection: close\r\n")
        if hangs_up_after is None:
            await client.read_all()
        else:
            while len(client.received) < hangs_up_after and await client.read_some():
                pass
