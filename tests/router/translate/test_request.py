"""A Responses request becomes the chat request that asks for the same, or a 400 that names the field."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter

from router.errors import BadRequest
from router.translate import chat_request

CHAT = TypeAdapter(CompletionCreateParamsNonStreaming)
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}
TIME = {"type": "function", "name": "time", "parameters": None}


def translate(**fields: Any) -> dict[str, Any]:
    """The translation, which must be a chat request by OpenAI's own types."""
    chat = chat_request({"model": "auto", "input": "hi"} | fields)
    CHAT.validate_python(chat)
    return chat


def refused(**fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        chat_request({"model": "auto", "input": "hi"} | fields)
    return caught.value


def test_a_string_input_is_one_user_message() -> None:
    assert translate() == {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}


def test_instructions_come_first_and_developer_is_system() -> None:
    items = [{"role": "developer", "content": "no jokes"}, {"type": "message", "role": "user", "content": "hi"}]
    assert translate(instructions="be brief", input=items)["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "system", "content": "no jokes"},
        {"role": "user", "content": "hi"},
    ]


def test_text_image_file_and_audio_parts_become_chat_parts() -> None:
    parts = [
        {"type": "input_text", "text": "what is this?"},
        {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"},
        {"type": "input_image", "image_url": "https://example.org/cat.png", "file_id": None},
        {"type": "input_file", "file_data": "data:application/pdf;base64,AA", "filename": "a.pdf"},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
    ]
    assert translate(input=[{"role": "user", "content": parts}])["messages"][0]["content"] == [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA", "filename": "a.pdf"}},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
    ]


def test_a_single_text_part_is_a_plain_string() -> None:
    content = [{"type": "input_text", "text": "hi"}]
    assert translate(input=[{"role": "user", "content": content}])["messages"] == [{"role": "user", "content": "hi"}]


def test_one_assistant_turn_is_one_chat_message_with_its_calls() -> None:
    items: list[dict[str, Any]] = [
        {"role": "user", "content": "weather and time?"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "I look.", "logprobs": []}],
        },
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "time", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "noon"}]},
    ]
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
        {"id": "c2", "type": "function", "function": {"name": "time", "arguments": '{"a": 1}'}},
    ]
    assert translate(input=items)["messages"] == [
        {"role": "user", "content": "weather and time?"},
        {"role": "assistant", "content": "I look.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "c2", "content": "noon"},
    ]


def test_text_after_a_call_does_not_part_the_call_from_its_output() -> None:
    items: list[dict[str, Any]] = [
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"role": "assistant", "content": "I look."},
        {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
    ]
    first, second = translate(input=items)["messages"]
    assert (first["content"], first["tool_calls"][0]["id"], second["role"]) == ("I look.", "c1", "tool")


def test_a_refusal_of_an_earlier_turn_keeps_its_field() -> None:
    items = [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, {"role": "user", "content": "?"}]
    assert translate(input=items)["messages"][0] == {"role": "assistant", "content": "", "refusal": "no"}


def test_function_tools_are_nested_and_other_tool_fields_follow() -> None:
    chat = translate(tools=[WEATHER, TIME], tool_choice={"type": "function", "name": "time"}, parallel_tool_calls=False)
    assert chat["tools"] == [
        {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}, "strict": True}},
        {"type": "function", "function": {"name": "time"}},
    ]
    assert chat["tool_choice"] == {"type": "function", "function": {"name": "time"}}
    assert chat["parallel_tool_calls"] is False


def test_allowed_tools_shortens_the_tool_list() -> None:
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "time"}]}
    chat = translate(tools=[WEATHER, TIME], tool_choice=allowed)
    assert [tool["function"]["name"] for tool in chat["tools"]] == ["time"]
    assert chat["tool_choice"] == "required"


def test_tool_fields_without_tools_are_left_out() -> None:
    assert translate(tools=[], tool_choice="auto", parallel_tool_calls=True).keys() == {"model", "messages"}


