"""API keys in Redis: a created one works and a revoked one stops in every gateway, and nothing breaks the others."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from typing import Any

import httpx
import pytest
import redis

from router.errors import Conflict, NotFound
from router.key_settings import KeyTerms
from router.keys import follower
from router.keys.issue import issue
from router.keys.store import KeyStore
from router.ledger.names import API_KEYS, API_KEYS_VERSION
from tests.router.evidence.conftest import RedisProcess
from tests.support.gateway import RunningGateway, ask, running_gateway
from tests.support.keys import ADMIN, APP, bearer, comes_to, keyed, sha256, two_gateways
from tests.support.raw_client import RawClient, request_bytes
from tests.support.scripted import Exchange, Reply, ScriptedUpstream

pytestmark = pytest.mark.usefixtures("soon")


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "FOLLOW_EVERY_S", 0.01)


async def status(gw: RunningGateway, key: str, **more: Any) -> int:
    answer = await gw.http.post("/v1/chat/completions", json=ask("chat", **more), headers=bearer(key))
    return answer.status_code


async def until(gw: RunningGateway, key: str, wanted: int) -> None:
    """Ask with a key until the answer has this status."""
    await comes_to(lambda: status(gw, key), wanted)


async def create(gw: RunningGateway, name: str = "new", **terms: Any) -> str:
    answer = await gw.http.post("/v1/router/keys", json={"name": name, **terms}, headers=bearer(ADMIN))
    assert answer.status_code == 201, answer.text
    key: str = answer.json()["key"]
    return key


async def revoke(gw: RunningGateway, name: str) -> httpx.Response:
    return await gw.http.delete(f"/v1/router/keys/{name}", headers=bearer(ADMIN))


def write(url: str, records: dict[str, bytes]) -> None:
    """As somebody else might have written them."""
    with redis.Redis.from_url(url) as client:
        client.hset(API_KEYS, mapping=records)
        client.incr(API_KEYS_VERSION)


async def test_a_created_key_works_and_a_revoked_one_stops_in_every_gateway(
    config: dict[str, Any], student: ScriptedUpstream
) -> None:
    async with two_gateways(config, student) as gateways:
        key = await create(gateways[0], tenant="blue")
        assert key.startswith("sk-dr-") and len(key) > 40
        for gw in gateways:
            await until(gw, key, 200)
        assert (await revoke(gateways[1], "new")).status_code == 200
        for gw in gateways:
            await until(gw, key, 401)
        assert {row.tn for gw in gateways for row in await gw.rows(1)} == {"blue"}
        assert await status(gateways[0], APP) == 200


async def test_a_running_answer_outlives_the_revocation_of_its_key(
    config: dict[str, Any], student: ScriptedUpstream
) -> None:
    go_on = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await go_on.wait()
        await Reply("done at last")(exchange)

    student.script(slow)
    async with running_gateway(config) as gw:
        key = await create(gw)
        running = asyncio.create_task(status(gw, key))
        await student.arrived(1)
        await revoke(gw, "new")
        await until(gw, key, 401)
        go_on.set()
        assert await running == 200


async def test_a_stream_outlives_the_revocation_of_its_key(config: dict[str, Any], student: ScriptedUpstream) -> None:
    student.script(Reply("one two three four", gap_s=0.02))
    async with running_gateway(config) as gw:
        key = await create(gw)
        async with RawClient(gw.port) as client:
            data = request_bytes(
                "/v1/chat/completions", ask("chat", stream=True), head=f"authorization: Bearer {key}\r\n"
            )
            await client.send(data)
            await client.read_until(b"one")
            await revoke(gw, "new")
            assert b"four" in await client.read_until(b"[DONE]")


async def test_what_a_key_may_do_is_what_it_was_created_with(config: dict[str, Any]) -> None:
    async with running_gateway(config) as gw:
        key = await create(gw, routes=["auto"])
        assert await status(gw, key) == 200
        assert await status(gw, key, model="teacher") == 404
        strong = await create(gw, "strong", permissions=["force_model"])
        assert await status(gw, strong, model="teacher") == 200


async def test_routes_that_this_configuration_does_not_know_are_told_once_and_harmless(
    config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with running_gateway(config) as gw:
        key = await create(gw, routes=["auto", "elsewhere"])
        await create(gw, "other")
        await create(gw, "another")
        assert await status(gw, key) == 200
    assert sum("elsewhere" in record.message for record in caplog.records) == 1


async def test_an_expired_key_is_told_so(config: dict[str, Any], ledger_url: str) -> None:
    old = "sk-old"
    record = {"name": "old", "created": "2026-01-01T00:00:00Z", "expires": "2026-02-01T00:00:00Z"}
    write(ledger_url, {sha256(old): json.dumps(record).encode()})
    config["keys"].append({"name": "older", "sha256": sha256("sk-older"), "expires": "2026-02-01"})
    async with running_gateway(config) as gw:
        for key in (old, "sk-older"):
            answer = await gw.http.post("/v1/chat/completions", json=ask("chat"), headers=bearer(key))
            assert answer.status_code == 401
            assert "has expired" in answer.json()["error"]["message"]


async def test_unusable_records_are_skipped_logged_and_counted_and_take_nobody_down(
    config: dict[str, Any], ledger_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = {"name": "good", "created": "2026-01-01T00:00:00Z"}
    bad = [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"[" * 100_000,
        b'{"name": "no date"}',
        json.dumps({**good, "name": "new\nline"}).encode(),
        json.dumps({**good, "permissions": ["root"]}).encode(),
        json.dumps({**good, "requests_per_minute": -1}).encode(),
        json.dumps({**good, "budgets": [{"window": "fortnight", "limit_usd": 1}]}).encode(),
        json.dumps({**good, "only_from": "10.0.0.0/8"}).encode(),
    ]
    records = {secrets.token_hex(32): data for data in bad}
    write(ledger_url, {**records, "not-a-hash": b"{}", sha256("sk-good"): json.dumps(good).encode()})
    async with running_gateway(config) as gw:
        assert await status(gw, "sk-good") == 200
        assert await status(gw, APP) == 200
        assert gw.metric("key_records_skipped_total") == len(bad) + 1
        listed = (await gw.http.get("/v1/router/keys", headers=bearer(ADMIN))).json()["data"]
        assert sum(key.get("unreadable", False) for key in listed) == len(bad) + 1
    log = "\n".join(record.message for record in caplog.records)
    assert log.count("is skipped") == len(bad) + 1
    assert not any(digest in log for digest in records)


async def test_a_key_whose_name_the_file_has_is_ignored(
    config: dict[str, Any], ledger_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    record = {"name": "app", "created": "2026-01-01T00:00:00Z", "permissions": ["admin"]}
    write(ledger_url, {sha256("sk-twin"): json.dumps(record).encode()})
    async with running_gateway(config) as gw:
        assert await status(gw, "sk-twin") == 401
        assert await status(gw, APP) == 200
    assert "'app' in Redis is ignored" in caplog.text


async def test_keys_survive_a_reload_of_the_file(config: dict[str, Any], tmp_path: Any) -> None:
    path = tmp_path / "router.yaml"
    path.write_text(json.dumps(config))
    async with running_gateway(config, config_path=path) as gw:
        key = await create(gw)
        assert await gw.gateway.reload()
        assert await status(gw, key) == 200


async def test_only_keys_in_redis_are_enough(config: dict[str, Any], ledger_url: str) -> None:
    with redis.Redis.from_url(ledger_url) as client:
        key = "sk-only"
        client.hset(API_KEYS, sha256(key), json.dumps({"name": "only", "created": "2026-01-01T00:00:00Z"}))
    async with running_gateway({**config, "keys": []}) as gw:
        assert await status(gw, key) == 200
        assert await status(gw, APP) == 401


async def test_while_redis_is_away_the_last_known_keys_stay_and_unknown_ones_are_refused(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_process: RedisProcess
) -> None:
    redis_process.start("--save", "")
    async with running_gateway(keyed(teacher, student, redis_process.url)) as gw:
        key = await create(gw)
        redis_process.stop()
        for _ in range(3):
            assert await status(gw, key) == 200
        assert await status(gw, "sk-unknown") == 401
        answer = await gw.http.get("/v1/router/keys", headers=bearer(ADMIN))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "service_unavailable")
        redis_process.start("--save", "")  # it has forgotten everything
        await until(gw, key, 401)
        assert await status(gw, APP) == 200


async def test_before_redis_was_ever_read_an_unknown_key_is_told_to_try_again(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_process: RedisProcess
) -> None:
    async with running_gateway(keyed(teacher, student, redis_process.url)) as gw:
        answer = await gw.http.post("/v1/chat/completions", json=ask("chat"), headers=bearer("sk-unknown"))
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
        assert await status(gw, APP) == 200
        redis_process.start()
        await until(gw, "sk-unknown", 401)
        await gw.rows(1)


async def test_an_unknown_key_costs_redis_nothing(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "FOLLOW_EVERY_S", 3600)
    async with running_gateway(config) as gw:
        assert gw.gateway.key_store
        asked = []
        monkeypatch.setattr(gw.gateway.key_store, "changed", lambda *_: asked.append(1))
        for _ in range(20):
            assert await status(gw, secrets.token_urlsafe()) == 401
        assert not asked


async def test_of_many_who_create_the_same_name_at_once_one_gets_it(
    config: dict[str, Any], student: ScriptedUpstream, ledger_url: str
) -> None:
    async with two_gateways(config, student) as gateways:
        made = await asyncio.gather(
            *(
                gw.http.post("/v1/router/keys", json={"name": name}, headers=bearer(ADMIN))
                for name in ("a", "b", "c")
                for gw in gateways * 3
            )
        )
        assert sorted(answer.status_code for answer in made) == [201] * 3 + [409] * 15
    with redis.Redis.from_url(ledger_url) as client:
        assert client.hlen(API_KEYS) == 3
        assert client.get(API_KEYS_VERSION) == b"3"


async def test_what_changes_in_between_is_noticed(config: dict[str, Any], ledger_url: str) -> None:
    """A change is made on the state it was decided on, or decided again."""
    async with running_gateway(config) as gw:
        store = gw.gateway.key_store
        assert store
        evaluate = store._evaluate
        rivals = iter(["new"])

        async def slow(script: str, *arguments: Any) -> Any:
            if "HSET" in script and (rival := next(rivals, None)):
                await issue(KeyStore(evaluate), gw.gateway.runtime.config, KeyTerms(name=rival))
            return await evaluate(script, *arguments)

        with pytest.raises(Conflict):
            await issue(KeyStore(slow), gw.gateway.runtime.config, KeyTerms(name="new"))
        await store.revoke("new", ())
        with pytest.raises(NotFound):
            await store.revoke("new", ())


async def test_no_secret_and_no_whole_hash_is_logged_listed_or_stored(
    config: dict[str, Any], ledger_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running_gateway(config) as gw:
        key = await create(gw, expires="2036-01-01", budgets=[{"window": "day", "limit_usd": 5}])
        await status(gw, key)
        await status(gw, f"{key}x")
        shown = [
            (await gw.http.get(path, headers=bearer(ADMIN))).text
            for path in ("/v1/router/keys", "/v1/router/config", "/v1/usage", "/metrics", "/v1/models")
        ]
        rows = repr(await gw.rows(1))
        await revoke(gw, "new")
    with redis.Redis.from_url(ledger_url) as client:
        kept = b"".join(client.hgetall(API_KEYS).values()).decode()
    everything = "\n".join([*shown, rows, kept, caplog.text])
    for secret in (key, ADMIN, APP, sha256(key), sha256(APP), sha256(ADMIN)):
        assert secret not in everything
