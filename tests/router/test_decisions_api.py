"""`GET /v1/router/decisions/{id}`: what it says of a request, who may look, and how far a search goes."""

from __future__ import annotations

import asyncio
import shutil
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.cascade import CascadeConfig
from router.api.decisions import AT_ONCE_OF_A_KEY, Searches, _searches
from router.evidence import find
from router.evidence.batches import Record
from router.evidence.erasure import FOLDER, Subject, Tombstones, tombstone_name, write_tombstones
from router.evidence.records import ArmAnswer, LabelRecord, PairRecord
from router.evidence.redis import connect
from router.evidence.streams import AGREEMENTS, DECISIONS, DISAGREEMENTS, LABELS, shard_key, shard_of
from router.record.row import VERSION, DecisionRow, RowCharge, encode_row
from router.settings import Config, Secrets, Settings
from tests.router.evidence.conftest import RedisProcess, redis_process
from tests.support.gateway import RunningGateway, ask, eventually, running_gateway, two_models
from tests.support.keys import ADMIN, APP, bearer, comes_to, keyed
from tests.support.pairs import pair, spool_pairs, spool_records
from tests.support.scripted import ScriptedUpstream

__all__ = ["redis_process"]

SHARDS = 3
CASCADE = {"kind": "cascade", "escalate_at": 0.25}


@pytest.fixture
def config(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str, store: redis.Redis, tmp_path: Path
) -> dict[str, Any]:
    evidence = {"spool_dir": str(tmp_path / "spool"), "shards": SHARDS}
    return keyed(teacher, student, redis_url, evidence=evidence, policy=CASCADE)


def id_at(age_s: float, tail: str = "0123456789") -> str:
    """The id of a request that came so long ago."""
    return f"{time.time_ns() // 1_000_000 - round(age_s * 1000):012x}{tail}"


def add(store: redis.Redis, stream: str, record_id: str, data: bytes | str) -> None:
    """As the writer does."""
    store.xadd(shard_key(shard_of(record_id, SHARDS), stream), {"r": data})


def decided(decision_id: str, **more: Any) -> DecisionRow:
    """A row of the key `app`."""
    return DecisionRow(VERSION, decision_id, 1_700_000_000.0, "chat", rt="auto", tn="acme", k="app", **more)


def add_row(store: redis.Redis, row: DecisionRow) -> str:
    add(store, DECISIONS, row.id, encode_row(row))
    return row.id


def add_label(store: redis.Redis, label: LabelRecord) -> None:
    add(store, LABELS, label.id, label.model_dump_json())


def compared(decision_id: str) -> PairRecord:
    """A disagreement."""
    return pair(1, harm=True).model_copy(update={"id": decision_id})


async def look(gw: RunningGateway, decision_id: str, key: str = APP, **query: Any) -> httpx.Response:
    return await gw.http.get(f"/v1/router/decisions/{decision_id}", headers=bearer(key), params=query)


def message(answer: httpx.Response) -> str:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return str(error["message"])


