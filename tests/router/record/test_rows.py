"""The decision row: one for every request that was understood, small, without text, and it comes back as it was."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.evidence.streams import DECISIONS
from router.record.row import FIELDS, DecisionRow, decode_row, encode_row
from tests.support.gateway import PATHS, RunningGateway, ask, running_gateway, two_models
from tests.support.scripted import CLOSE, HANG, Fault, Raw, Reply, ScriptedUpstream, failing

Json = dict[str, Any]
CASCADE = {"kind": "cascade", "escalate_at": 0.5}
USUAL_BYTES = 300


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.builds(DecisionRow, t=FINITE, p=FINITE, ms=FINITE, au=FINITE, tt=st.none() | FINITE))
def test_a_row_comes_back_as_it_was(row: DecisionRow) -> None:
    assert encode_row(decode_row(encode_row(row))) == encode_row(row)
    assert b"\n" not in encode_row(row)


def test_every_key_of_a_row_is_explained() -> None:
    assert set(FIELDS) == {field.name for field in msgspec.structs.fields(DecisionRow)}


@pytest.mark.parametrize("stream", [False, True])
async def test_the_usual_row_takes_about_300_bytes(
    stream: bool, teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = Reply("an answer", token_logprob=-0.0123)
    config = two_models(teacher.url, student.url, policy=CASCADE, models={"supports": ["logprobs"]})
    config["routes"]["auto"]["audit"] = {"rate": 1.0}
    async with running_gateway(config) as gateway:
        await gateway.ask("chat", stream=stream)
        for row in await gateway.all_rows(2):
            assert len(encode_row(row)) <= USUAL_BYTES


@pytest.mark.parametrize("endpoint", sorted(PATHS))
async def test_a_row_says_what_happened(endpoint: str, teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    config = two_models(teacher.url, student.url) | {"embeddings": {"model": "student"}}
    async with running_gateway(config) as gateway:
        answer = await gateway.ask(endpoint, "student" if endpoint == "embeddings" else "auto")
        row = await gateway.row()
        assert (row.ep, row.o, row.st, row.m) == (endpoint, "ok", 200, "student")
        assert row.id == answer.headers["x-router-decision-id"]
        assert row.ms > 0 and row.c.get("serve", 0) > 0
        if endpoint != "embeddings":
            assert (row.rt, row.a, row.p, row.po, row.r) == ("auto", "s", 0.0, "fixed", "fixed")
            assert row.tok[0] == 20 and row.to > row.c["serve"]


FAILURES: list[tuple[str, Any, str]] = [
    ("the upstream's own 4xx", failing(400, "no", kind="invalid_request_error"), "rejected"),
    ("429", failing(429, "slow down"), "rejected"),
    ("500", failing(500, "broken"), "failed"),
    ("a closed connection", CLOSE, "failed"),
    ("garbage", Raw(b"garbage that is no HTTP\r\n\r\n"), "failed"),
    ("no answer", HANG, "failed"),
]


@pytest.mark.parametrize(
    ("step", "outcome"), [(step, outcome) for _, step, outcome in FAILURES], ids=[f[0] for f in FAILURES]
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_that_fails_has_exactly_one_row(
    stream: bool, step: Any, outcome: str, teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = step
    config = two_models(
        teacher.url,
        student.url,
        route={"fallback": {"student": "error"}},
        models={"timeouts": {"first_token_s": 0.3, "total_s": 0.3}},
    )
    async with running_gateway(config) as gateway:
        answer = await gateway.ask("chat", stream=stream)
        row = await gateway.row()
        assert (row.o, row.st) == (outcome, answer.status_code)
        assert answer.status_code >= 400


async def test_a_stream_that_breaks_has_one_row_that_says_so(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = Reply("one two three four", fault=Fault(3))
    async with running_gateway(two_models(teacher.url, student.url)) as gateway:
        await gateway.ask("chat", stream=True)
        row = await gateway.row()
        assert (row.o, row.st, row.e) == ("interrupted", 200, 1)
        assert row.c["serve"] > 0


async def test_a_request_for_which_there_is_no_place_has_one_row(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.script(HANG)
    config = two_models(teacher.url, student.url, route={"fallback": {"student": "error"}}, models={"max_in_flight": 1})
    async with running_gateway(config) as gateway:
        hanging = asyncio.create_task(gateway.ask("chat"))
        await student.arrived(1)
        assert (await gateway.ask("chat")).status_code == 429
        await student.drop_connections()
        assert (await hanging).status_code == 502
        refused, broken = await gateway.rows(2)
        assert (refused.o, refused.st, broken.o, broken.st) == ("rejected", 429, "failed", 502)


TEXT = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=8, max_size=40)


@pytest.fixture
async def talking(teacher: ScriptedUpstream, student: ScriptedUpstream) -> Any:
    config = two_models(teacher.url, student.url, policy=CASCADE, models={"supports": ["logprobs"]})
    config["routes"]["auto"]["audit"] = {"rate": 1.0}
    async with running_gateway(config) as gateway:
        yield gateway, student


async def test_no_text_of_a_request_or_an_answer_is_in_a_row(talking: tuple[RunningGateway, ScriptedUpstream]) -> None:
    gateway, student = talking
    words = [f"{place}-{word}" for place, word in enumerate(_words())]
    for number, word in enumerate(words):
        student.default = Reply(f"answer {word}", token_logprob=-0.01 if number % 2 else -5.0)
        extra = {"user": word, "metadata": {"key": word}, "stop": [word], "stream": bool(number % 3)}
        await gateway.post(
            PATHS["chat"],
            ask("chat") | {"messages": [{"role": "user", "content": word}]} | extra,
            x_custom="header-text",
        )
    written = b"\n".join(await gateway._records(DECISIONS))
    assert len(await gateway.rows(len(words))) == len(words)
    for word in (*words, "answer", "from the teacher", "header-text"):
        assert word.encode() not in written
        assert json.dumps(word).strip('"').encode() not in written


def _words() -> list[str]:
    found: list[str] = []

    @settings(max_examples=12, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(TEXT)
    def collect(word: str) -> None:
        found.append(word)

    collect()
    return found
