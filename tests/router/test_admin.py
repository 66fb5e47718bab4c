"""The admin API: who may use it, what it shows, what it refuses."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.api.common import MAX_BODY_BYTES
from router.ledger.status import declare_nothing
from tests.support.gateway import RunningGateway, ask, running_gateway, two_models
from tests.support.keys import ADMIN, APP, bearer, comes_to, keyed, sha256
from tests.support.raw_client import RawClient
from tests.support.scripted import ScriptedUpstream

KEYS = "/v1/router/keys"
NOISE = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)
ENDPOINTS = [
    ("GET", KEYS),
    ("POST", KEYS),
    ("DELETE", f"{KEYS}/app"),
    ("GET", "/v1/router/budgets"),
    ("POST", "/v1/router/budgets/month/forgive"),
    ("GET", "/v1/router/config"),
]


@pytest.fixture
def config(teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str) -> dict[str, Any]:
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    declare_nothing(redis_url)
    return keyed(teacher, student, redis_url)


async def admin(gw: RunningGateway, method: str, path: str, **more: Any) -> httpx.Response:
    return await gw.http.request(method, path, headers=bearer(ADMIN), **more)


def message(answer: httpx.Response) -> str:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return str(error["message"])


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
async def test_it_is_for_admins_only(config: dict[str, Any], method: str, path: str) -> None:
    async with running_gateway(config) as gw:
        stranger = await gw.http.request(method, path)
        assert stranger.status_code == 401
        client = await gw.http.request(method, path, headers=bearer(APP), content=b"{" * 1_000_000)
        assert client.status_code == 403
        assert "needs the permission 'admin'" in message(client)


async def test_a_key_is_created_listed_and_revoked(config: dict[str, Any]) -> None:
    async with running_gateway(config) as gw:
        terms = {
            "name": "team/blue",
            "tenant": "acme",
            "routes": ["auto"],
            "permissions": ["override"],
            "requests_per_minute": 60,
            "tokens_per_minute": 1000,
            "expires": "2036-01-31",
            "budgets": [{"window": "day", "limit_usd": 5}],
        }
        created = await admin(gw, "POST", KEYS, json=terms)
        assert created.status_code == 201 and created.headers["cache-control"] == "no-store"
        shown = created.json()
        key = shown.pop("key")
        assert (await gw.http.post("/v1/chat/completions", json=ask("chat"), headers=bearer(key))).status_code == 200
        listed = {found["name"]: found for found in (await admin(gw, "GET", KEYS)).json()["data"]}
        assert listed["team/blue"] == shown
        assert (shown["source"], shown["expires"]) == ("redis", "2036-01-31T00:00:00Z")
        assert shown["budgets"][0]["limit_usd"] == 5
        assert listed["app"]["source"] == "file"
        assert (await admin(gw, "DELETE", f"{KEYS}/team/blue")).json() == {"name": "team/blue", "revoked": True}
        assert (await admin(gw, "DELETE", f"{KEYS}/team/blue")).status_code == 404
        again = await gw.http.post("/v1/chat/completions", json=ask("chat"), headers=bearer(key))
        assert again.status_code == 401


async def test_keys_of_the_file_are_not_touched(config: dict[str, Any]) -> None:
    async with running_gateway(config) as gw:
        for answer in (await admin(gw, "DELETE", f"{KEYS}/app"), await admin(gw, "POST", KEYS, json={"name": "app"})):
            assert answer.status_code == 409
            assert "file" in message(answer)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "JSON"),
        (b"[]", "object"),
        (b"\xff", "JSON"),
        (b"[" * 50_000, "JSON"),
        (b"{}", "name: Field required"),
        ({"name": ""}, "name: "),
        ({"name": "a b"}, "name: a name is letters"),
        ({"name": "x" * 200}, "name: a name is"),
        ({"name": "n\u0000"}, "name: a name is"),
        ({"name": "../../etc"}, "name: a name is"),
        ({"name": 5}, "name: "),
        ({"name": "a", "colour": "red"}, "colour: unknown key; known: "),
        ({"name": "a", "permissions": ["root"]}, "permissions.0: "),
        ({"name": "a", "tenant": "@"}, "tenant: a name is"),
        ({"name": "a", "requests_per_minute": 0}, "requests_per_minute: "),
        ({"name": "a", "tokens_per_minute": 10**12}, "tokens_per_minute: "),
        ({"name": "a", "expires": 20360131}, "expires: expected a day or a time"),
        ({"name": "a", "expires": "tomorrow"}, "expires: expected a day or a time"),
        ({"name": "a", "expires": "2020-01-01"}, "is in the past"),
        ({"name": "a", "expires": "0001-01-01T00:00:00+14:00"}, "expires: "),
        ({"name": "a", "budgets": [{"window": "week", "limit_usd": 1}]}, "budgets.0.window: unknown window"),
        ({"name": "a", "budgets": [{"window": "day", "limit_usd": -1}]}, "budgets.0.limit_usd: "),
        ({"name": "a", "budgets": [{"window": "day", "limit_usd": 1, "tenant": "b"}]}, "leave out tenant"),
        ({"name": "a", "budgets": [{"window": "day", "limit_usd": 1}] * 2}, "two budgets per day"),
        ({"name": "a", "sha256": "0" * 64}, "sha256: unknown key"),
    ],
)
async def test_bad_bodies_are_told_what_is_wrong(config: dict[str, Any], body: Any, words: str) -> None:
    async with running_gateway(config) as gw:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = await admin(gw, "POST", KEYS, content=content)
        assert answer.status_code == 400
        assert words in message(answer)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noises=st.lists(st.tuples(st.text(max_size=40), NOISE), min_size=10, max_size=20))
async def test_nothing_that_a_body_or_a_path_says_breaks_it(
    config: dict[str, Any], noises: list[tuple[str, Any]]
) -> None:
    async with running_gateway(config) as gw:
        for name, noise in noises:
            for body in (noise, {"name": name, "budgets": noise}, {"name": noise, "routes": noise, "expires": noise}):
                answer = await admin(gw, "POST", KEYS, json=body)
                assert answer.status_code in (201, 400, 409)
            answer = await admin(gw, "DELETE", f"{KEYS}/x{quote(name, safe='')}")
            assert answer.status_code in (200, 404)


async def test_a_large_body_is_refused_before_it_is_read(config: dict[str, Any]) -> None:
    async with running_gateway(config) as gw:
        answer = await admin(gw, "POST", KEYS, content=b"x" * (MAX_BODY_BYTES + 1))
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
        async with RawClient(gw.port) as client:  # a stranger's is not waited for
            await client.send(b"POST /v1/router/keys HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n")
            assert b" 401 " in await client.read_until(b"}}")


async def test_a_body_that_never_comes_is_given_up(config: dict[str, Any]) -> None:
    config["server"]["body_timeout_s"] = 0.05
    async with running_gateway(config) as gw, RawClient(gw.port) as client:
        head = f"POST {KEYS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN}\r\ncontent-length: 100\r\n\r\n"
        await client.send(head.encode() + b"{")
        assert b"did not arrive" in await client.read_until(b"}}")


async def test_a_budget_needs_models_whose_dearest_call_is_known(config: dict[str, Any]) -> None:
    del config["models"]["student"]["max_output_tokens"]
    async with running_gateway(config) as gw:
        budget = {"window": "day", "limit_usd": 1}
        refused = await admin(gw, "POST", KEYS, json={"name": "a", "budgets": [budget]})
        assert refused.status_code == 400 and "models.student" in message(refused)
        terms = {"name": "a", "budgets": [{**budget, "counts": "teacher", "on_spent": "student"}]}
        assert (await admin(gw, "POST", KEYS, json=terms)).status_code == 201


async def test_a_budget_that_another_one_makes_useless_is_refused(config: dict[str, Any]) -> None:
    config["budgets"] = {"each-key": {"each": "key", "window": "day", "limit_usd": 10}}
    async with running_gateway(config) as gw:
        terms = {"name": "a", "budgets": [{"window": "day", "limit_usd": 1}]}
        refused = await admin(gw, "POST", KEYS, json=terms)
        assert refused.status_code == 400 and "budgets.each-key" in message(refused)


async def test_without_redis_there_is_nowhere_to_keep_a_key(config: dict[str, Any]) -> None:
    async with running_gateway({**config, "redis": None}) as gw:
        answer = await admin(gw, "POST", KEYS, json={"name": "a"})
        assert answer.status_code == 409 and "set `redis`" in message(answer)
        assert {key["name"] for key in (await admin(gw, "GET", KEYS)).json()["data"]} == {"admin", "app"}
        assert (await admin(gw, "GET", "/v1/router/budgets")).json()["data"] == []


async def test_without_authentication_everyone_may_look_and_nobody_makes_keys(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str
) -> None:
    """A key made while everyone could would outlast the setting."""
    async with running_gateway(two_models(teacher.url, student.url), redis_url=redis_url) as gw:
        for path in (KEYS, "/v1/router/config", "/v1/router/budgets"):
            assert (await gw.http.get(path)).status_code == 200
        made = await gw.http.post(KEYS, json={"name": "a", "permissions": ["admin"]})
        gone = await gw.http.delete(f"{KEYS}/a")
        assert (made.status_code, gone.status_code) == (403, 403)
        assert "distill-router keys" in message(made)


async def test_the_configuration_is_shown_without_secrets(config: dict[str, Any]) -> None:
    config["models"]["teacher"]["api_key_env"] = "TEACHER_KEY"
    async with running_gateway(config, environ={"TEACHER_KEY": "sk-upstream"}) as gw:
        text = (await admin(gw, "GET", "/v1/router/config")).text
        assert json.loads(text)["routes"]["auto"]["teacher"] == "teacher"
        for secret in ("sk-upstream", sha256(APP), sha256(ADMIN)):
            assert secret not in text


async def test_budgets_are_shown_and_what_is_presumed_spent_is_forgiven(config: dict[str, Any]) -> None:
    config["budgets"] = {
        "all": {"window": "month", "limit_usd": 50},
        "apps": {"key": "app", "window": "day", "limit_usd": 5},
    }
    async with running_gateway(config) as gw:
        made = await admin(gw, "POST", KEYS, json={"name": "a", "budgets": [{"window": "24h", "limit_usd": 1}]})
        key = made.json()["key"]
        await gw.http.post("/v1/chat/completions", json=ask("chat"), headers=bearer(key))
        await gw.rows(1)
        shown: dict[tuple[str, str], dict[str, Any]] = {}

        async def spent() -> Any:
            data = (await admin(gw, "GET", "/v1/router/budgets")).json()["data"]
            shown.update({(budget["budget"], budget["member"]): budget for budget in data})
            return shown["key:24h", "a"]["spent_usd"]

        await comes_to(spent, "0.000006400")
        assert set(shown) == {("all", ""), ("apps", "app"), ("key:24h", "a")}
        assert shown["all", ""]["limit_usd"] == "50.000000000"
        forgiven = await admin(gw, "POST", "/v1/router/budgets/key:24h/forgive?member=a")
        assert forgiven.json() == {"budget": "key:24h", "member": "a", "forgiven_usd": "0.000000000"}
        assert (await admin(gw, "POST", "/v1/router/budgets/apps/forgive")).json()["member"] == "app"
        unknown = await admin(gw, "POST", "/v1/router/budgets/apps/forgive?member=nobody")
        assert unknown.status_code == 404 and "no budget 'apps' of 'nobody'" in message(unknown)


async def test_unknown_paths_and_methods_are_openai_errors(config: dict[str, Any]) -> None:
    async with running_gateway(config) as gw:
        for method, path, status in (("PUT", KEYS, 405), ("GET", "/v1/router/nothing", 404)):
            answer = await admin(gw, method, path)
            assert answer.status_code == status
            message(answer)
