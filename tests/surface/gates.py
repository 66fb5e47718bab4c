"""A cascade's gates through the gateway, on real models: real alternatives, and further answers really drawn."""

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


class GateSurface:
    @pytest.mark.parametrize("endpoint", ["chat", "completions"])
    async def test_a_stream_and_a_whole_answer_have_the_same_signals(
        self, served_teacher: Served, served_student: Served, endpoint: str
    ) -> None:
        policy = {"escalate_at": 1.0, "decide_after": "answer"}
        async with gateway(served_teacher, served_student, ["logprobs"], **policy) as gw:
            for text in ("reverse cat", "reverse house"):
                for stream in (False, True):
                    await said(gw, endpoint, text, stream=stream)
            scores = [row.s and row.s[0] for row in await gw.rows(4)]
            assert scores[0] == pytest.approx(scores[1]) and scores[2] == pytest.approx(scores[3])
            found = [PairRecord.model_validate(pair).student.signals for pair in await gw.pairs()]
        assert len(found) == 4
        for signals in found:
            assert signals is not None and signals.entropy_mean is not None and signals.entropy_max is not None
            assert 0 <= signals.entropy_mean <= signals.entropy_max <= log(6)
            assert signals.minimum <= signals.mean <= 0

    @pytest.mark.parametrize("supports", [["logprobs"], ["logprobs", "n"]], ids=["one by one", "with n"])
    async def test_further_answers_are_drawn_and_paid(
        self, served_teacher: Served, served_student: Served, supports: list[str]
    ) -> None:
        policy = {"escalate_at": 1.0, "agreement": {"samples": 3}}
        async with gateway(served_teacher, served_student, supports, **policy) as gw:
            for stream in (False, True):
                await said(gw, "chat", "upper cat", stream=stream)
            for row in await gw.rows(2):
                charges = [charge for charge in row.ch if charge.origin == "gate"]
                assert len(charges) == (1 if "n" in supports else 3)
                assert all(charge.nano and not charge.estimated for charge in charges)
            shares = [PairRecord.model_validate(pair).student.agreement for pair in await gw.pairs()]
            assert len(shares) == 2 and all(share in (0, 1 / 3, 2 / 3, 1) for share in shares)

    async def test_a_stream_flows_after_its_first_sentence(
        self, served_teacher: Served, served_student: Served
    ) -> None:
        policy = {"escalate_at": 1.0, "decide_after": "sentence"}
        async with gateway(served_teacher, served_student, ["logprobs"], **policy) as gw:
            for stream in (False, True):
                await said(gw, "chat", "sort pear apple fig", stream=stream)
            first, second = await gw.rows(2)
            assert first.s is not None and second.s is not None
            assert first.s[0] == pytest.approx(second.s[0])


@asynccontextmanager
async def gateway(
    teacher: Served, student: Served, supports: list[str], **policy: Any
) -> AsyncIterator[RunningGateway]:
    """A cascade whose every request is audited."""
    config = two_models(teacher.url, student.url, policy={"kind": "cascade", **policy}, route=AUDIT)
    for name, served in (("teacher", teacher), ("student", student)):
        config["models"][name] |= {"model": served.model, "supports": supports}
    async with running_gateway(config) as running:
        yield running


async def said(gw: RunningGateway, endpoint: str, text: str, *, stream: bool) -> None:
    prompt: dict[str, Any] = {"prompt": text}
    if endpoint == "chat":
        prompt = {"messages": [{"role": "user", "content": text}]}
    answer = await gw.ask(endpoint, stream=stream, **prompt, **GREEDY)
    assert answer.status_code == 200, answer.text
    assert b'"logprob":' not in answer.content and b"token_logprobs" not in answer.content
