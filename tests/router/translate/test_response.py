"""A chat completion becomes a Response that OpenAI's types accept and that echoes the request."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.responses import Response

from router.errors import UpstreamFailed
from router.translate import chat_request, response

USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}


def completion(message: dict[str, Any], finish_reason: str = "stop", **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}
    choice |= fields.pop("choice", {})
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "big-1",
        "choices": [choice],
    } | fields


def respond(chat: dict[str, Any], **request: Any) -> Response:
    body = {"model": "auto", "input": "hi"} | request
    chat_request(body)
    return Response.model_validate(response(body, chat, response_id="resp_ab", created_at=7))


def call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_text_and_usage() -> None:
    answer = respond(completion({"content": "hello", "vendor": 1}, usage=USAGE, vendor={"a": 1}))
    assert (answer.id, answer.created_at, answer.model, answer.status) == ("resp_ab", 7, "big-1", "completed")
    assert answer.output_text == "hello"
    assert answer.usage is not None
    assert answer.usage.input_tokens_details.cached_tokens == 4
    assert answer.usage.output_tokens_details.reasoning_tokens == 2
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (9, 5, 14)


@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
def test_reasoning_text_refusal_and_calls_are_items_with_ids_of_their_own(key: str) -> None:
    message = {key: "hm", "content": "I look.", "refusal": "not that", "tool_calls": [call("c1", "f", "{}")]}
    output = respond(completion(message, "tool_calls")).output
    assert [item.type for item in output] == ["reasoning", "message", "function_call"]
    assert len({item.id for item in output}) == 3
    reasoning, said, called = (item.model_dump() for item in output)
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert [part["type"] for part in said["content"]] == ["output_text", "refusal"]
    assert (called["call_id"], called["name"], called["arguments"]) == ("c1", "f", "{}")


def test_a_call_without_an_id_gets_one() -> None:
    chat = completion({"content": None, "tool_calls": [call("", "f", "{}"), call("", "g", "{}")]}, "tool_calls")
    first, second = (item.model_dump()["call_id"] for item in respond(chat).output)
    assert first.startswith("call_")
    assert first != second


@pytest.mark.parametrize(
    ("finish_reason", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_a_cut_answer_is_incomplete_in_its_last_item_only(finish_reason: str, reason: str) -> None:
    answer = respond(completion({"reasoning": "hm", "content": "half a"}, finish_reason))
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == reason
    assert [item.model_dump()["status"] for item in answer.output] == ["completed", "incomplete"]


def test_an_empty_answer_is_an_empty_message_and_a_missing_usage_stays_missing() -> None:
    answer = respond(completion({"content": ""}))
    assert [item.type for item in answer.output] == ["message"]
    assert answer.output_text == ""
    assert answer.usage is None


@pytest.mark.parametrize("asked", [True, False])
def test_logprobs_are_shown_only_when_asked_for(asked: bool) -> None:
    token = {"token": "hi", "logprob": -0.5, "bytes": None, "top_logprobs": [{"token": "hi", "logprob": -0.5}]}
    chat = completion({"content": "hi"}, choice={"logprobs": {"content": [token]}})
    answer = respond(chat, **({"include": ["message.output_text.logprobs"]} if asked else {}))
    shown = answer.output[0].model_dump()["content"][0]["logprobs"]
    assert [entry["logprob"] for entry in shown] == ([-0.5] if asked else [])


def test_the_request_is_echoed() -> None:
    request: dict[str, Any] = {
        "instructions": "be brief",
        "max_output_tokens": 7,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "reasoning": {"effort": "high", "summary": "auto"},
        "safety_identifier": "s",
        "temperature": 0.0,
        "text": {"format": {"type": "json_schema", "name": "p", "schema": {"type": "object"}}, "verbosity": "low"},
        "tool_choice": {"type": "function", "name": "f"},
        "tools": [{"type": "function", "name": "f"}],
        "top_logprobs": 2,
        "top_p": 0.5,
        "user": "u",
    }
    echo = respond(completion({"content": "x"}), **request).model_dump(exclude_unset=True, by_alias=True)
    differing = {key for key, value in request.items() if echo[key] != value}
    assert differing == {"reasoning", "tools"}
    assert echo["reasoning"] == {"effort": "high", "summary": None}
    assert echo["tools"] == [{"type": "function", "name": "f", "parameters": None, "strict": None}]


def test_what_is_not_done_is_not_claimed() -> None:
    echo = respond(completion({"content": "x"}), store=True, truncation="auto").model_dump()
    assert (echo["store"], echo["truncation"]) == (False, "disabled")


@pytest.mark.parametrize(
    "chat",
    [
        [],
        {},
        {"choices": []},
        {"error": {"message": "out of memory"}},
        completion({"content": "x"}, error="out of memory"),
        {"choices": "none"},
        {"choices": [3]},
        completion({"content": 3}),
        completion({"tool_calls": [{"function": "f"}]}),
        completion({"content": "a"}, choice={"logprobs": {"content": ["x"]}}),
    ],
)
def test_a_completion_of_the_wrong_shape_is_the_upstreams_failure(chat: Any) -> None:
    with pytest.raises(UpstreamFailed):
        respond(chat, top_logprobs=1)


def test_garbage_in_usage_counts_nothing() -> None:
    answer = respond(completion({"content": "x"}, usage={"prompt_tokens": "9", "prompt_tokens_details": []}))
    assert answer.usage is not None
    assert answer.usage.total_tokens == 0
