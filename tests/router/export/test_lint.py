"""The linter: each reason, and that what has none of them is let through."""

from __future__ import annotations

from typing import Any

import pytest

from router.evidence.records import PairRecord
from router.export.convert import example_of
from router.export.example import Unusable
from router.export.formats.registry import FORMATS
from router.export.lint import REASONS, Rules, problem
from tests.router.export.cases import (
    AGREES,
    ALL,
    COMPLETION,
    PLAIN,
    RESPONSES,
    TOOLS,
    WEATHER,
    Json,
    answer,
    call,
    example,
    made,
    user,
)

IMAGE: Json = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]}
AUDIO: Json = {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]}
CALLED: Json = {"role": "assistant", "content": None, "tool_calls": [call("get_weather", '{"city": "Bonn"}')]}
SPOKE_AND_CALLED = CALLED | {"content": "Let me see."}
RESULT: Json = {"role": "tool", "tool_call_id": "call_a", "content": "rain"}
ASSISTANT: Json = {"role": "assistant", "content": "yes"}
GOOD_CALL = answer("teacher", "", ("get_weather", '{"city": "Bonn"}'))


def chat(
    *messages: Json, teacher: Any = "fine", student: Any = "bad", tools: Any = (WEATHER,), **fields: Any
) -> PairRecord:
    return made(1, {"messages": list(messages), "tools": list(tools)}, teacher, student, **fields)


def reason(record: PairRecord, name: str, **options: Any) -> str | None:
    try:
        return problem(example(record, **options), FORMATS[name].rules)
    except Unusable as error:
        return error.reason


@pytest.mark.parametrize("name", FORMATS)
def test_a_sound_pair_is_let_through(name: str) -> None:
    for record in ALL:
        assert reason(record, name) == ("no_preference" if record is AGREES and name.endswith("dpo") else None)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (chat({"role": "system", "content": "hi"}), "no_user_message"),
        (chat(user(" \n")), "no_user_message"),
        (chat({"role": "user", "content": [{"type": "text", "text": ""}]}), "no_user_message"),
        (chat(ASSISTANT, user("?")), "role_order"),
        (chat(user("?"), ASSISTANT), "role_order"),
        (chat(user("?"), {"role": "system", "content": "late"}, user("!")), "role_order"),
        (chat(user("?"), RESULT), "unpaired_tool_message"),
        (chat(user("?"), CALLED, user("!")), "unpaired_tool_message"),
        (chat(user("?"), CALLED, RESULT, RESULT), "unpaired_tool_message"),
        (chat(user("?"), CALLED, RESULT, tools=()), "undefined_tool"),
        (chat(user("?"), teacher=GOOD_CALL, tools=()), "undefined_tool"),
        (chat(user("?"), teacher=answer("teacher", "", ("get_weather", "Bonn"))), "bad_arguments"),
        (chat(user("?"), teacher=answer("teacher", "", ("get_weather", "[1]"))), "bad_arguments"),
        (chat(IMAGE), "content_parts"),
        (chat(AUDIO), "content_parts"),
        (chat(user("?"), teacher=answer("teacher", error="status 500")), "failed_answer"),
        (chat(user("?"), teacher=answer("teacher", "no", refusal="no")), "refusal"),
        (chat(user("?"), teacher="I'm sorry, but I can't help with that."), "refusal"),
        (chat(user("?"), teacher=answer("teacher", "so", finish_reason="length")), "truncated"),
        (chat(user("?"), teacher=" \n"), "empty"),
        (chat(user("?"), tools=[{"type": "custom", "custom": {"name": "x"}}]), "custom_tool"),
        (chat({"role": "critic", "content": "?"}), "unreadable_message"),
        (made(1, {"prompt": ["a", "b"]}, "a", "b", endpoint="completions"), "several_prompts"),
        (made(1, {"prompt": [1, 2]}, "a", "b", endpoint="completions"), "token_ids"),
        (made(1, {"prompt": "a", "suffix": "b"}, "a", "b", endpoint="completions"), "suffix"),
        (made(1, {"input": [{"type": "item_reference", "id": "x"}]}, "a", "b", endpoint="responses"), "unknown_items"),
        (made(1, {"input": "a"}, "a", "b", endpoint="embeddings"), "no_conversation"),
    ],
)
def test_an_unsound_pair_is_left_out_with_its_reason(record: PairRecord, expected: str) -> None:
    assert expected in REASONS
    assert reason(record, "trl-sft") == expected


