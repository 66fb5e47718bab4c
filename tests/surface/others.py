"""Completions, Responses, models and audits through the gateway, on real models."""

from __future__ import annotations

from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.types import Completion
from openai.types.responses import Response

from router.evidence.records import PairRecord
from tests.support.gateway import RunningGateway, running_gateway, two_models
from tests.surface.chat import GREEDY, user
from tests.surface.fixtures import Served

COMPLETIONS: list[dict[str, Any]] = [{}, {"n": 2, "temperature": 1.0, "seed": 3}, {"logprobs": 1}, {"stop": "a"}]


class CompletionsSurface:
    @pytest.mark.parametrize("more", COMPLETIONS, ids=str)
    async def test_a_completion_is_the_models_own(
        self, surface: RunningGateway, served_teacher: Served, more: dict[str, Any]
    ) -> None:
        ask: dict[str, Any] = {"prompt": "upper cat", "temperature": 0, "max_tokens": 8, **more}
        async with AsyncOpenAI(base_url=served_teacher.url, api_key="none", max_retries=0) as direct:
            expected = await direct.completions.create(model=served_teacher.model, **ask)
        answer = await surface.openai.completions.create(model="to-teacher", **ask)
        Completion.model_validate(answer.model_dump(), strict=True)
        assert [choice.text for choice in answer.choices] == [choice.text for choice in expected.choices]
        assert answer.usage == expected.usage
        texts = [""] * len(answer.choices)
        async for chunk in await surface.openai.completions.create(model="to-teacher", **ask, stream=True):
            for choice in chunk.choices:
                texts[choice.index] += choice.text
        assert texts == [choice.text for choice in expected.choices]

    async def test_a_cascade_judges_completions_too(self, surface: RunningGateway) -> None:
        for at, arm in (("1", "student"), ("0", "teacher")):
            answer = await surface.openai.completions.with_raw_response.create(
                model=f"auto@{at}", prompt="upper cat", max_tokens=4
            )
            assert answer.headers["x-router-model"] == arm
            assert answer.parse().choices[0].logprobs is None


class ResponsesSurface:
    """The models behind speak chat only, so that the gateway translates."""

    async def test_a_response_says_what_the_chat_says(self, surface: RunningGateway) -> None:
        chat = await surface.openai.chat.completions.create(model="auto@1", messages=user("upper cat"), **GREEDY)
        answer = await surface.openai.responses.create(model="auto@1", input="upper cat", temperature=0)
        Response.model_validate(answer.model_dump(), strict=True)
        assert answer.output_text == chat.choices[0].message.content
        assert answer.usage is not None
        assert chat.usage is not None
        assert answer.usage.output_tokens == chat.usage.completion_tokens

    async def test_a_streamed_response_ends_with_the_whole(self, surface: RunningGateway) -> None:
        async with surface.openai.responses.stream(model="auto@1", input="upper cat", temperature=0) as stream:
            events = [event async for event in stream]
            final = await stream.get_final_response()
        assert [event.type for event in events][:2] == ["response.created", "response.in_progress"]
        assert events[-1].type == "response.completed"
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        assert "".join(deltas) == final.output_text == "CAT"
        assert [event.sequence_number for event in events if hasattr(event, "sequence_number")] == list(
            range(len(events))
        )


class AuditSurface:
    async def test_an_audit_keeps_both_answers_and_its_probability(
        self, served_teacher: Served, served_student: Served, redis_url: str
    ) -> None:
        config = two_models(
            served_teacher.url,
            served_student.url,
            policy={"kind": "split", "student_share": 0.5},
            route={"audit": {"rate": 1.0}},
        )
        for name, served in (("teacher", served_teacher), ("student", served_student)):
            config["models"][name]["model"] = served.model
        async with running_gateway(config, redis_url=redis_url) as gateway:
            for word in ("cat", "dog", "bird", "mouse"):
                await gateway.openai.chat.completions.create(model="auto", messages=user(f"upper {word}"), **GREEDY)
            pairs = [PairRecord.model_validate(pair) for pair in await gateway.pairs()]
            assert len(pairs) == 4
            for pair in pairs:
                assert (pair.audit_probability, pair.teacher_probability) == (1.0, 0.5)
                assert pair.verdict.same == (pair.teacher.text == pair.student.text)
                assert pair.student.mean_logprob is not None
            shadows = [row for row in await gateway.all_rows() if row.o == "shadow"]
            assert len(shadows) == 4
            assert gateway.metric("comparisons_total") == 4
