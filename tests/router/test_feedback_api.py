"""`POST /v1/router/feedback`: who may label what, what is refused, and that a label is written."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.api.common import MAX_BODY_BYTES
from router.evidence.labels import MAX_NOTE
from router.evidence.records import TRIAGE_LABELS, LabelRecord
from router.evidence.streams import DECISIONS, LABELS, shard_key, shard_of
from router.record.row import VERSION, DecisionRow, encode_row
from tests.support.gateway import RunningGateway, running_gateway, two_models
from tests.support.keys import ADMIN, APP, bearer, keyed
from tests.support.scripted import ScriptedUpstream

SHARDS = 3
OWN = "018bcfe568000123456789"
NOISE = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists)


@pytest.fixture
def config(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str, store: redis.Redis, tmp_path: Path
) -> dict[str, Any]:
    evidence = {"spool_dir": str(tmp_path / "spool"), "shards": SHARDS}
    return keyed(teacher, student, redis_url, evidence=evidence)


def add_row(store: redis.Redis, decision_id: str, **more: Any) -> None:
    row = DecisionRow(VERSION, decision_id, 1_700_000_000.0, "chat", **{"rt": "auto", "tn": "acme", "k": "app", **more})
    store.xadd(shard_key(shard_of(decision_id, SHARDS), DECISIONS), {"r": encode_row(row)})


def labels(store: redis.Redis) -> list[LabelRecord]:
    """Those on the shard of `OWN`."""
    entries: Any = store.xrange(shard_key(shard_of(OWN, SHARDS), LABELS))
    return [LabelRecord.model_validate_json(fields[b"r"]) for _, fields in entries]


async def say(gw: RunningGateway, body: Any, key: str = APP) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await gw.http.post("/v1/router/feedback", content=content, headers=bearer(key))


def message(answer: httpx.Response) -> str:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return str(error["message"])


@pytest.mark.parametrize("label", TRIAGE_LABELS)
async def test_a_key_labels_its_own_request(
    config: dict[str, Any], store: redis.Redis, redis_url: str, label: str
) -> None:
    async with running_gateway(config, redis_url=redis_url) as gw:
        add_row(store, OWN)
        before = time.time()
        answer = await say(gw, {"id": OWN, "label": label, "note": "schräg"})
        assert (answer.status_code, answer.json()) == (202, {"object": "feedback", "id": OWN, "label": label})
        await gw.gateway.writer.flush()
        (record,) = labels(store)
        assert (record.id, record.label, record.by, record.key, record.note) == (OWN, label, "app", "app", "schräg")
        assert before <= record.time <= time.time()
        store.flushdb()  # that row was never counted


async def test_an_admin_labels_what_is_in_an_archive_only(
    config: dict[str, Any], store: redis.Redis, redis_url: str
) -> None:
    async with running_gateway(config, redis_url=redis_url) as gw:
        assert (await say(gw, {"id": OWN, "label": "ambiguous"}, ADMIN)).status_code == 202
        await gw.gateway.writer.flush()
        assert [(record.by, record.note) for record in labels(store)] == [("admin", "")]


async def test_the_requests_of_others_are_like_ids_that_never_were(config: dict[str, Any], store: redis.Redis) -> None:
    async with running_gateway(config) as gw:
        add_row(store, OWN, k="second")
        others = await say(gw, {"id": OWN, "label": "equivalent"})
        never = OWN[:-1] + "8"
        unknown = await say(gw, {"id": never, "label": "equivalent"})
        assert (others.status_code, unknown.status_code) == (404, 404)
        assert message(others).replace(OWN, never) == message(unknown)
        assert (await gw.http.post("/v1/router/feedback", json={})).status_code == 401


async def test_nothing_is_kept_where_nothing_may_be_kept(config: dict[str, Any], store: redis.Redis) -> None:
    async with running_gateway(config) as gw:
        add_row(store, OWN, ns=1)
        refused = await say(gw, {"id": OWN, "label": "equivalent"})
        assert refused.status_code == 409 and "x-router-no-store" in message(refused)
    async with running_gateway({**config, "tenants": {"acme": {"audit": "off"}}}) as gw:
        refused = await say(gw, {"id": OWN, "label": "equivalent"})
        assert refused.status_code == 409 and "tenants.acme.audit" in message(refused)
    assert not labels(store)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "JSON"),
        (b"[]", "object"),
        (b"\xff", "JSON"),
        (b"[" * 50_000, "JSON"),
        (b"{}", "id: Field required"),
        ({"id": OWN}, "label: Field required"),
        ({"id": OWN, "label": "bad"}, "label: "),
        ({"id": OWN, "label": "ambiguous", "note": "x" * (MAX_NOTE + 1)}, "note: "),
        ({"id": OWN, "label": "ambiguous", "note": 5}, "note: "),
        (b'{"id": "%b", "label": "ambiguous", "note": "\\ud800"}' % OWN.encode(), "JSON"),
        ({"id": OWN, "label": "ambiguous", "rating": 5}, "rating: unknown key; known: "),
        ({"id": OWN + ".shadow", "label": "ambiguous"}, "22 hex digits"),
        ({"id": "x", "label": "ambiguous"}, "22 hex digits"),
        ({"id": 5, "label": "ambiguous"}, "id: "),
    ],
)
async def test_bad_bodies_are_told_what_is_wrong(config: dict[str, Any], body: Any, words: str) -> None:
    async with running_gateway(config) as gw:
        for key in (APP, ADMIN):
            answer = await say(gw, body, key)
            assert answer.status_code == 400
            assert words in message(answer)


async def test_a_large_body_is_refused(config: dict[str, Any]) -> None:
    async with running_gateway(config) as gw:
        answer = await say(gw, b"x" * (MAX_BODY_BYTES + 1))
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noises=st.lists(NOISE, min_size=5, max_size=20), note=st.text(max_size=MAX_NOTE))
async def test_nothing_that_a_body_says_breaks_it(
    config: dict[str, Any], redis_url: str, store: redis.Redis, noises: list[Any], note: str
) -> None:
    async with running_gateway(config, redis_url=redis_url) as gw:
        for noise in noises:
            for body in (noise, {"id": noise, "label": noise}, {"id": OWN, "label": "equivalent", "note": noise}):
                assert (await say(gw, body, ADMIN)).status_code in (202, 400)
        assert (await say(gw, {"id": OWN, "label": "equivalent", "note": note}, ADMIN)).status_code == 202
        await gw.gateway.writer.flush()
        assert labels(store)[-1].note == note


async def test_without_authentication_everybody_labels(
    teacher: ScriptedUpstream, student: ScriptedUpstream, store: redis.Redis, redis_url: str
) -> None:
    async with running_gateway(two_models(teacher.url, student.url, redis=redis_url), redis_url=redis_url) as gw:
        asked = await gw.ask("chat")
        answer = await say(gw, {"id": asked.headers["x-router-decision-id"], "label": "student_wrong"})
        assert answer.status_code == 202
