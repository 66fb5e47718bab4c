"""A policy or a gate that raises costs its requests the teacher's price, not their answers."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pytest

from policies.difficulty.policy import Difficulty
from policies.gate.answer import StudentAnswer
from policies.learn.trained import Score
from policies.query import Query
from router.complaints import EVERY_S, Complaints
from router.errors import BadRequest
from tests.router.gate.test_learned import LEARNED, promote
from tests.support.gateway import running_gateway, two_models
from tests.support.policy_parts import Estimator
from tests.support.scripted import ScriptedUpstream

BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
DIFFICULTY = {"kind": "difficulty", "threshold": 0.5, "file": "/none/trained"}


@dataclass(frozen=True)
class Broken(Estimator):
    error: type[Exception] = ArithmeticError

    def score(self, query: Query, answer: StudentAnswer | None = None) -> Score:
        raise self.error("shapes (3,) and (4,) not aligned")


@BOTH
async def test_a_policy_that_raises_gives_the_teacher_and_is_told_and_counted(
    teacher: ScriptedUpstream, student: ScriptedUpstream, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_gateway(two_models(teacher.url, student.url, policy=DIFFICULTY)) as gw:
        assert "distill_router_policy_errors_total{" in gw.gateway.metrics.exposition().decode()  # 0 is there
        policy = gw.gateway.runtime.routes["auto"].policy
        assert isinstance(policy, Difficulty)
        policy.slot.current = Broken(0.0)
        for _ in range(2):
            answer = await gw.ask("chat", stream=stream)
            assert answer.status_code == 200, answer.text
            assert (answer.headers["x-router-model"], answer.headers["x-router-reason"]) == ("teacher", "policy_error")
        first, second = await gw.rows(2)
        explained = (await gw.http.get(f"/v1/router/decisions/{first.id}")).json()
        assert explained["decision"]["explanation"].startswith("The policy raised an error at this request")
        assert (first.g, first.p, first.a, first.q) == (["policy_error"], 1.0, "t", None) and second.g == first.g
        assert gw.metric("policy_errors_total", route="auto") == 2
    told = [record for record in caplog.records if record.name == "distill_router.policy"]
    assert len(told) == 1 and "not aligned" in (told[0].exc_text or "")


@BOTH
async def test_a_gate_that_raises_escalates(teacher: ScriptedUpstream, student: ScriptedUpstream, stream: bool) -> None:
    async with running_gateway(two_models(teacher.url, student.url, policy=LEARNED)) as gw:
        promote(gw, Broken(0.0))
        answer = await gw.ask("chat", stream=stream)
        assert (answer.status_code, answer.headers["x-router-model"]) == (200, "teacher")
        row = await gw.row()
        assert (row.r, row.g, row.p) == ("escalated:policy_error", ["policy_error"], 1.0)
        assert gw.metric("policy_errors_total", route="auto") == 1


@pytest.mark.parametrize("policy", [DIFFICULTY, LEARNED], ids=["policy", "gate"])
async def test_a_request_that_cannot_be_read_is_still_refused(
    teacher: ScriptedUpstream, student: ScriptedUpstream, policy: dict[str, object]
) -> None:
    async with running_gateway(two_models(teacher.url, student.url, policy=policy)) as gw:
        (slot,) = gw.gateway._standing.slots
        slot.current = Broken(0.0, error=BadRequest)
        assert (await gw.ask("chat")).status_code == 400
        assert gw.metric("policy_errors_total", route="auto") == 0


def test_a_traceback_is_written_once_a_minute_and_says_how_many_were_not(caplog: pytest.LogCaptureFixture) -> None:
    times = 0.0, 1.0, EVERY_S - 1, EVERY_S, EVERY_S + 1
    complaints = Complaints(iter(times).__next__)
    with caplog.at_level(logging.ERROR, "distill_router.policy"):
        for _ in times:
            try:
                raise ValueError("wrong shape")
            except ValueError:
                complaints.tell("auto")
    assert [message.partition("; ")[2] for message in caplog.messages] == [
        "0 more failures since the last such line",
        "2 more failures since the last such line",
    ]
    assert all("wrong shape" in (record.exc_text or "") for record in caplog.records)
