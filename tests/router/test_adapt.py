"""A model's `adapt` block holds on every call: the first, the fallback, the escalation and the shadow."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.gateway import PATHS, RunningGateway, ask, running_gateway, two_models
from tests.support.scripted import CLOSE, Received, Reply, ScriptedUpstream

ADAPT = {
    "rename": {"max_tokens": "max_completion_tokens"},
    "drop": ["top_k"],
    "set": {"priority": 1},
    "system_prompt": "You are the teacher.",
}
MESSAGES = [{"role": "system", "content": "client's"}, {"role": "user", "content": "hi"}]
REQUEST = ask("chat", messages=MESSAGES, max_tokens=9, top_k=5, seed=3)


def adapted(request: Received) -> None:
    body = request.json
    assert "max_tokens" not in body
    assert "top_k" not in body
    assert (body["max_completion_tokens"], body["priority"], body["seed"]) == (9, 1, 3)
    assert body["messages"] == [{"role": "system", "content": "You are the teacher."}, MESSAGES[1]]


async def served(gw: RunningGateway, stream: bool) -> str:
    response = await gw.post(PATHS["chat"], REQUEST | {"stream": stream})
    assert response.status_code == 200
    return response.headers["x-router-reason"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("way", ["served", "fallback", "escalation", "shadow"])
async def test_the_teacher_gets_its_own_form_however_it_is_asked(
    teacher: ScriptedUpstream, student: ScriptedUpstream, way: str, stream: bool
) -> None:
    policies: dict[str, dict[str, Any]] = {
        "served": {"kind": "fixed", "model": "teacher"},
        "fallback": {"kind": "fixed", "model": "student"},
        "escalation": {"kind": "cascade", "escalate_at": 0},
        "shadow": {"kind": "fixed", "model": "student"},
    }
    if way == "fallback":
        student.default = CLOSE
    config = two_models(
        teacher.url,
        student.url,
        policy=policies[way],
        route={"audit": {"rate": 1.0 if way == "shadow" else 0.0, "second_draw": 0.0, "confirm": 0.0}},
    )
    config["models"]["teacher"]["adapt"] = ADAPT
    async with running_gateway(config) as gw:
        reasons = {"served": "fixed", "fallback": "fallback:student", "escalation": "escalated", "shadow": "fixed"}
        assert await served(gw, stream) == reasons[way]
        await gw.idle()
        adapted(teacher.requests[0])
        assert len(teacher.requests) == 1
        if way == "shadow":
            assert not teacher.requests[0].json.get("stream")
        if student.requests:
            body = student.requests[0].json
            assert (body["max_tokens"], body["top_k"], body["messages"]) == (9, 5, MESSAGES)


async def test_the_system_prompt_becomes_the_instructions_of_a_response(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = Reply("ok")
    config = two_models(teacher.url, student.url, models={"supports": ["responses"]})
    config["models"]["student"]["adapt"] = {"system_prompt": "Be brief."}
    async with running_gateway(config) as gw:
        await gw.openai.responses.create(model="auto", input="hi", instructions="Be long.")
    assert student.requests[0].json["instructions"] == "Be brief."