async def test_the_fields_of_the_row_are_spelled_out(config: dict[str, Any], store: redis.Redis) -> None:
    charges = [RowCharge("escalation", "student", 6_400, 20, 5, 3, 1, 1), RowCharge("serve", "teacher", 44_000, 10)]
    row = decided(
        id_at(5), po="cascade", pv=CascadeConfig.model_validate(CASCADE).version(), f=(120, ["json_schema", "tools"]),
        s=(-0.7, 0.5), g=["no_logprobs"], p=1.0, a="t", m="teacher", r="escalated", ch=charges, to=44_000, ms=812.5,
        tt=90.25, sv="abc", n=2, th=0.25,
    )  # fmt: skip
    async with running_gateway(config) as gw:
        add_row(store, row)
        shown = (await look(gw, row.id)).json()
    assert shown["decision"] == {
        "policy": "cascade",
        "policy_version": row.pv,
        "threshold": 0.25,
        "features": {"prompt_bytes": 120, "needs": ["json_schema", "tools"]},
        "scores": {"expected_loss": None, "novelty": None, "mean_logprob": -0.7, "p_wrong": 0.5},
        "switch_cost_usd": "0.000000000",
        "guards": ["no_logprobs"],
        "teacher_probability": 1.0,
        "reason": "escalated",
        "explanation": "The student's answer did not pass the gate, so the teacher was asked.",
        "forced": False,
    }
    assert shown["answer"] == {
        "arm": "teacher",
        "model": "teacher",
        "outcome": "ok",
        "status": 200,
        "latency_ms": 812.5,
        "first_byte_ms": 90.25,
        "fell_back": False,
        "failed_tries": 2,
    }
    assert shown["cost"]["total_usd"] == "0.000050400"
    assert shown["cost"]["by_origin_usd"] == {"escalation": "0.000006400", "serve": "0.000044000"}
    assert shown["cost"]["teacher_only_usd"] == "0.000044000"
    assert shown["cost"]["charges"][0] == {
        "origin": "escalation",
        "model": "student",
        "cost_usd": "0.000006400",
        "input_tokens": 20,
        "cached_tokens": 5,
        "output_tokens": 3,
        "reasoning_tokens": 1,
        "estimated": True,
    }
    assert shown["comparison"] == {
        "drawn": False,
        "inclusion_probability": None,
        "excluded": False,
        "no_store": False,
        "student_version": "abc",
    }
    assert (shown["id"], shown["route"], shown["tenant"], shown["key"]) == (row.id, "auto", "acme", "app")
    assert (shown["pair"], shown["labels"], shown["background"], shown["complete"]) == (None, [], [], True)


async def test_the_threshold_is_the_one_that_decided_whatever_is_configured_now(
    config: dict[str, Any], store: redis.Redis
) -> None:
    row = decided(id_at(1), po="difficulty", pv="1234+5678", th=0.125, q=(0.3, 0.5), sw=250, r="difficulty:floor")
    async with running_gateway(config) as gw:
        add_row(store, row)
        decision = (await look(gw, row.id)).json()["decision"]
    assert decision["threshold"] == 0.125 and decision["switch_cost_usd"] == "0.000000250"
    assert (decision["scores"]["expected_loss"], decision["scores"]["novelty"]) == (0.3, 0.5)
    assert decision["explanation"] == "By the expected loss of the request: the certified floor decided."


async def test_a_compared_request_shows_its_pair_labels_and_background_calls(
    config: dict[str, Any], store: redis.Redis
) -> None:
    row = decided(id_at(60), au=0.125, ch=[RowCharge("serve", "student", 10)])
    shadow = decided(f"{row.id}.shadow", o="shadow", r="shadow", m="teacher", ch=[RowCharge("shadow", "teacher", 90)])
    async with running_gateway(config) as gw:
        for other in range(3):
            add_row(store, decided(id_at(60, f"{other:010x}")))
            add(store, DISAGREEMENTS, row.id, compared(id_at(60, f"{other:010x}")).model_dump_json())
        add_row(store, row)
        add_row(store, shadow)
        add(store, DISAGREEMENTS, row.id, compared(row.id).model_dump_json())
        for number, label in enumerate(("ambiguous", "equivalent")):
            add_label(store, LabelRecord(id=row.id, time=number, label=label, by="eve", note="hm", key="eve"))  # type: ignore[arg-type]
        shown = (await look(gw, row.id)).json()
        to_admin = (await look(gw, row.id, ADMIN)).json()["labels"]
        with_texts = (await look(gw, row.id, ADMIN, texts="true")).json()["labels"]
    assert shown["comparison"]["inclusion_probability"] == 0.125
    assert shown["cost"]["by_origin_usd"] == {"serve": "0.000000010", "shadow": "0.000000090"}
    assert [call["id"] for call in shown["background"]] == [shadow.id]
    assert shown["pair"]["triage"] == {"label": "student_wrong", "basis": "second_draw"}
    assert (shown["pair"]["verdict"]["harm"], shown["pair"]["verdict"]["kind"]) == (True, "text")
    labels = [{"label": "ambiguous", "time": 0.0}, {"label": "equivalent", "time": 1.0}]
    assert shown["labels"] == to_admin == labels, "who said it, and with what note, is not for the client"
    assert with_texts == [label | {"by": "eve", "key": "eve", "note": "hm"} for label in labels]


