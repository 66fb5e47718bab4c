"""What estimators look at is the same live and from the record of the request."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from router.auth import ANYBODY, Caller
from router.errors import BadRequest
from router.prompt import LARGEST, MAX_OPENING_CHARACTERS, opening_text, query_of
from router.request import ClientRequest, Endpoint, parse_fields

T = TypeVar("T")

TOOL = {"type": "function", "function": {"name": "look", "parameters": {}}}
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "first"},
    {"role": "assistant", "content": "said"},
    {"role": "user", "content": [{"type": "text", "text": "second"}, {"type": "image_url", "image_url": {"url": "u"}}]},
]


def asked(endpoint: Endpoint, body: dict[str, Any], caller: Caller = ANYBODY) -> ClientRequest:
    data = json.dumps({"model": "auto"} | body).encode()
    return ClientRequest(endpoint, data, [], caller, parse_fields(data))


@pytest.mark.parametrize(
    ("endpoint", "body", "expected"),
    [
        (
            "chat",
            {"messages": CHAT, "tools": [TOOL, TOOL], "max_tokens": 9},
            {
                "system": "Be brief.",
                "last": "second",
                "whole": "first\nsaid\nsecond",
                "turns": 2,
                "tools": 2,
                "output_tokens": 9,
                "needs": frozenset({"tools", "images"}),
            },
        ),
        ("completions", {"prompt": "once"}, {"last": "once", "whole": "once"}),
        ("responses", {"input": "ask", "instructions": "kindly"}, {"system": "kindly", "last": "ask", "whole": "ask"}),
        ("chat", {"messages": []}, {"last": "", "whole": ""}),
        ("chat", {"messages": CHAT[:2], "prompt": "not read", "input": "nor this"}, {"whole": "first"}),
        ("completions", {"prompt": "once", "messages": CHAT}, {"whole": "once", "turns": 1}),
        ("responses", {"input": "ask", "prompt": {"id": "pmpt_1"}, "messages": CHAT}, {"whole": "ask"}),
        ("chat", {"messages": [{"role": "system", "content": "s"}]}, {"system": "s", "last": "", "turns": 0}),
    ],
)
def test_a_request_shows_its_texts_and_its_structure(
    endpoint: Endpoint, body: dict[str, Any], expected: dict[str, Any]
) -> None:
    query = asked(endpoint, body).query("auto")
    assert {name: getattr(query, name) for name in expected} == expected
    record = {"model": "auto"} | body
    assert query == query_of(record, endpoint, needs=query.needs, tenant=query.tenant, key=query.key, route="auto")


def with_little_stack(call: Callable[[], T], frames: int) -> T:
    """What `call` gives, so many frames below the limit of recursion."""
    return _below(call, sys.getrecursionlimit() - len(inspect.stack(0)) - frames)


def _below(call: Callable[[], T], further: int) -> T:
    return call() if further <= 0 else _below(call, further - 1)


def test_a_prompt_that_cannot_be_read_any_more_is_a_conversation_by_its_bytes() -> None:
    nested: list[Any] = []
    for _ in range(200):
        nested = [nested]
    prompts = [[{"role": "user", "content": [name, nested]}] for name in ("a", "a", "b")]
    first, same, other = (asked("chat", {"messages": prompt}) for prompt in prompts)
    with pytest.raises(BadRequest, match="cannot be read"):
        with_little_stack(lambda: first.value("messages"), 100)
    told = [with_little_stack(each.conversation, 100) for each in (first, same, other)]
    assert told[0] == told[1] != told[2]


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_two_users_behind_one_long_system_prompt_have_conversations_of_their_own(endpoint: Endpoint) -> None:
    field = "messages" if endpoint == "chat" else "input"
    system = {"role": "system", "content": "Answer as our handbook says. " * 1_000}

    def conversation(user: str, *later: str) -> bytes:
        said = [system, {"role": "user", "content": user}, *({"role": "user", "content": each} for each in later)]
        return asked(endpoint, {field: said}).conversation()

    assert conversation("Where is my parcel?") != conversation("How do I pay?")
    assert conversation("Where is my parcel?", "And now?") == conversation("Where is my parcel?")


def test_a_prompt_that_grows_is_a_conversation_anew_as_nothing_tells_its_turns_from_a_template() -> None:
    start = "Once upon a time. " * 1_000
    first, second = (asked("completions", {"prompt": start + more}).conversation() for more in ("", "The end."))
    assert first != second


@pytest.mark.parametrize("extra", [0, 1, 5000])
def test_a_template_at_either_end_makes_nobody_one_conversation(extra: int) -> None:
    template = "t" * (MAX_OPENING_CHARACTERS + extra)
    fields: dict[Endpoint, str] = {"completions": "prompt", "responses": "input"}
    openings: list[tuple[Endpoint, dict[str, Any]]] = []
    for name in ("Ada", "Bob"):
        text = f"{template} {name} {template}"
        openings += [(endpoint, {field: text}) for endpoint, field in fields.items()]
        openings.append(("chat", {"messages": [{"role": "user", "content": text}]}))
    ids = [*range(MAX_OPENING_CHARACTERS), *range(extra)]
    for last in (1, 2):
        openings.append(("completions", {"prompt": [*ids, last, *ids]}))
    assert len({asked(endpoint, body).conversation() for endpoint, body in openings}) == 4  # two texts, two lists


def test_a_conversation_is_the_same_whatever_follows_its_opening_and_short_ones_stay_as_they_were() -> None:
    long = {"role": "user", "content": "x" * 10_000}
    later = [long, {"role": "assistant", "content": "y"}, {"role": "user", "content": "z"}]
    assert asked("chat", {"messages": [long]}).conversation() == asked("chat", {"messages": later}).conversation()
    assert len(opening_text([long])) < MAX_OPENING_CHARACTERS + 100
    assert opening_text("x" * MAX_OPENING_CHARACTERS) == "x" * MAX_OPENING_CHARACTERS


def test_an_integer_that_no_arithmetic_holds_is_refused() -> None:
    assert asked("chat", {"messages": [], "max_tokens": LARGEST}).output_tokens == LARGEST
    for limit in (LARGEST + 1, 10**400):
        with pytest.raises(BadRequest, match="'max_tokens' is out of range"):
            asked("chat", {"messages": [], "max_tokens": limit})
    with pytest.raises(BadRequest, match="'n' is out of range"):
        assert asked("chat", {"messages": [], "n": 10**400}).choices
    recorded = {"messages": [], "max_tokens": 10**400}
    assert query_of(recorded, "chat", needs=(), tenant="", key="", route="auto").output_tokens is None