def test_output_fields_get_their_chat_names() -> None:
    schema = {
        "type": "json_schema",
        "name": "person",
        "schema": {"type": "object"},
        "strict": True,
        "description": None,
    }
    chat = translate(
        text={"format": schema, "verbosity": "low"},
        reasoning={"effort": "high", "summary": "auto"},
        max_output_tokens=7,
        top_logprobs=2,
    )
    assert chat["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "person", "schema": {"type": "object"}, "strict": True},
    }
    assert (chat["verbosity"], chat["reasoning_effort"], chat["max_completion_tokens"]) == ("low", "high", 7)
    assert (chat["logprobs"], chat["top_logprobs"]) == (True, 2)


def test_include_alone_asks_for_logprobs_without_alternatives() -> None:
    chat = translate(include=["message.output_text.logprobs", "reasoning.encrypted_content"])
    assert chat["logprobs"] is True
    assert "top_logprobs" not in chat
    assert "include" not in chat


@pytest.mark.parametrize(("kind", "expected"), [("text", None), ("json_object", {"type": "json_object"})])
def test_simple_formats(kind: str, expected: object) -> None:
    assert translate(text={"format": {"type": kind}}).get("response_format") == expected


def test_streaming_asks_for_usage() -> None:
    chat = chat_request({"model": "m", "input": "hi", "stream": True, "stream_options": {"include_obfuscation": False}})
    assert chat["stream"] is True
    assert chat["stream_options"] == {"include_obfuscation": False, "include_usage": True}


def test_shared_and_unknown_fields_pass_and_labels_stay_here() -> None:
    shared = {"temperature": 0, "top_p": 0.5, "user": "u", "safety_identifier": "s", "prompt_cache_key": "k"}
    chat = chat_request(
        {"model": "m", "input": "hi", "service_tier": "flex", "seed": 3, "top_k": 5, "vendor": {"a": 1}}
        | {"metadata": {"a": "b"}, "store": True, "truncation": "auto", "max_tool_calls": 3}
        | shared
    )
    expected = {"model", "messages", "service_tier", "seed", "top_k", "vendor"} | shared.keys()
    assert chat.keys() == expected
    assert chat["vendor"] == {"a": 1}


@pytest.mark.parametrize(
    "field", ["previous_response_id", "conversation", "prompt", "background", "context_management"]
)
def test_what_needs_a_store_is_refused_and_says_what_to_send_instead(field: str) -> None:
    error = refused(**{field: True if field == "background" else "x_1"})
    assert (error.status, error.param, error.error_code) == (400, field, "unsupported_parameter")
    assert "here" in error.message


def test_null_and_false_ask_for_nothing_that_needs_a_store() -> None:
    assert translate(previous_response_id=None, conversation=None, prompt=None, background=False)


@pytest.mark.parametrize("kind", ["web_search", "file_search", "computer", "mcp", "code_interpreter", "custom"])
def test_a_hosted_tool_is_refused_by_name(kind: str) -> None:
    error = refused(tools=[WEATHER, {"type": kind}])
    assert error.param == "tools[1].type"
    assert repr(kind) in error.message
    assert refused(tool_choice={"type": kind}).param == "tool_choice.type"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"input": None}, "input"),
        ({"input": 3}, "input"),
        ({"input": []}, "input"),
        ({"input": ["hi"]}, "input[0]"),
        ({"input": [{"content": "hi"}]}, "input[0].role"),
        ({"input": [{"role": "tool", "content": "hi"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": 3}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].file_id",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "u"}]}]},
            "input[0].content[0].file_url",
        ),
        ({"input": [{"role": "assistant", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
        ({"input": [{"type": "computer_call"}]}, "input[0].type"),
        ({"input": [{"type": ["message"]}]}, "input[0].type"),
        (
            {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": {}}]},
            "input[0].arguments",
        ),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"instructions": ["x"]}, "instructions"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"max_output_tokens": 1.5}, "max_output_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"truncation": "middle"}, "truncation"),
        ({"reasoning": {"effort": 3}}, "reasoning.effort"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema"),
        ({"text": {"verbosity": "loud"}}, "text.verbosity"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0].name"),
        ({"tools": "f"}, "tools"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "other"}}, "tool_choice.name"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [TIME]}},
            "tool_choice.tools[0].name",
        ),
        ({"messages": []}, "messages"),
        ({"max_tokens": 3}, "max_tokens"),
        ({"n": 2}, "n"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields).param == param