@pytest.mark.parametrize("with_redis", [True, False])
async def test_what_an_erased_key_said_is_not_shown(
    config: dict[str, Any], store: redis.Redis, tmp_path: Path, with_redis: bool
) -> None:
    row, names = decided(id_at(60)), ("gone", "kept")
    labels = [LabelRecord(id=row.id, time=5.0, label="ambiguous", by=name, key=name) for name in names]
    erased = Subject("key", "gone").digest
    async with running_gateway(config if with_redis else {**config, "redis": None}) as gw:
        if with_redis:
            add_row(store, row)
            for label in labels:
                add_label(store, label)
            write_tombstones(store, Tombstones({erased: 5.0}))
        else:
            records = [Record(LABELS, row.id, label.model_dump_json().encode()) for label in labels]
            spool_records(tmp_path / "spool", [Record(DECISIONS, row.id, encode_row(row)), *records])
            (tmp_path / "spool" / FOLDER).mkdir()
            (tmp_path / "spool" / FOLDER / tombstone_name(erased, 5.0)).touch()
        try:
            shown = (await look(gw, row.id, ADMIN, texts="true")).json()
        finally:
            shutil.rmtree(tmp_path / "spool")  # these rows were never counted
    assert [label["by"] for label in shown["labels"]] == ["kept"]


async def test_an_agreement_is_a_pair_too(config: dict[str, Any], store: redis.Redis) -> None:
    row = decided(id_at(60), au=1.0)
    async with running_gateway(config) as gw:
        add_row(store, row)
        agreed = pair(1).model_copy(update={"id": row.id})
        add(store, AGREEMENTS, row.id, agreed.model_dump_json())
        shown = (await look(gw, row.id)).json()["pair"]
    assert (shown["verdict"]["same"], shown["triage"]) == (True, None)


async def test_texts_are_for_admins_who_ask(config: dict[str, Any], store: redis.Redis) -> None:
    row, said = decided(id_at(60), au=1.0), "what somebody said"
    calls = [{"name": said, "arguments": said}]
    answer = ArmAnswer(model="m", text=said, refusal=said, error=said, tool_calls=calls)
    verdict = compared(row.id).verdict.model_copy(update={"diff": said})
    record = compared(row.id).model_copy(
        update={"request": {"messages": said}, "users": [said]}
        | dict.fromkeys(("teacher", "student", "second"), answer)
        | dict.fromkeys(("verdict", "second_verdict", "second_student"), verdict)
    )
    async with running_gateway(config) as gw:
        add_row(store, row)
        add(store, DISAGREEMENTS, row.id, record.model_dump_json())
        for key in (APP, ADMIN):
            shown = await look(gw, row.id, key)
            assert shown.json()["pair"]["teacher"]["failed"] and said not in shown.text
        pair = (await look(gw, row.id, ADMIN, texts="true")).json()["pair"]
        assert pair["request"] == {"messages": said}
        for arm in ("teacher", "student", "second"):
            assert [pair[arm][name] for name in ("text", "refusal", "error", "tool_calls")] == [said] * 3 + [calls]
        for name in ("verdict", "second_verdict", "second_student"):
            assert pair[name]["diff"] == said
        refused = await look(gw, row.id, APP, texts="true")
        assert refused.status_code == 403 and "needs the permission 'admin'" in message(refused)


async def test_the_requests_of_others_are_like_ids_that_never_were(config: dict[str, Any], store: redis.Redis) -> None:
    async with running_gateway(config) as gw:
        others = [decided(id_at(9, f"{n:010x}")) for n in range(2)]
        others[0].k, others[1].tn = "second", "blue"
        answers = [await look(gw, add_row(store, row)) for row in others]
        never = await look(gw, id_at(9, "f" * 10))
        assert [answer.status_code for answer in (*answers, never)] == [404] * 3
        said = [
            message(answer).replace(row.id, never.url.path[-22:]) for answer, row in zip(answers, others, strict=True)
        ]
        assert said == [message(never)] * 2
        assert "may be of another API key, older" in said[0]
        for row in others:
            assert (await look(gw, row.id, ADMIN)).status_code == 200
        assert (await gw.http.get(f"/v1/router/decisions/{others[0].id}")).status_code == 401


