"""A cascade under a floor that certifies nothing yet: the teacher serves, and the gate looks at the student's answer in
the background as it would have in the foreground."""

from __future__ import annotations

from typing import Any

import pytest

from router.evidence.records import PairRecord
from tests.router.gate.asking import FIRST, OTHER, SAME, STUDENT_NANO, by_kind, is_sample
from tests.support.gateway import Json, running_gateway, two_models
from tests.support.scripted import ScriptedUpstream

BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
AUDIT = {"audit": {"rate": 1.0, "second_draw": 0.0, "confirm": 0.0}}


def config(teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str, **policy: Any) -> Json:
    block = {"kind": "cascade", "escalate_at": 0.5, "floor": {}, **policy}
    return two_models(teacher.url, student.url, policy=block, route=AUDIT, redis={"url": redis_url})


@BOTH
async def test_the_student_is_asked_in_the_background_alone(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str, stream: bool
) -> None:
    student.default = FIRST
    async with running_gateway(config(teacher, student, redis_url), redis_url=redis_url) as gw:
        answer = await gw.ask("chat", stream=stream)
        assert (answer.headers["x-router-model"], answer.headers["x-router-reason"]) == ("teacher", "floor")
        row = await gw.row()
        assert (row.p, row.th, set(row.c)) == (1.0, 0.0, {"serve"})
        (pair,) = await gw.pairs()
        assert pair["student"]["mean_logprob"] == -0.5
    assert len(student.requests) == 1


@pytest.mark.parametrize("further", [SAME, OTHER], ids=["agrees", "contradicts itself"])
async def test_what_the_gate_asks_is_asked_in_the_background_too(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str, further: Any
) -> None:
    student.default = by_kind(FIRST, further)
    checks = {"form": {"kind": "json_schema"}} if further is OTHER else {}
    block = {"agreement": {"samples": 2}, "checks": checks}
    async with running_gateway(config(teacher, student, redis_url, **block), redis_url=redis_url) as gw:
        assert (await gw.ask("chat")).headers["x-router-reason"] == "floor"
        (pair,) = [PairRecord.model_validate(pair) for pair in await gw.pairs()]
        shadow = next(row for row in await gw.all_rows(2) if row.o == "shadow")
        assert set(shadow.c) == {"shadow"}
        if checks:
            assert (pair.student.agreement, pair.student.checks) == (None, {"form": False})
        else:
            assert (pair.student.agreement, pair.student.checks) == (1.0, {})
            assert shadow.c == {"shadow": 3 * STUDENT_NANO}
            assert sum(is_sample(request) for request in student.requests) == 2
