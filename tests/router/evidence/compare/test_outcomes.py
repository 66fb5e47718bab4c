"""Outcome classes come before any comparator, and answers are read from whatever an upstream sent."""

from __future__ import annotations

from typing import Any

import pytest

from router.comparator_settings import BUILT_IN
from router.evidence.compare import Answer, ToolCall
from tests.router.evidence.compare.asking import compare

FULL = Answer("42", finish_reason="stop")


@pytest.mark.parametrize("comparator", BUILT_IN)
@pytest.mark.parametrize(
    ("student", "kind"),
    [
        (Answer.failed("HTTP 500"), "error"),
        (Answer(refusal="No."), "refusal"),
        (Answer("I'm sorry, but I can't help with that."), "refusal"),
        (Answer("As an AI language model, I cannot provide that."), "refusal"),
        (Answer("Sorry, I am unable to assist with this request."), "refusal"),
        (Answer("4", finish_reason="content_filter"), "refusal"),
        (Answer(" \n"), "empty"),
        (Answer("4", finish_reason="length"), "truncated"),
    ],
)
def test_a_student_that_brings_no_full_answer_is_a_loss_of_its_own_class(
    comparator: str, student: Answer, kind: str
) -> None:
    verdict = compare({}, FULL, student, comparator)
    assert (verdict.kind, verdict.same, verdict.harm, verdict.comparator) == (kind, False, True, "outcome")
    assert kind in verdict.diff


def test_a_failed_teacher_leaves_nothing_to_lose() -> None:
    verdict = compare({}, Answer.failed("timeout"), FULL)
    assert (verdict.kind, verdict.same, verdict.harm) == ("error", False, False)


NAMED = "List the towns that the letter names."
CUT = Answer("The capital of France is the c", finish_reason="length")


def asking(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


@pytest.mark.parametrize(
    ("asked", "teacher", "student", "harm"),
    [
        (NAMED, Answer(" "), Answer("Graz"), False),
        (NAMED + " If there is none, answer nothing.", Answer(" "), Answer("Graz"), True),
        (NAMED, Answer(" "), Answer("Gr", finish_reason="length"), True),
        (NAMED, CUT, Answer("It is Paris.", finish_reason="stop"), False),
        (NAMED, CUT, Answer("Yes.", finish_reason="stop"), True),
        (NAMED, Answer("I can't help with that."), Answer("Graz"), True),
    ],
)
def test_a_teacher_without_a_full_answer_leaves_nothing_to_lose(
    asked: str, teacher: Answer, student: Answer, harm: bool
) -> None:
    verdict = compare(asking(asked), teacher, student)
    assert (verdict.same, verdict.harm, verdict.comparator) == (False, harm, "outcome")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(Answer.failed("x"), "error"), (Answer(refusal="No."), "refusal"), (Answer(""), "empty")],
)
def test_both_sides_ending_alike_is_the_same_and_keeps_its_class(answer: Answer, kind: str) -> None:
    verdict = compare({}, answer, answer)
    assert (verdict.same, verdict.kind, verdict.harm) == (True, kind, False)


def test_two_truncated_answers_are_compared_by_content() -> None:
    assert compare({}, Answer("a b", finish_reason="length"), Answer("a b", finish_reason="length")).kind == "agree"
    assert not compare({}, Answer("a b", finish_reason="length"), Answer("c", finish_reason="length")).same


@pytest.mark.parametrize(
    "text",
    [
        "I cannot find the name in the text.",
        "Sorry seems to be the hardest word.",
        "The patient said: I can't help you.",
        "I can help with that.",
        "I can only recommend this restaurant!",
        "I can't recommend this restaurant enough!",
        "Unfortunately, I cannot attend the meeting on Monday.",
        "We are unable to process refunds after 30 days.",
        "I'm sorry to hear that. You can try to restart it.",
        "Lo siento, no puedo ir a la fiesta.",
        "Es tut mir leid, dass es gestern so spät wurde.",
    ],
)
def test_text_that_only_sounds_like_a_refusal_is_an_answer(text: str) -> None:
    assert compare({}, Answer(text), Answer(text)).kind == "agree"


@pytest.mark.parametrize(
    "text",
    [
        "I apologize, but I can't assist with that.",
        "Unfortunately, I cannot help with that request.",
        "As a language model, I cannot do that.",
        "I must decline this request.",
        "I can only answer questions about our opening hours.",
        "Sorry, I'm only able to help with orders.",
        "I'm not comfortable helping with that.",
        "Es tut mir leid, aber dabei kann ich nicht helfen.",
        "Je suis désolé, mais je ne peux pas répondre à cette demande.",
        "Lo siento, pero no puedo ayudarte con eso.",
        "Mi dispiace, ma non posso aiutarti.",
        "Desculpe, mas não posso ajudar com isso.",
        "Sorry, ik kan je daar niet bij helpen.",
        "很抱歉，我无法提供帮助。",
        "申し訳ありませんが、お手伝いできません。",
    ],
)
def test_a_clear_refusal_is_seen_in_several_languages(text: str) -> None:
    assert compare({}, FULL, Answer(text)).kind == "refusal"


def test_a_tool_call_without_text_is_not_empty() -> None:
    answer = Answer(tool_calls=(ToolCall("f", "{}"),))
    assert compare({}, answer, answer).kind == "agree"


@pytest.mark.parametrize(
    ("choice", "answer"),
    [
        ({"message": {"content": "hi"}, "finish_reason": "stop"}, Answer("hi", finish_reason="stop")),
        ({"text": "hi", "finish_reason": "length"}, Answer("hi", finish_reason="length")),
        ({"message": {"content": None, "refusal": "No."}}, Answer(refusal="No.")),
        (
            {"message": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, 3]}},
            Answer("ab"),
        ),
        ({"message": {"content": [{"type": "refusal", "refusal": "No."}]}}, Answer(refusal="No.")),
        (
            {"message": {"tool_calls": [{"function": {"name": "f", "arguments": '{"a":1}'}}]}},
            Answer(tool_calls=(ToolCall("f", '{"a":1}'),)),
        ),
        (
            {"message": {"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}, "junk"]}},
            Answer(tool_calls=(ToolCall("f", '{"a": 1}'), ToolCall("", ""))),
        ),
        (
            {"message": {"tool_calls": [{"type": "custom", "custom": {"name": "f", "input": "x"}}]}},
            Answer(tool_calls=(ToolCall("f", "x"),)),
        ),
        (
            {"message": {"function_call": {"name": "f", "arguments": "{}"}}},
            Answer(tool_calls=(ToolCall("f", "{}"),)),
        ),
        ({}, Answer()),
        ({"message": 5, "finish_reason": 7, "text": ["x"]}, Answer()),
    ],
)
def test_an_answer_is_read_from_any_choice(choice: dict[str, Any], answer: Answer) -> None:
    assert Answer.from_choice(choice) == answer