@pytest.mark.parametrize("wrong", ["x", "0" * 21, "0" * 23, "G" * 22, "0" * 22 + ".shadow", "*", "%00", "é", "A" * 22])
async def test_an_id_that_cannot_be_one_is_refused(config: dict[str, Any], wrong: str) -> None:
    async with running_gateway(config) as gw:
        answer = await look(gw, wrong)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "id")
        assert "22 hex digits" in message(answer)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(st.binary(max_size=200) | st.just(b'{"id":"ID"}') | st.just(b'{"id":"ID'), max_size=20))
async def test_nothing_that_lies_in_a_stream_breaks_it(
    config: dict[str, Any], store: redis.Redis, records: list[bytes]
) -> None:
    row = decided(id_at(9), au=1.0)
    async with running_gateway(config) as gw:
        for record in records:
            for stream in (DECISIONS, DISAGREEMENTS, LABELS):
                add(store, stream, row.id, record.replace(b"ID", row.id.encode()))
        assert (await look(gw, row.id)).status_code == 404
        add_row(store, row)
        shown = (await look(gw, row.id)).json()
        assert (shown["id"], shown["pair"], shown["labels"]) == (row.id, None, [])


@pytest.mark.parametrize("age_s", [0.5, 100, 299, 2_000, 100_000])
@pytest.mark.parametrize("late_s", [-250, 0, 500, 1_500])
async def test_it_is_found_whenever_it_was_written(
    config: dict[str, Any], store: redis.Redis, age_s: float, late_s: float
) -> None:
    """A clock that is behind, a long request, a record that waited in the spool; among others, over several pages."""
    row = decided(id_at(age_s + max(0, late_s)))
    written = age_s + max(0, late_s) - late_s
    key = shard_key(shard_of(row.id, SHARDS), DECISIONS)
    now = time.time_ns() // 1_000_000
    with store.pipeline() as pipe:
        for number in range(2 * find.PAGE[DECISIONS]):
            other = encode_row(decided(id_at(written, f"{number:010x}")))
            pipe.xadd(key, {"r": other}, f"{now - round((written + 1) * 1000)}-{number + 1}")
        pipe.xadd(key, {"r": encode_row(row)}, f"{now - round(written * 1000)}-5")
        pipe.execute()
    async with running_gateway(config) as gw:
        assert (await look(gw, row.id)).json()["id"] == row.id


async def test_a_search_is_bounded(config: dict[str, Any], store: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "MAX_ENTRIES", 3 * find.PAGE[DECISIONS])
    row = decided(id_at(0))
    async with running_gateway(config) as gw:
        for number in range(4 * find.PAGE[DECISIONS]):
            add(store, DECISIONS, row.id, encode_row(decided(id_at(0, f"{number:010x}"))))
        add_row(store, row)
        assert (await look(gw, row.id)).status_code == 404


async def test_a_search_that_was_cut_says_so(
    config: dict[str, Any], store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "MAX_ENTRIES", 1)
    async with running_gateway(config) as gw:
        shown = (await look(gw, add_row(store, decided(id_at(0), au=1.0)))).json()
        assert (shown["complete"], shown["pair"]) == (False, None)


async def test_searches_wait_for_a_place_and_a_key_has_only_so_many(config: dict[str, Any], store: redis.Redis) -> None:
    async with running_gateway(config) as gw:
        decision_id = add_row(store, decided(id_at(1)))
        store.client_pause(60_000, all=False)  # scripts wait
        looks = [asyncio.create_task(look(gw, decision_id)) for _ in range(AT_ONCE_OF_A_KEY)]
        await eventually(lambda: waiting(gw) == AT_ONCE_OF_A_KEY, "searches")
        refused, other = await look(gw, decision_id), asyncio.create_task(look(gw, decision_id, ADMIN))
        await eventually(lambda: waiting(gw, "admin") == 1, "a search of another key")
        store.client_unpause()
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert {(await each).status_code for each in (*looks, other)} == {200}
        assert (waiting(gw), waiting(gw, "admin")) == (0, 0)


