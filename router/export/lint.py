"""What would spoil training or be refused by the trainer, record by record; the first problem found is the reason.

Every reason is explained in `REASONS`. What is not checked: whether the answer is right, beyond what the verdict says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Literal

from router.export.example import Call, Example, Message, Reply
from router.export.json_text import parsed_object

REASONS = MappingProxyType(
    {
        "no_conversation": "an endpoint without messages",
        "unknown_items": "items of the Responses API that chat does not have",
        "suffix": "a completion with a suffix",
        "several_prompts": "a completion of several prompts",
        "token_ids": "a prompt of token ids",
        "custom_tool": "a tool that is no function",
        "unreadable_message": "a message of an unknown form",
        "no_user_message": "nobody asks anything",
        "role_order": "messages in an order that chat templates do not take",
        "unpaired_tool_message": "a tool's result without its call, or a call without its result",
        "bad_arguments": "a call's arguments are no JSON object",
        "undefined_tool": "a call of a tool that the request does not define",
        "too_many_tools": "more tools than the trainer takes",
        "content_parts": "images, sound or files, which the format does not have",
        "text_beside_calls": "text and calls in one turn, which the format does not have",
        "failed_answer": "the answer to imitate failed",
        "refusal": "the answer to imitate is a refusal",
        "truncated": "the answer to imitate was cut off at its limit",
        "empty": "the answer to imitate is empty",
        "no_preference": "nobody says that one of the answers is worse",
        "failed_rejected": "the answer to avoid failed",
        "truncated_rejected": "the answer to avoid was cut off at its limit",
        "empty_rejected": "the answer to avoid is empty",
        "equal_pair": "both answers say the same",
        "too_long": "more tokens than the student can read and write at once, or than the trainer takes",
    }
)

Need = Literal["prompt", "answer", "labels", "pair", "record"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a format holds and its trainer takes.

    `needs`: the prompt alone, an answer to imitate, answers with a label each, a pair of a better and a worse one, or
    the record as it is. `parts`: the kinds of content parts beside text. `alternates`: two sides take
    turns, and what one of them says in a row is of one role.
    """

    needs: Need = "answer"
    parts: frozenset[str] = frozenset()
    late_system: bool = False
    alternates: bool = False
    text_beside_calls: bool = True
    max_tokens: int | None = None
    max_tools: int | None = None


def problem(example: Example, rules: Rules) -> str | None:
    """The reason to leave an example out; None where it is fit for a format with these rules."""
    if rules.needs == "record":
        return None
    return next(_problems(example, rules), None)


def _problems(example: Example, rules: Rules) -> Iterator[str]:
    yield from _prompt_problems(example, rules)
    if rules.needs != "prompt":
        yield from _answer_problems(example, rules)
    if rules.needs == "pair":
        yield from _pair_problems(example)
    if too_long(example, rules):
        yield "too_long"


def _prompt_problems(example: Example, rules: Rules) -> Iterator[str]:
    prompt = example.prompt
    spoken = [message for message in prompt if message.role != "system"]
    if not any(message.role == "user" and (message.text.strip() or message.parts) for message in spoken):
        yield "no_user_message"
        return
    late_system = any(message.role == "system" for message in prompt[1:])
    badly_ordered = (
        spoken[0].role != "user"
        or prompt[-1].role not in ("user", "tool")
        or (late_system and not rules.late_system)
        or (rules.alternates and _speaks_twice(spoken))
    )
    if badly_ordered:
        yield "role_order"
    if rules.max_tools is not None and len(example.tools) > rules.max_tools:
        yield "too_many_tools"
    if not _paired(prompt):
        yield "unpaired_tool_message"
    for message in prompt:
        yield from _message_problems(message, example, rules)


def _message_problems(message: Message, example: Example, rules: Rules) -> Iterator[str]:
    if any(part.get("type") != "text" and part.get("type") not in rules.parts for part in message.parts):
        yield "content_parts"
    if message.calls and message.text.strip() and not rules.text_beside_calls:
        yield "text_beside_calls"
    for call in message.calls:
        if parsed_object(call.arguments) is None:
            yield "bad_arguments"
        if call.name not in example.tool_names:
            yield "undefined_tool"


def _speaks_twice(spoken: list[Message]) -> bool:
    """One side twice in a row: the assistant, or a tool and the user. Several of the user, or of tools, are joined."""
    sides = [(a.role, b.role) for a, b in pairwise(spoken)]
    return any(pair == ("assistant", "assistant") or {*pair} == {"user", "tool"} for pair in sides)


def _paired(prompt: tuple[Message, ...]) -> bool:
    """Every result answers a call of the turn before it, and every call is answered before anyone speaks."""
    open_calls: list[str] = []
    for message in prompt:
        if message.role == "tool":
            if message.call_id not in open_calls:
                return False
            open_calls.remove(message.call_id)
        elif open_calls:
            return False
        else:
            open_calls = [call.id for call in message.calls]
    return not open_calls


def _answer_problems(example: Example, rules: Rules) -> Iterator[str]:
    good = example.good
    if good.failed:
        yield "failed_answer"
    if good.refused:
        yield "refusal"
    if good.truncated:
        yield "truncated"
    if good.empty:
        yield "empty"
    yield from _message_problems(good.message, example, rules)
    if rules.needs == "labels" and example.verdict == "ambiguous":
        yield "no_preference"


def _pair_problems(example: Example) -> Iterator[str]:
    bad = example.bad
    if bad is None:
        yield "no_preference"
        return
    if bad.failed:
        yield "failed_rejected"
    if bad.empty:
        yield "empty_rejected"
    if bad.truncated:
        yield "truncated_rejected"
    if any(parsed_object(call.arguments) is None for call in bad.message.calls):
        yield "bad_arguments"
    if same(example.good, bad):
        yield "equal_pair"


def same(one: Reply, other: Reply) -> bool:
    """Whether two answers are the same to a reader: but for white space, and the order of keys in arguments."""
    return _said(one.message) == _said(other.message)


def _said(message: Message) -> tuple[str, list[tuple[str, str]]]:
    return " ".join(message.text.split()), [(call.name, _arguments(call)) for call in message.calls]


def _arguments(call: Call) -> str:
    parsed = parsed_object(call.arguments)
    return call.arguments if parsed is None else json.dumps(parsed, sort_keys=True)


def too_long(example: Example, rules: Rules) -> bool:
    limits = [limit for limit in (rules.max_tokens, example.max_tokens) if limit is not None]
    replies = [example.good, *([example.bad] if example.bad and rules.needs in ("pair", "labels") else [])]
    return bool(limits) and max(reply.tokens for reply in replies) > min(limits)
