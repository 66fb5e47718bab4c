"""Which model answers, and who may ask for what: guards, operating points, override headers, keys."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from tests.support.gateway import HI, PATHS, RunningGateway, ask, running_gateway, two_models
from tests.support.scripted import CLOSE, Reply, ScriptedUpstream, failing

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
MISFITS: dict[str, tuple[str, dict[str, Any]]] = {
    "tools": ("tools", {"tools": [TOOL]}),
    "json_schema": ("json_schema", {"response_format": SCHEMA}),
    "images": ("images", {"messages": [{"role": "user", "content": [IMAGE]}]}),
    "n": ("n", {"n": 2}),
    "logprobs": ("logprobs", {"logprobs": True}),
    "output": ("output", {"max_tokens": 101}),
    "output of the new name": ("output", {"max_completion_tokens": 101}),
    "context": ("context", {"messages": [{"role": "user", "content": "x" * 3_000}]}),
    "context with output": ("context", {"messages": [{"role": "user", "content": "x" * 2_750}], "max_tokens": 100}),
}


def key(name: str, secret: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "sha256": sha256(secret.encode()).hexdigest(), **more}


@pytest.mark.parametrize("misfit", MISFITS.values(), ids=MISFITS)
async def test_what_does_not_fit_the_student_goes_to_the_teacher(
    teacher: ScriptedUpstream, student: ScriptedUpstream, misfit: tuple[str, dict[str, Any]]
) -> None:
    config = two_models(teacher.url, student.url)
    config["models"]["student"] |= {"supports": [], "context_tokens": 1_000, "max_output_tokens": 100}
    async with running_gateway(config) as gw:
        fits = await gw.ask("chat", max_tokens=100, n=1, tools=None, logprobs=False)
        assert (fits.headers["x-router-model"], fits.headers["x-router-reason"]) == ("student", "fixed")
        guard, fields = misfit
        response = await gw.ask("chat", **fields)
        assert (response.headers["x-router-model"], response.headers["x-router-reason"]) == (
            "teacher",
            f"guard:{guard}",
        )
        row = (await gw.rows(2))[1]
        assert (row.g, row.p, row.a) == ([guard], 1.0, "t")


async def test_a_student_that_supports_it_gets_it(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    models = {"supports": ["tools", "json_schema", "images", "n", "logprobs"]}
    async with running_gateway(two_models(teacher.url, student.url, models=models)) as gw:
        for _, fields in MISFITS.values():
            response = await gw.ask("chat", **fields)
            assert response.headers["x-router-model"] == "student"


async def test_an_operating_point_moves_the_threshold_of_a_cascade(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = Reply("unsure", token_logprob=-0.5)  # P(wrong) = 1 - exp(-0.5), about 0.39
    policy = {"kind": "cascade", "escalate_at": 0.9}
    async with running_gateway(two_models(teacher.url, student.url, policy=policy)) as gw:
        for name, model in (
            ("auto", "student"),
            ("auto@0.3", "teacher"),
            ("auto@0.4", "student"),
            ("auto@0", "teacher"),
        ):
            assert (await gw.ask("chat", name)).headers["x-router-model"] == model
        rows = await gw.rows(4)
        assert len({row.pv for row in rows}) == 4
        assert all(row.s == (-0.5, 0.3935) for row in rows)
        assert [row.p for row in rows] == [0.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("point", ["2", "-0.1", "nan", "x", ""])
async def test_a_point_that_is_none_is_refused(
    teacher: ScriptedUpstream, student: ScriptedUpstream, point: str
) -> None:
    async with running_gateway(two_models(teacher.url, student.url, policy={"kind": "cascade"})) as gw:
        response = await gw.ask("chat", f"auto@{point}")
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "model"


async def test_only_a_cascade_has_an_operating_point(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    async with running_gateway(two_models(teacher.url, student.url)) as gw:
        for name in ("auto@0.5", "teacher@0.5"):
            response = await gw.ask("chat", name)
            assert response.status_code == 400
            assert "operating point" in response.json()["error"]["message"]


@pytest.mark.parametrize("name", ["student", "teacher"])
async def test_a_model_may_be_named_outright(teacher: ScriptedUpstream, student: ScriptedUpstream, name: str) -> None:
    async with running_gateway(two_models(teacher.url, student.url)) as gw:
        response = await gw.ask("chat", name)
        assert response.json()["choices"][0]["message"]["content"] == f"from the {name}"
        row = await gw.row()
        assert (row.m, row.rt, row.fo, row.to) == (name, "", 1, 0)


async def test_override_headers_work_with_the_permission_only(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    config = two_models(teacher.url, student.url, server={"auth": "keys"})
    config["keys"] = [key("plain", "p"), key("boss", "b", permissions=["override"])]
    config["policies"] = {"half": {"kind": "split", "student_share": 0.5}}
    async with running_gateway(config) as gw:
        for header in ({"x_router_model": "teacher"}, {"x_router_policy": "fixed-teacher"}):
            refused = await gw.post(PATHS["chat"], ask("chat"), authorization="Bearer p", **header)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
            granted = await gw.post(PATHS["chat"], ask("chat"), authorization="Bearer b", **header)
            assert granted.headers["x-router-model"] == "teacher"
        named = await gw.post(PATHS["chat"], ask("chat"), authorization="Bearer b", x_router_policy="half")
        assert named.headers["x-router-reason"] == "split"
        for header in ({"x_router_model": "other"}, {"x_router_policy": "other"}):
            unknown = await gw.post(PATHS["chat"], ask("chat"), authorization="Bearer b", **header)
            assert unknown.status_code == 400
            assert "known: " in unknown.json()["error"]["message"]
        assert [row.fo for row in await gw.rows(7) if row.o == "ok"] == [1, 1, 1]


async def test_a_forced_model_that_fails_is_not_replaced(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    student.default = CLOSE
    async with running_gateway(two_models(teacher.url, student.url)) as gw:
        response = await gw.post(PATHS["chat"], ask("chat"), x_router_model="student")
        assert response.status_code == 502
    assert teacher.requests == []


@pytest.fixture
def keyed(teacher: ScriptedUpstream, student: ScriptedUpstream) -> dict[str, Any]:
    config = two_models(teacher.url, student.url, server={"auth": "keys"}, embeddings={"model": "teacher"})
    config["routes"]["other"] = config["routes"]["auto"]
    config["keys"] = [key("limited", "l", routes=["auto"], tenant="acme"), key("any", "a", permissions=["force_model"])]
    return config


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer", "Basic bA==", "l", "Bearer \udce9"], ids=str)
@pytest.mark.parametrize("endpoint", PATHS)
async def test_without_a_good_key_nobody_gets_in(keyed: dict[str, Any], header: str | None, endpoint: str) -> None:
    async with running_gateway(keyed) as gw:
        sent = {b"authorization": header.encode("utf-8", "surrogateescape")} if header else {}
        response = await gw.http.post(PATHS[endpoint], json=ask(endpoint), headers=sent)
        assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
        assert (await gw.http.get("/v1/models", headers=sent)).status_code == 401
        assert await gw.rows() == []


async def test_a_key_sees_and_reaches_its_own_routes(keyed: dict[str, Any]) -> None:
    async with running_gateway(keyed) as gw:
        for secret, visible in (("l", ["auto"]), ("a", ["auto", "other", "teacher", "student"])):
            sent = {"authorization": f"Bearer {secret}"}
            listed = (await gw.http.get("/v1/models", headers=sent)).json()["data"]
            assert [model["id"] for model in listed] == visible
            for name in ("auto", "other", "teacher", "nonsense"):
                response = await gw.post(PATHS["chat"], ask("chat", name), **sent)
                assert response.status_code == (200 if name in visible else 404)
                if name not in visible:
                    assert response.json()["error"]["code"] == "model_not_found"
        rows = [row for row in await gw.rows(8) if row.o == "ok"]
        assert [(row.k, row.tn) for row in rows] == [("limited", "acme")] + [("any", "default")] * 3
        assert gw.metric("requests_total", tenant="acme") == 1


async def test_a_split_keeps_a_conversation_with_its_model_and_knows_its_propensity(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    async with running_gateway(
        two_models(teacher.url, student.url, policy={"kind": "split", "student_share": 0.5})
    ) as gw:
        models = []
        for number in range(12):
            opening = [{"role": "user", "content": f"question {number}"}]
            later = [*opening, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "more"}]
            turns = [await gw.ask("chat", messages=messages) for messages in (opening, later)]
            assert turns[0].headers["x-router-model"] == turns[1].headers["x-router-model"]
            models.append(turns[0].headers["x-router-model"])
        assert set(models) == {"teacher", "student"}
        assert {row.p for row in await gw.rows(24)} == {0.5}


async def test_prompts_of_token_ids_are_split_as_well(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    async with running_gateway(
        two_models(teacher.url, student.url, policy={"kind": "split", "student_share": 0.5})
    ) as gw:
        models = {(await gw.ask("completions", prompt=[n, 1])).headers["x-router-model"] for n in range(12)}
    assert models == {"teacher", "student"}


async def test_rules_look_at_headers_tools_length_and_text(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    rules = [
        {"when": {"header": {"X-Tier": "gold"}}, "use": "teacher"},
        {"when": {"min_prompt_bytes": 2000}, "use": "teacher"},
        {"when": {"regex": "(?i)prove"}, "use": "teacher"},
    ]
    policy = {"kind": "rules", "rules": rules, "default": "student"}
    async with running_gateway(two_models(teacher.url, student.url, policy=policy)) as gw:
        assert (await gw.ask("chat")).headers["x-router-reason"] == "rule:default"
        gold = await gw.post(PATHS["chat"], ask("chat"), x_tier="gold")
        assert gold.headers["x-router-reason"] == "rule:0"
        long = await gw.ask("chat", messages=[{"role": "user", "content": "x" * 2000}])
        assert long.headers["x-router-reason"] == "rule:1"
        parts = [{"role": "user", "content": [{"type": "text", "text": "Prove it"}]}]
        assert (await gw.ask("chat", messages=parts)).headers["x-router-reason"] == "rule:2"
        assert (await gw.ask("responses", input="prove it")).headers["x-router-reason"] == "rule:2"


async def test_observing_serves_the_teacher_and_asks_the_student_in_the_background(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    route = {"mode": "observe", "audit": {"rate": 1.0}}
    async with running_gateway(two_models(teacher.url, student.url, route=route)) as gw:
        for stream in (False, True):
            response = await gw.ask("chat", stream=stream)
            assert (response.headers["x-router-model"], response.headers["x-router-reason"]) == ("teacher", "observe")
        pairs = await gw.pairs()
        assert [(pair["served"], pair["teacher"]["text"], pair["student"]["text"]) for pair in pairs] == [
            ("teacher", "from the teacher", "from the student")
        ] * 2
        assert gw.metric("cost_usd_total", origin="shadow", model="student") > 0


@pytest.mark.parametrize("reason", ["no store", "forced", "tenant"])
async def test_what_must_not_be_kept_is_not_audited(
    teacher: ScriptedUpstream, student: ScriptedUpstream, reason: str
) -> None:
    config = two_models(teacher.url, student.url, route={"audit": {"rate": 1.0}})
    headers = {"no store": {"x_router_no_store": "1"}, "forced": {"x_router_model": "student"}, "tenant": {}}[reason]
    if reason == "tenant":
        config |= {"server": {"auth": "keys"}, "keys": [key("k", "k", tenant="quiet")]}
        config["tenants"] = {"quiet": {"audit": "off"}}
    async with running_gateway(config) as gw:
        await gw.post(PATHS["chat"], ask("chat"), authorization="Bearer k", **headers)
        assert await gw.pairs() == []
        assert (await gw.row()).au == 0
    assert teacher.requests == []


async def test_embeddings_are_pinned(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    async with running_gateway(two_models(teacher.url, student.url, embeddings={"model": "teacher"})) as gw:
        assert (await gw.ask("embeddings", "teacher")).status_code == 200
        for name in ("student", "auto"):
            response = await gw.ask("embeddings", name)
            assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
        streamed = await gw.ask("embeddings", "teacher", stream=True)
        assert (streamed.status_code, streamed.json()["error"]["param"]) == (400, "stream")
    async with running_gateway(two_models(teacher.url, student.url)) as gw:
        assert (await gw.ask("embeddings", "teacher")).status_code == 404


async def test_a_prompt_beyond_the_students_context_goes_to_the_teacher_when_the_student_says_so(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    vllm = "This model's maximum context length is 64 tokens. Please reduce the length of the messages."
    for refusal in (failing(400, "too long", code="context_length_exceeded"), failing(400, vllm)):
        for policy in ({"kind": "fixed", "model": "student"}, {"kind": "cascade"}):
            student.script(refusal)
            async with running_gateway(two_models(teacher.url, student.url, policy=policy)) as gw:
                answer = await gw.openai.chat.completions.create(model="auto", messages=HI)
                assert answer.choices[0].message.content == "from the teacher"
                assert (await gw.row()).fb == 1


async def test_responses_that_need_a_store_are_refused(gw_plain: RunningGateway) -> None:
    stored: dict[str, Any] = {"previous_response_id": "resp_1", "conversation": "c", "background": True}
    for field, value in stored.items():
        response = await gw_plain.ask("responses", **{field: value})
        assert (response.status_code, response.json()["error"]["param"]) == (400, field)
