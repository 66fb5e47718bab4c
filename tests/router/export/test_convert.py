"""Requests of every endpoint as messages."""

from __future__ import annotations

import pytest

from router.export.example import Call, Message
from router.export.formats.registry import FORMATS
from router.export.lint import problem
from tests.router.export.cases import COMPLETION, RESPONSES, TOOLS, WEATHER, Json, answer, call, example, made, user


def test_a_completions_prompt_is_a_users_message() -> None:
    assert example(COMPLETION).prompt == (Message("user", "Say hi"),)
    one = made(1, {"prompt": ["Say hi"]}, "hi", "ho", endpoint="completions")
    assert example(one).prompt == (Message("user", "Say hi"),)


def test_a_responses_request_is_the_chat_that_it_means() -> None:
    found = example(RESPONSES)
    assert found.prompt == (
        Message("system", "Be brief."),
        Message("user", "Weather in Oslo?"),
        Message("assistant", "", (Call("c1", "get_weather", '{"city": "Oslo"}'),)),
        Message("tool", "snow", call_id="c1"),
    )
    assert found.tools == (WEATHER,)


def test_the_older_names_of_the_chat_api_become_todays() -> None:
    record = made(
        1,
        {
            "messages": [
                user("Weather in Oslo?"),
                {"role": "assistant", "content": None, "function_call": {"name": "get_weather", "arguments": "{}"}},
                {"role": "function", "name": "get_weather", "content": "snow"},
            ],
            "functions": [WEATHER["function"]],
        },
        "Snow.",
        "Sun.",
    )
    found = example(record)
    (made_call,) = found.prompt[1].calls
    assert (made_call.name, found.prompt[2].call_id, found.prompt[2].name) == (
        "get_weather",
        made_call.id,
        "get_weather",
    )
    assert found.tools == (WEATHER,)


def test_parts_of_text_are_text_and_system_messages_at_the_start_are_one() -> None:
    record = made(
        1,
        {
            "messages": [
                {"role": "system", "content": "one"},
                {"role": "developer", "content": [{"type": "text", "text": "two"}]},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            ]
        },
        "x",
        "y",
    )
    assert example(record).prompt == (Message("system", "one\n\ntwo"), Message("user", "a\nb"))


def test_the_students_own_system_prompt_stands_where_it_will_stand_when_it_answers() -> None:
    record = made(1, {"messages": [{"role": "system", "content": "client"}, user("?")]}, "x", "y")
    assert example(record, system_prompt="own").prompt == (Message("system", "own"), Message("user", "?"))


def test_calls_of_an_answer_get_ids_that_the_conversation_does_not_have() -> None:
    record = made(
        1,
        {
            "messages": [
                user("?"),
                {"role": "assistant", "tool_calls": [call("get_weather", "{}", "call_1")]},
                {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
            ],
            "tools": [WEATHER],
        },
        answer("teacher", "", ("get_weather", "{}"), ("get_weather", '{"city": "Rome"}')),
        "no",
    )
    assert [one.id for one in example(record).good.message.calls] == ["call_2", "call_3"]


def test_the_answer_to_imitate_is_the_one_that_was_not_wrong() -> None:
    for verdict, good, bad in (
        ("student_wrong", 60, 1),
        ("teacher_wrong", 1, 60),
        ("equivalent", 60, None),
        ("ambiguous", 60, None),
    ):
        found = example(TOOLS, verdict)  # type: ignore[arg-type]  # a literal, of a tuple
        assert found.good.message.calls[0].arguments == f'{{"minutes": {good}}}'
        assert (found.bad and found.bad.message.calls[0].arguments) == (bad and f'{{"minutes": {bad}}}')


@pytest.mark.parametrize(
    "refused",
    [
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "I will not."}]},
        {"role": "assistant", "content": None, "refusal": "I will not."},
    ],
)
def test_a_refusal_in_the_history_keeps_its_words(refused: Json) -> None:
    record = made(1, {"messages": [user("?"), refused, user("!")]}, "fine", "bad")
    assert [message.text for message in example(record).prompt] == ["?", "I will not.", "!"]
    assert all(problem(example(record), each.rules) is None for each in FORMATS.values())


def test_a_refusal_in_the_input_of_responses_keeps_its_words() -> None:
    refused = {"role": "assistant", "content": [{"type": "refusal", "refusal": "I will not."}]}
    record = made(1, {"input": [user("?"), refused, user("!")]}, "fine", "bad", endpoint="responses")
    assert [message.text for message in example(record).prompt] == ["?", "I will not.", "!"]
