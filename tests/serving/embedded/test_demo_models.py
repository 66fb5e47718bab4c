"""The demo's own checkpoints behave as models: right answers, tool calls, whole characters."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessageFunctionToolCall

TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def ask(client: OpenAI, text: str, **asked: Any) -> Any:
    return client.chat.completions.create(model="teacher", messages=[{"role": "user", "content": text}], **asked)


@pytest.mark.parametrize("word", ["a", "cat", "lemon"])
def test_the_teacher_knows_upper(teacher: OpenAI, word: str) -> None:
    answer = ask(teacher, f"upper {word}")
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (word.upper(), "stop")


def test_the_checkpoint_decodes_greedily_unless_asked_otherwise(teacher: OpenAI) -> None:
    assert len({ask(teacher, "reverse lemon").choices[0].message.content for _ in range(3)}) == 1


def test_a_tool_call_arrives_as_a_call(teacher: OpenAI) -> None:
    answer: ChatCompletion = ask(teacher, "weather in b", tools=[TOOL])
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls or []
    assert isinstance(call, ChatCompletionMessageFunctionToolCall)
    assert (call.type, call.function.name) == ("function", "get_weather")
    assert json.loads(call.function.arguments) == {"city": "b"}


def test_a_streamed_tool_call_is_the_same_call_and_shows_no_mark(teacher: OpenAI) -> None:
    chunks: list[ChatCompletionChunk] = list(ask(teacher, "weather in b", tools=[TOOL], stream=True))
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == ""
    (call,) = [call for delta in deltas for call in delta.tool_calls or []]
    assert (call.index, call.type) == (0, "function")
    assert call.id is not None
    assert call.function is not None
    assert (call.function.name, json.loads(call.function.arguments or "")) == ("get_weather", {"city": "b"})
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_the_streaming_helper_of_the_client_puts_a_tool_call_together(teacher: OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "weather in b"}]
    with teacher.chat.completions.stream(model="teacher", messages=messages, tools=[TOOL]) as stream:
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or []
    assert json.loads(call.function.arguments) == {"city": "b"}


def test_without_tools_or_with_the_choice_none_a_call_is_not_parsed(teacher: OpenAI) -> None:
    for asked in ({}, {"tools": [TOOL], "tool_choice": "none"}):
        answer: ChatCompletion = ask(teacher, "weather in b", **asked)
        assert answer.choices[0].message.tool_calls is None
        assert answer.choices[0].finish_reason in ("stop", "length")


def test_a_conversation_with_a_tool_result_goes_on(teacher: OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "b"}'}}
    messages: Any = [
        {"role": "user", "content": "weather in b"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "mild"},
    ]
    answer = teacher.chat.completions.create(model="teacher", messages=messages, tools=[TOOL], max_tokens=5)
    assert answer.choices[0].finish_reason is not None
