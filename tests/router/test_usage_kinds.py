"""What an upstream reports of a usage is read, priced by kind, and counted: text, cached, image, audio, reasoning."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.ledger.pricing import DatedPrices, Usage
from router.price_settings import Price
from router.wire.usage import read_usage
from tests.support.gateway import ask, running_gateway, two_models
from tests.support.scripted import Held, Reply, ScriptedUpstream

untimed = settings(deadline=None)  # a busy machine is no failure

CHAT = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 40, "audio_tokens": 20, "image_tokens": 10},
    "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 15, "accepted_prediction_tokens": 2},
}
RESPONSES = {
    "input_tokens": 100,
    "output_tokens": 50,
    "total_tokens": 150,
    "input_tokens_details": CHAT["prompt_tokens_details"],
    "output_tokens_details": CHAT["completion_tokens_details"],
}
WHOLE = Usage(
    100, 50, cached_tokens=40, reasoning_tokens=30, image_tokens=10, audio_input_tokens=20, audio_output_tokens=15
)
BY_KIND = {
    "input": 2.0,
    "cached_input": 0.2,
    "image_input": 3.0,
    "audio_input": 40.0,
    "output": 8.0,
    "reasoning": 9.0,
    "audio_output": 80.0,
}
COST = 30 * 2_000 + 40 * 200 + 10 * 3_000 + 20 * 40_000 + 5 * 8_000 + 30 * 9_000 + 15 * 80_000  # nano-USD


def read(usage: Any) -> Usage | None:
    return read_usage(json.dumps(usage).encode())


@pytest.mark.parametrize("usage", [CHAT, RESPONSES])
def test_both_spellings_report_every_kind(usage: dict[str, Any]) -> None:
    assert read(usage) == WHOLE


def test_what_is_not_reported_is_zero() -> None:
    assert read({"prompt_tokens": 3, "completion_tokens": 2}) == Usage(3, 2)
    assert read({"prompt_tokens": 3, "total_tokens": 3}) == Usage(3, 0)
    nothing: dict[str, Any] = {"prompt_tokens_details": None, "completion_tokens_details": {"audio_tokens": None}}
    assert read({"prompt_tokens": 3, "completion_tokens": 2, **nothing}) == Usage(3, 2)


def test_reasoning_that_stands_beside_the_completion_is_output_too() -> None:
    """As xAI reports it (the figures of a grok-3-mini answer), and Gemini without details."""
    details = {"completion_tokens_details": {"reasoning_tokens": 386}}
    beside = {"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 399, **details}
    assert read(beside) == Usage(12, 387, reasoning_tokens=386)
    assert read({"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623}) == Usage(20, 603)
    assert read({"input_tokens": 20, "output_tokens": 198, "total_tokens": 623}) == Usage(20, 603)
    assert read({"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 7}) == Usage(20, 198)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        [],
        7,
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": -1, "completion_tokens": 5},
        {"prompt_tokens": 5, "completion_tokens": 5, "prompt_tokens_details": {"audio_tokens": -1}},
        {"prompt_tokens": 5, "completion_tokens": 5, "prompt_tokens_details": {"image_tokens": 1.5}},
        {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10**12},
        {"prompt_tokens": 5, "completion_tokens": "5"},
    ],
)
def test_a_usage_that_makes_no_sense_is_none(usage: Any) -> None:
    assert read(usage) is None


NUMBERS = st.none() | st.integers(-5, 2_000_000_000) | st.floats() | st.text(max_size=3)
DETAILS = st.none() | st.dictionaries(
    st.sampled_from(["cached_tokens", "audio_tokens", "image_tokens", "reasoning_tokens"]), NUMBERS
)


@untimed
@given(
    st.dictionaries(
        st.sampled_from(["prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens"]),
        NUMBERS,
    ),
    st.dictionaries(
        st.sampled_from(
            ["prompt_tokens_details", "completion_tokens_details", "input_tokens_details", "output_tokens_details"]
        ),
        DETAILS,
    ),
)
def test_no_usage_is_negative_whatever_an_upstream_reports(counts: dict[str, Any], details: dict[str, Any]) -> None:
    usage = read(counts | details)
    if usage is not None:
        values = [getattr(usage, name) for name in usage.__struct_fields__]
        assert all(value >= 0 for value in values) and max(values[:2]) > 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("endpoint", ["chat", "completions"])
async def test_every_kind_is_priced_and_counted(
    teacher: ScriptedUpstream, student: ScriptedUpstream, endpoint: str, stream: bool
) -> None:
    student.default = Reply("x", usage=None, extra={"usage": CHAT})
    config = two_models(teacher.url, student.url)
    config["models"]["student"]["price"] = BY_KIND
    async with running_gateway(config) as gw:
        await gw.ask(endpoint, stream=stream)
        (charge,) = (await gw.row()).ch
        assert (charge.nano, charge.estimated) == (COST, 0)
        kinds = {"input": 100, "cached_input": 40, "image_input": 10, "audio_input": 20}
        kinds |= {"output": 50, "reasoning": 30, "audio_output": 15}
        assert {kind: gw.metric("tokens_total", kind=kind) for kind in kinds} == kinds
        assert gw.metric("usage_missing_total") == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_keeps_the_prices_that_it_began_with(
    teacher: ScriptedUpstream, student: ScriptedUpstream, stream: bool
) -> None:
    """A list of prices whose second entry begins while the first call waits for its answer."""
    held = Held(student.default)
    async with running_gateway(two_models(teacher.url, student.url)) as gw:
        now = [0.0]
        model = gw.gateway.runtime.models["student"]
        later = Price.model_validate({"from": "2026-12-01", "input": 100, "output": 0})
        model.price_history = DatedPrices((Price(input=1, output=0), later), clock=lambda: now[0])
        student.script(held)
        first = asyncio.create_task(gw.http.post("/v1/chat/completions", json=ask("chat", stream=stream)))
        await student.arrived(1)
        now[0] = later.starts
        held.go.set()
        assert (await first).status_code == 200
        await gw.ask("chat", stream=stream)
        assert [row.ch[0].nano for row in await gw.rows(2)] == [20 * 1_000, 20 * 100_000]


async def test_a_pair_record_has_the_prices_of_its_time(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    config = two_models(teacher.url, student.url, route={"audit": {"rate": 1.0}})
    config["models"]["teacher"]["price"] = [{"input": 9, "output": 9}, {"from": "2020-01-01", "input": 2, "output": 8}]
    capacity = {"prefill_tokens_per_s": 1000, "decode_tokens_per_s": 100}
    config["models"]["student"]["price"] = {"price_per_gpu_hour_usd": 3.6, "gpus": 1, "capacity": capacity}
    async with running_gateway(config) as gw:
        await gw.ask("chat")
        (pair,) = await gw.pairs()
        assert pair["prices"]["teacher"]["output"] == pair["prices"]["teacher"]["reasoning"] == 8.0
        assert (pair["prices"]["student"]["input"], pair["prices"]["student"]["output"]) == (1.0, 10.0)
        assert gw.metric("gpu_bill_usd_total", model="student") >= 0
