"""Chat completions through the gateway with OpenAI's own client: what a client gets is what the model's server says."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, BadRequestError
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessageParam

from tests.support.gateway import API_KEY, RunningGateway
from tests.surface.fixtures import CONTEXT_TOKENS, Served

GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 24}
SAMPLED: dict[str, Any] = {"temperature": 1.2, "seed": 7, "max_tokens": 12}
VARIANTS: dict[str, dict[str, Any]] = {
    "greedy": GREEDY,
    "several": {**SAMPLED, "n": 3},
    "logprobs": {**GREEDY, "logprobs": True, "top_logprobs": 2},
    "stop": {**GREEDY, "stop": ["T"]},
    "cut off": {**GREEDY, "max_tokens": 2},
}
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def user(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def said(answer: ChatCompletion | list[ChatCompletionChunk]) -> list[tuple[str | None, str | None]]:
    """Text and finish reason by choice."""
    if isinstance(answer, ChatCompletion):
        return [(choice.message.content, choice.finish_reason) for choice in answer.choices]
    texts: dict[int, str] = {}
    reasons: dict[int, str | None] = {}
    for choice in (choice for chunk in answer for choice in chunk.choices):
        texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
        reasons[choice.index] = choice.finish_reason or reasons.get(choice.index)
    return [(texts[index], reasons[index]) for index in sorted(texts)]


def scores(answer: ChatCompletion) -> list[float]:
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    return [token.logprob for token in logprobs.content or []]


def strict(answer: ChatCompletion | ChatCompletionChunk) -> None:
    """The answer is what OpenAI's types say; the client itself does not look."""
    type(answer).model_validate(answer.model_dump(), strict=True)


