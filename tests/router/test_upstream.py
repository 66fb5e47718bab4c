"""Calling a model: replicas, circuits, health checks, pooled connections, bounds and timeouts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from router.upstream.replica import Circuit
from tests.support.gateway import RunningGateway, ask, eventually, running_gateway, two_models
from tests.support.raw_client import RawClient
from tests.support.scripted import CLOSE, HANG, HANG_AFTER_HEAD, Fault, Raw, Reply, ScriptedUpstream, failing
from tests.support.wire import Exchange, framed

NO_FALLBACK = {"fallback": {"student": "error"}}
ALONE = {"retries": 0, "health": {"interval_s": 3600}}


def replicated(teacher: ScriptedUpstream, *students: ScriptedUpstream, **student: Any) -> dict[str, Any]:
    """The student on several replicas, without fallback."""
    config = two_models(teacher.url, students[0].url, route=NO_FALLBACK)
    config["models"]["student"] |= {"base_urls": [replica.url for replica in students], **student}
    return config


async def probed(upstream: ScriptedUpstream, times: int) -> None:
    await eventually(lambda: len(upstream.probes) >= times, f"{times} health checks")


async def many(gw: RunningGateway, count: int, **more: Any) -> list[int]:
    responses = await asyncio.gather(*(gw.ask("chat", **more) for _ in range(count)))
    return [response.status_code for response in responses]


async def test_calls_go_to_the_replica_with_the_fewest_in_flight(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    async with ScriptedUpstream(default=HANG) as other:
        student.default = HANG
        async with running_gateway(replicated(teacher, student, other)) as gw:
            waiting = [asyncio.create_task(gw.ask("chat")) for _ in range(6)]
            await asyncio.gather(student.arrived(3), other.arrived(3))
            assert [replica.in_flight for replica in gw.gateway.runtime.models["student"].replicas] == [3, 3]
            await asyncio.gather(student.drop_connections(), other.drop_connections())
            assert {(await task).status_code for task in waiting} == {502}


async def test_a_retry_goes_to_another_replica(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    student.default = failing(500, "oops")
    async with (
        ScriptedUpstream(default=Reply("from the other")) as other,
        running_gateway(replicated(teacher, student, other, retries=1, circuit={"failures": 100})) as gw,
    ):
        assert await many(gw, 6) == [200] * 6
        assert len(student.requests) + len(other.requests) == 6 + len(student.requests)


async def test_a_circuit_opens_and_closes_when_a_trial_succeeds(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = CLOSE
    config = replicated(teacher, student, circuit={"failures": 2, "open_s": 0.3})
    async with running_gateway(config) as gw:
        circuit = gw.gateway.runtime.models["student"].replicas[0].circuit
        assert [(await gw.ask("chat")).status_code for _ in range(3)] == [502, 502, 503]
        assert circuit.is_open
        assert len(student.requests) == 2
        refused = await gw.ask("chat")
        assert refused.headers["retry-after"] == "1"
        assert (await gw.http.get("/readyz")).json()["models"]["student"] == {"student[0]": False}
        student.default = Reply("back")
        await eventually(lambda: gw.gateway.runtime.models["student"].available)
        assert (await gw.ask("chat")).status_code == 200
        assert not circuit.is_open


async def test_while_a_circuit_is_open_the_teacher_answers(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = CLOSE
    config = two_models(teacher.url, student.url, models={"circuit": {"failures": 1, "open_s": 60}})
    async with running_gateway(config) as gw:
        reasons = [(await gw.ask("chat")).headers["x-router-reason"] for _ in range(3)]
        assert reasons == ["fallback:student", "down:student", "down:student"]
        assert [row.g for row in await gw.rows(3)] == [[], ["down:student"], ["down:student"]]
    assert len(student.requests) == 1


async def test_answers_that_make_no_sense_open_the_circuit_too(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    config = replicated(teacher, student, circuit={"failures": 3, "open_s": 60})
    for broken in (Reply("a b c", fault=Fault(2, "garbage")), Reply("a b c", fault=Fault(2, "close"))):
        student.default = broken
        async with running_gateway(config) as gw:
            for _ in range(3):
                assert (await gw.ask("chat", stream=True)).status_code == 200
            assert (await gw.ask("chat", stream=True)).status_code == 503


async def test_refusals_and_good_answers_keep_the_circuit_closed(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    config = replicated(teacher, student, circuit={"failures": 2})
    async with running_gateway(config) as gw:
        for stream in (False, True):
            for _ in range(2):
                student.script(failing(500, "oops"), failing(400, "no"), failing(500, "oops"), Reply("ok"))
                statuses = [(await gw.ask("chat", stream=stream)).status_code for _ in range(4)]
                assert statuses == [502, 400, 502, 200]


@pytest.mark.parametrize(("outcome", "is_open"), [("succeeded", False), ("failed", True), ("ends", True)])
def test_an_open_circuit_lets_one_trial_through_at_a_time(outcome: str, is_open: bool) -> None:
    circuit = Circuit(failures=1, open_s=10)
    circuit.failed(now=0)
    assert not circuit.admits(now=9)
    assert circuit.admits(now=10)
    circuit.starts()
    assert not circuit.admits(now=10)
    circuit.failed(now=10) if outcome == "failed" else getattr(circuit, outcome)()
    assert circuit.is_open == is_open
    assert circuit.admits(now=10) == (outcome != "failed")


async def test_a_replica_that_fails_its_health_checks_gets_nothing_until_it_is_well_again(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    async with ScriptedUpstream() as other:
        config = replicated(teacher, student, other, health={"interval_s": 0.02, "path": "/models"})
        student.health = failing(503, "ill")
        async with running_gateway(config) as gw:
            replicas = gw.gateway.runtime.models["student"].replicas
            await eventually(lambda: not replicas[0].healthy, "an unhealthy replica")
            await many(gw, 4)
            assert student.requests == []
            student.health = None
            await eventually(lambda: replicas[0].healthy, "a healthy replica")
            await gw.ask("chat")
            assert len(student.requests) == 1
    assert {probe.path for probe in student.probes} == {"/v1/models"}


async def test_health_checks_survive_every_kind_of_answer(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    config = replicated(teacher, student, health={"interval_s": 0.01, "timeout_s": 0.05})
    async with running_gateway(config) as gw:
        replica = gw.gateway.runtime.models["student"].replicas[0]
        for answer in (HANG, CLOSE, Raw(b"\x00 nonsense\r\n\r\n"), HANG_AFTER_HEAD):
            student.health = answer
            await probed(student, len(student.probes) + 3)
        student.health = None
        await eventually(lambda: replica.healthy)
        assert (await gw.ask("chat")).status_code == 200


async def test_connections_are_kept_and_used_again(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    async with running_gateway(two_models(teacher.url, student.url)) as gw:
        for stream in (False, True, False, True):
            await gw.ask("chat", stream=stream)
            await gw.idle()
            await eventually(lambda: student.open_connections == 1)
        assert len(student.requests) == 4


@pytest.mark.parametrize("stream", [False, True])
async def test_a_connection_that_went_stale_costs_neither_an_error_nor_a_retry(
    teacher: ScriptedUpstream, student: ScriptedUpstream, stream: bool
) -> None:
    student.script(Reply("a"), CLOSE, Reply("b"), Reply("c", closes_after=True))
    async with running_gateway(two_models(teacher.url, student.url)) as gw:
        responses = [await gw.ask("chat", stream=stream) for _ in range(4)]
        assert [response.status_code for response in responses] == [200] * 4
        assert [response.headers["x-router-retries"] for response in responses] == ["0"] * 4
        await student.drop_connections()
        assert (await gw.ask("chat", stream=stream)).headers["x-router-retries"] == "0"
    assert len(student.requests) == 6


@pytest.mark.parametrize("then", ["", "x", "HTTP/1.1 500 Oops\r\ncontent-length: 1\r\n\r\nx"])
async def test_a_connection_that_says_more_than_was_asked_is_not_used_again(
    teacher: ScriptedUpstream, student: ScriptedUpstream, then: str
) -> None:
    body = b'{"choices": []}'
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()

    async def talkative(exchange: Exchange) -> None:
        await exchange.send(head + body + then.encode())

    student.default = talkative
    async with running_gateway(two_models(teacher.url, student.url)) as gw:
        for _ in range(2):
            response = await gw.ask("chat")
            assert (response.status_code, response.content) == (200, body)
            await eventually(lambda: student.open_connections == (0 if then else 1))


async def test_a_bounded_number_in_flight_then_429_with_retry_after(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = HANG
    async with running_gateway(replicated(teacher, student, max_in_flight=2)) as gw:
        waiting = [asyncio.create_task(gw.ask("chat", stream=stream)) for stream in (False, True)]
        await student.arrived(2)
        refused = await gw.ask("chat")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "model_overloaded")
        assert refused.headers["retry-after"] == "1"
        await student.drop_connections()
        assert [(await task).status_code for task in waiting] == [502, 502]
        student.default = Reply("free again")
        assert await many(gw, 2) == [200, 200]


async def test_a_full_pool_is_no_fault_of_the_upstream(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    student.default = HANG
    async with running_gateway(replicated(teacher, student, max_connections=1, circuit={"failures": 1})) as gw:
        waiting = asyncio.create_task(gw.ask("chat"))
        await student.arrived(1)
        refused = await gw.ask("chat")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert not gw.gateway.runtime.models["student"].replicas[0].circuit.is_open
        await student.drop_connections()
        await waiting


async def test_an_overloaded_student_hands_over_to_the_teacher(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = HANG
    config = two_models(teacher.url, student.url)
    config["models"]["student"]["max_in_flight"] = 1
    async with running_gateway(config) as gw:
        waiting = asyncio.create_task(gw.ask("chat"))
        await student.arrived(1)
        assert (await gw.ask("chat")).headers["x-router-reason"] == "fallback:student"
        await student.drop_connections()
        assert (await waiting).headers["x-router-reason"] == "fallback:student"


SLOW: dict[str, tuple[dict[str, float], Any, bool, str]] = {
    "first token": ({"first_token_s": 0.1}, HANG, True, "the first byte"),
    "first token after the head": ({"first_token_s": 0.1}, HANG_AFTER_HEAD, True, "more of the answer"),
    "total": ({"total_s": 0.1}, HANG, False, "the first byte"),
    "total in the body": (
        {"total_s": 0.1},
        Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", then="hang"),
        False,
        "more of the answer",
    ),
}


@pytest.mark.parametrize(("timeouts", "fault", "stream", "what"), SLOW.values(), ids=SLOW)
async def test_a_timeout_is_a_504_that_says_what_was_waited_for_and_is_charged(
    teacher: ScriptedUpstream,
    student: ScriptedUpstream,
    timeouts: dict[str, float],
    fault: Any,
    stream: bool,
    what: str,
) -> None:
    student.default = fault
    async with running_gateway(replicated(teacher, student, timeouts=timeouts)) as gw:
        response = await gw.ask("chat", stream=stream)
        assert (response.status_code, response.json()["error"]["code"]) == (504, "upstream_timeout")
        assert f"timed out waiting for {what}" in response.json()["error"]["message"]
        row = await gw.row()
        assert (row.o, row.e, set(row.c)) == ("failed", 1, {"retry"})
    await eventually(lambda: student.open_connections == 0)


@pytest.mark.parametrize("timeouts", [{"idle_s": 0.1}, {"total_s": 0.3}], ids=str)
async def test_a_stream_that_stops_is_ended_with_a_timeout(
    teacher: ScriptedUpstream, student: ScriptedUpstream, timeouts: dict[str, float]
) -> None:
    student.default = Reply("a b c d", fault=Fault(3, "hang"))
    async with running_gateway(replicated(teacher, student, timeouts=timeouts)) as gw:
        response = await gw.ask("chat", stream=True)
        assert b'"upstream_timeout"' in response.content
        assert (await gw.row()).o == "interrupted"


async def test_a_connection_that_cannot_be_made_in_time_is_given_up(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    """An address that swallows packets is not to be had everywhere: a TLS handshake that nobody answers is."""
    student.default = HANG
    config = replicated(teacher, student, timeouts={"connect_s": 0.1})
    config["models"]["student"]["base_urls"] = [student.url.replace("http:", "https:")]
    async with running_gateway(config) as gw:
        response = await gw.ask("chat")
        assert response.status_code == 503
        assert "timed out connecting" in response.json()["error"]["message"]


async def test_an_endless_body_is_cut_off(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            await exchange.send(framed(b" " * (1 << 20)))

    student.default = endless
    async with running_gateway(replicated(teacher, student)) as gw:
        response = await gw.ask("chat")
        assert response.status_code == 502
        assert "larger than" in response.json()["error"]["message"]
    await eventually(lambda: student.open_connections == 0)


async def test_the_hang_up_of_one_client_does_not_end_anothers_exchange_on_the_same_connection(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    """While it waits between two tries, a request must not hold on to the connection of the first."""
    async with running_gateway(replicated(teacher, student, retries=1)) as gw:
        for _ in range(5):
            student.script(failing(500, "oops"))
            seen = len(student.requests)
            async with RawClient(gw.port) as client:
                await client.post("/v1/chat/completions", ask("chat"))
                failed = await student.arrived(seen + 1)
                await failed.done.wait()
                student.default = Reply("for the other", delay_s=0.15)
                other = asyncio.create_task(gw.ask("chat"))
                await student.arrived(seen + 2)
                client.hang_up()
            assert (await other).status_code == 200
            student.default = Reply("x")
            await gw.idle()


async def test_a_model_that_hangs_is_left_alone_once_its_health_checks_say_so(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = HANG
    student.health = HANG
    health = {"interval_s": 0.05, "timeout_s": 0.05}
    config = two_models(teacher.url, student.url, models={"health": health})
    async with running_gateway(config) as gw:
        (replica,) = gw.gateway.runtime.models["student"].replicas
        await eventually(lambda: not replica.healthy, "an unhealthy student")
        answer = await gw.ask("chat")
        assert (answer.headers["x-router-model"], answer.headers["x-router-reason"]) == ("teacher", "down:student")
        student.health = None
        await eventually(lambda: replica.healthy, "a healthy student")
        student.default = Reply(content="back")
        assert (await gw.ask("chat")).headers["x-router-model"] == "student"