@pytest.mark.parametrize("name", ["openai-dpo", "trl-dpo"])
@pytest.mark.parametrize(
    ("student", "expected"),
    [
        ("fine", "equal_pair"),
        (" fine\n", "equal_pair"),
        ("", "empty_rejected"),
        (answer("student", error="timeout"), "failed_rejected"),
        (answer("student", "no", finish_reason="length"), "truncated_rejected"),
        (answer("student", "", ("get_weather", "{")), "bad_arguments"),
    ],
)
def test_a_pair_needs_two_whole_answers_that_differ(name: str, student: Any, expected: str) -> None:
    assert reason(chat(user("?"), student=student), name) == expected
    assert reason(chat(user("?"), student=student), "trl-sft") is None


def test_arguments_with_keys_in_another_order_are_the_same_answer() -> None:
    calls = [answer("teacher", "", ("get_weather", text)) for text in ('{"a": 1, "b": 2}', '{"b": 2,"a": 1}')]
    assert reason(chat(user("?"), teacher=calls[0], student=calls[1]), "trl-dpo") == "equal_pair"


def test_nobody_says_which_answer_of_an_ambiguous_pair_is_better() -> None:
    record = chat(user("?"), label="ambiguous")
    assert reason(record, "trl-sft") is None
    assert {reason(record, name) for name in ("openai-dpo", "trl-dpo", "trl-kto")} == {"no_preference"}


def test_openai_takes_images_when_supervised_and_system_messages_anywhere() -> None:
    assert reason(chat(IMAGE), "openai-sft") is None
    assert reason(chat(AUDIO), "openai-sft") == "content_parts"
    assert reason(chat(IMAGE), "openai-dpo") == "content_parts"
    assert reason(chat(user("?"), {"role": "system", "content": "late"}, user("!")), "openai-sft") is None


def test_sharegpt_takes_turns_and_has_no_text_beside_calls() -> None:
    twice = chat(user("?"), ASSISTANT, ASSISTANT, user("!"))
    beside = chat(user("?"), SPOKE_AND_CALLED, RESULT)
    assert [reason(record, "sharegpt") for record in (twice, beside)] == ["role_order", "text_beside_calls"]
    assert [reason(record, "trl-sft") for record in (twice, beside)] == [None, None]


@pytest.mark.parametrize("name", ["sharegpt", "llamafactory"])
def test_a_side_that_speaks_in_two_roles_in_a_row_does_not_alternate(name: str) -> None:
    """A tool's result and a question right after it stand both at an odd place, and cannot be joined."""
    asked = chat(user("?"), CALLED, RESULT, user("!"))
    assert reason(asked, name) == "role_order" and reason(asked, "trl-sft") is None
    for record in (chat(user("?"), user("!")), chat(user("?"), CALLED, RESULT, ASSISTANT, user("!"))):
        assert reason(record, name) is None
        (row,) = FORMATS[name].rows(example(record))
        places = [turn["from"] in ("human", "observation") for turn in row["conversations"]]
        assert places == [place % 2 == 0 for place in range(len(places))]


def test_more_tokens_than_the_student_can_read_are_too_long() -> None:
    assert reason(PLAIN, "trl-sft", max_tokens=15) is None
    assert reason(PLAIN, "trl-sft", max_tokens=14) == "too_long"
    large = answer("teacher", "fine", tokens={"input": 65_000, "output": 537})
    assert reason(chat(user("?"), teacher=large), "openai-sft") == "too_long"
    assert reason(chat(user("?"), teacher=large), "trl-sft") is None


def test_openai_takes_no_more_than_128_tools() -> None:
    tools = [WEATHER | {"function": WEATHER["function"] | {"name": f"tool_{n}"}} for n in range(129)]
    assert reason(chat(user("?"), tools=tools), "openai-sft") == "too_many_tools"
    assert reason(chat(user("?"), tools=tools[:128]), "openai-sft") is None


def test_prompts_are_judged_without_the_answers() -> None:
    assert reason(chat(user("?"), teacher=answer("teacher", error="status 500")), "prompts") is None
    assert reason(chat(user("?"), RESULT), "prompts") == "unpaired_tool_message"


def test_every_reason_is_explained() -> None:
    assert all(REASONS.values())
    assert problem(example_of(TOOLS, "student_wrong"), Rules(needs="record")) is None
    assert {COMPLETION.endpoint, RESPONSES.endpoint} == {"completions", "responses"}