class ChatSurface:
    @pytest.mark.parametrize("model", ["teacher", "student"])
    @pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
    async def test_an_answer_is_the_models_own(
        self,
        surface: RunningGateway,
        served_teacher: Served,
        served_student: Served,
        model: str,
        variant: dict[str, Any],
    ) -> None:
        served = served_teacher if model == "teacher" else served_student
        async with AsyncOpenAI(base_url=served.url, api_key="none", max_retries=0) as direct:
            expected = await direct.chat.completions.create(model=served.model, messages=user("upper cat"), **variant)
        ask = {"model": f"to-{model}", "messages": user("upper cat"), **variant}
        answer = await surface.openai.chat.completions.create(**ask)
        strict(answer)
        assert said(answer) == said(expected)
        assert answer.usage == expected.usage
        if "logprobs" in variant:
            assert scores(answer) == pytest.approx(scores(expected), abs=1e-3)
        chunks = [chunk async for chunk in await surface.openai.chat.completions.create(**ask, stream=True)]
        for chunk in chunks:
            strict(chunk)
        assert said(chunks) == said(expected)

    async def test_a_word_in_upper_case(self, surface: RunningGateway) -> None:
        answer = await surface.openai.chat.completions.create(model="auto", messages=user("upper cat"), **GREEDY)
        assert answer.choices[0].message.content == "CAT"

    async def test_usage_is_streamed_only_where_it_was_asked_for(self, surface: RunningGateway) -> None:
        ask: dict[str, Any] = {"model": "to-student", "messages": user("upper dog"), **GREEDY, "stream": True}
        without = [chunk async for chunk in await surface.openai.chat.completions.create(**ask)]
        assert all(chunk.choices and chunk.usage is None for chunk in without)
        ask["stream_options"] = {"include_usage": True}
        *_, last = [chunk async for chunk in await surface.openai.chat.completions.create(**ask)]
        assert last.choices == []
        assert last.usage is not None
        first, second = await surface.rows(2)
        assert first.tok == second.tok == (last.usage.prompt_tokens, 0, last.usage.completion_tokens, 0)
        assert first.c == second.c != {}
        assert not first.e

    async def test_the_streaming_helper_puts_the_answer_together(self, surface: RunningGateway) -> None:
        whole = await surface.openai.chat.completions.create(model="auto@1", messages=user("upper fox"), **GREEDY)
        async with surface.openai.chat.completions.stream(
            model="auto@1", messages=user("upper fox"), **GREEDY
        ) as stream:
            kinds = {event.type async for event in stream}
            final = await stream.get_final_completion()
        assert {"chunk", "content.delta", "content.done"} <= kinds
        assert final.choices[0].message.content == whole.choices[0].message.content

    async def test_a_seed_repeats_an_answer(self, surface: RunningGateway) -> None:
        ask = {"model": "to-teacher", "messages": user("reverse house"), **SAMPLED}
        first, second = [await surface.openai.chat.completions.create(**ask) for _ in range(2)]
        assert said(first) == said(second)

    async def test_tools_go_to_the_model_that_has_them_and_come_back_as_calls(self, surface: RunningGateway) -> None:
        response = await surface.openai.chat.completions.with_raw_response.create(
            model="auto@1", messages=user("weather in paris"), tools=TOOLS, temperature=0, max_tokens=100
        )
        assert response.headers["x-router-model"] == "teacher"
        assert response.headers["x-router-reason"] == "guard:tools"
        answer = response.parse()
        strict(answer)
        calls = answer.choices[0].message.tool_calls
        assert answer.choices[0].finish_reason == "tool_calls"
        assert calls is not None
        assert calls[0].type == "function"
        assert calls[0].function.name == "get_weather"

    async def test_a_cascade_serves_a_confident_student_and_escalates_the_rest(self, surface: RunningGateway) -> None:
        for at, arm in (("1", "student"), ("0", "teacher")):
            for stream in (False, True):
                response = await surface.openai.chat.completions.with_raw_response.create(
                    model=f"auto@{at}", messages=user("upper bird"), stream=stream, **GREEDY
                )
                assert response.headers["x-router-model"] == arm
                await response.http_response.aread()
        rows = await surface.rows(4)
        assert [row.m for row in rows] == ["student", "student", "teacher", "teacher"]
        assert [sorted(row.c) for row in rows] == [["serve"]] * 2 + [["escalation", "serve"]] * 2
        assert all(row.s and row.s[0] is not None and row.s[0] <= 0 for row in rows)

    async def test_log_probabilities_of_the_gate_are_not_shown(self, surface: RunningGateway) -> None:
        ask: dict[str, Any] = {"model": "auto@1", "messages": user("upper bird"), **GREEDY}
        answer = await surface.openai.chat.completions.create(**ask)
        assert answer.choices[0].logprobs is None
        chunks = [chunk async for chunk in await surface.openai.chat.completions.create(**ask, stream=True)]
        assert all(choice.logprobs is None for chunk in chunks for choice in chunk.choices)

    async def test_a_prompt_beyond_the_context_is_the_models_own_400(self, surface: RunningGateway) -> None:
        with pytest.raises(BadRequestError) as caught:
            await surface.openai.chat.completions.create(model="to-teacher", messages=user("x" * 8 * CONTEXT_TOKENS))
        assert caught.value.type in ("invalid_request_error", "BadRequestError")
        assert (await surface.row()).o == "rejected"

    async def test_langchain_works_with_the_base_url_changed(self, surface: RunningGateway) -> None:
        from langchain_openai import ChatOpenAI
        from pydantic import SecretStr

        async with httpx.AsyncClient() as connections:  # its own would stay open
            chat = ChatOpenAI(
                model="auto",
                base_url=f"{surface.url}/v1",
                api_key=SecretStr(API_KEY),
                temperature=0,
                max_retries=0,
                http_async_client=connections,
            )
            answer = await chat.ainvoke("upper cat")
            assert answer.content == "CAT"
            assert answer.usage_metadata
            assert "".join([str(piece.content) async for piece in chat.astream("upper cat")]) == "CAT"