async def test_a_worker_searches_for_one_caller_at_a_time() -> None:
    searches, entered = Searches(), asyncio.Event()

    async def search() -> None:
        async with searches.place("other"):
            entered.set()

    async with searches.place("app"):
        second = asyncio.create_task(search())
        await asyncio.sleep(0)
        assert searches.of_key == {"app": 1, "other": 1} and not entered.is_set()
    await second
    assert entered.is_set() and not searches.of_key


async def test_redis_rests_after_each_short_page(store: redis.Redis, redis_url: str) -> None:
    """As long as the page took: the ledger may be on the same one."""
    asked: list[int] = []
    rested: list[float] = []

    class Watched(find.Search):
        async def _page(self, key: str, low: str, high: str, size: int) -> tuple[int, bytes, list[bytes]]:
            asked.append(size)
            return await super()._page(key, low, high, size)

        async def _rest(self, took_s: float) -> None:
            rested.append(took_s)

    row = decided(id_at(0))
    for number in range(250):
        add(store, DECISIONS, row.id, encode_row(decided(id_at(0, f"{number:010x}"))))
    add_row(store, row)
    configured = Settings(config=Config.model_validate(two_models("http://t", "http://s")), secrets=Secrets())
    async with connect(redis_url, configured) as client:
        assert await Watched(client, SHARDS, row.id).row(lambda row: True) is not None
        assert await Watched(client, SHARDS, id_at(0, "f" * 10)).pair() is None
    assert max(asked) <= 100 and len(rested) >= len(asked) - 1 and all(took > 0 for took in rested)


def waiting(gw: RunningGateway, key: str = "app") -> int:
    searches = _searches.get(gw.gateway)
    return searches.of_key[key] if searches else 0


async def test_redis_that_is_away_is_said_at_once(
    config: dict[str, Any], redis_process: RedisProcess, tmp_path: Path
) -> None:
    config["redis"]["evidence_url"] = redis_process.url
    async with running_gateway(config) as gw:
        answer = await look(gw, id_at(1))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "Redis does not answer" in message(answer)
    config["redis"] |= {"url": "embedded", "data_dir": str(tmp_path / "nothing")}
    del config["redis"]["evidence_url"]
    async with running_gateway(config) as gw:
        answer = await look(gw, id_at(1))
        assert answer.status_code == 503 and "no bundled Redis runs in" in message(answer)


async def test_without_redis_the_spool_is_searched(config: dict[str, Any], tmp_path: Path) -> None:
    row = decided(id_at(60), au=1.0)
    async with running_gateway({**config, "redis": None}) as gw:
        shadow = decided(f"{row.id}.shadow", o="shadow")
        spool_pairs(
            tmp_path / "spool", [compared(row.id), compared(id_at(1))], [row, shadow, decided(id_at(60, "f" * 10))]
        )
        try:
            shown = (await look(gw, row.id)).json()
            assert shown["pair"]["triage"]["label"] == "student_wrong"
            assert [call["id"] for call in shown["background"]] == [shadow.id]
            assert (await look(gw, id_at(60, "e" * 10))).status_code == 404
        finally:
            shutil.rmtree(tmp_path / "spool")  # these rows were never counted


async def test_a_request_is_explained_from_its_header_on(config: dict[str, Any], redis_url: str) -> None:
    config["routes"]["auto"] |= {"policy": {"kind": "fixed", "model": "student"}, "audit": {"rate": 1.0}}
    config["evidence"]["shards"] = 1
    async with running_gateway(config, redis_url=redis_url) as gw:
        answer = await gw.http.post("/v1/chat/completions", json=ask("chat"), headers=bearer(APP))
        decision_id = answer.headers["x-router-decision-id"]
        await gw.idle()

        async def outcome() -> Any:
            shown = (await look(gw, decision_id)).json()
            pair = shown.get("pair")
            return pair and (shown["answer"]["model"], pair["verdict"]["same"], len(shown["background"]))

        await comes_to(outcome, ("student", False, 1))
        shown = (await look(gw, decision_id)).json()
        assert shown["cost"]["total_usd"] == shown_total(shown)
        assert shown["decision"]["threshold"] is None
        assert (await look(gw, decision_id, ADMIN)).json() == shown


def shown_total(shown: dict[str, Any]) -> str:
    return f"{sum(Decimal(charge['cost_usd']) for charge in shown['cost']['charges']):.9f}"
