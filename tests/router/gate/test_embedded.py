"""Gates over the real engine: entropies of real alternatives, further answers that are really drawn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import log
from typing import Any

import pytest

from router.evidence.records import PairRecord
from tests.support.gateway import RunningGateway, running_gateway, two_models
from tests.surface.fixtures import Served

GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 24}
AUDIT = {"audit": {"rate": 1.0, "second_draw": 0.0, "confirm": 0.0}}
WORDS = ("cat", "house", "elephant")


@pytest.fixture
def gateway_with(served_teacher: Served, served_student: Served) -> Any:
    @asynccontextmanager
    async def started(supports: list[str], **policy: Any) -> AsyncIterator[RunningGateway]:
        config = two_models(served_teacher.url, served_student.url, policy={"kind": "cascade", **policy}, route=AUDIT)
        for name, served in (("teacher", served_teacher), ("student", served_student)):
            config["models"][name] |= {"model": served.model, "supports": supports}
        async with running_gateway(config) as gateway:
            yield gateway

    return started


async def said(gw: RunningGateway, text: str, stream: bool) -> None:
    messages = [{"role": "user", "content": text}]
    answer = await gw.ask("chat", messages=messages, stream=stream, **GREEDY)
    assert answer.status_code == 200 and b'"logprob":' not in answer.content


async def test_a_stream_and_a_whole_answer_have_the_same_signals(gateway_with: Any) -> None:
    async with gateway_with(["logprobs"], escalate_at=1.0, decide_after="answer") as gw:
        for word in WORDS:
            for stream in (False, True):
                await said(gw, f"reverse {word}", stream)
        rows = await gw.rows(6)
        assert [row.s for row in rows[::2]] == [row.s for row in rows[1::2]]
        pairs = [PairRecord.model_validate(pair) for pair in await gw.pairs()]
        by_answer: dict[str, set[Any]] = {}
        for pair in pairs:
            signals = pair.student.signals
            assert signals is not None and signals.entropy_mean is not None and signals.entropy_max is not None
            assert 0 <= signals.entropy_mean <= signals.entropy_max <= log(5)
            by_answer.setdefault(pair.student.text, set()).add(signals)
        assert [len(found) for found in by_answer.values()] == [1] * len(by_answer)


@pytest.mark.parametrize("supports", [["logprobs"], ["logprobs", "n"]], ids=["one by one", "with n"])
async def test_further_answers_are_drawn_and_paid(gateway_with: Any, supports: list[str]) -> None:
    async with gateway_with(supports, escalate_at=1.0, agreement={"samples": 3}) as gw:
        for stream in (False, True):
            await said(gw, "upper cat", stream)
        for row in await gw.rows(2):
            charges = [charge for charge in row.ch if charge.origin == "gate"]
            assert len(charges) == (1 if "n" in supports else 3)
            assert all(charge.nano and not charge.estimated for charge in charges)
        shares = [PairRecord.model_validate(pair).student.agreement for pair in await gw.pairs()]
        assert all(share in (0, 1 / 3, 2 / 3, 1) for share in shares) and len(shares) == 2
