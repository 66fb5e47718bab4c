"""Text from bytes: whole characters, no stop strings, and tool calls, however the pieces are cut."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serving.embedded.text import TextStream
from serving.embedded.tool_calls import Parsed, ToolCall, ToolCallParser

# Few letters, so that stop strings and their beginnings are met often.
few_letters = st.text(alphabet="ab🙂é", max_size=12)
stops = st.lists(st.text(alphabet="ab🙂é", min_size=1, max_size=4), max_size=4)
fragments = st.lists(
    st.sampled_from(["<tool_call>", "</tool_call>", "<tool", "_call>", "</", " ", "\n", "x", "{", '{"name": "f"}']),
    max_size=12,
)


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def text_of(stream: TextStream, pieces: list[bytes]) -> list[str]:
    return [*(stream.push(piece) for piece in pieces), stream.finish()]


@given(st.binary(max_size=30), st.lists(st.integers(min_value=0), max_size=8))
def test_bytes_in_pieces_decode_as_the_whole(data: bytes, cuts: list[int]) -> None:
    assert "".join(text_of(TextStream(), pieces_of(data, cuts))) == data.decode(errors="replace")


@given(few_letters)
def test_only_whole_characters_leave(text: str) -> None:
    shown = text_of(TextStream(), [bytes([byte]) for byte in text.encode()])
    assert "".join(shown) == text
    assert all(len(piece) <= 1 for piece in shown)


@given(few_letters, stops, st.lists(st.integers(min_value=0), max_size=8))
def test_a_stop_string_is_never_shown_and_nothing_after_it(text: str, stop: list[str], cuts: list[int]) -> None:
    stream = TextStream(stop)
    shown = "".join(text_of(stream, pieces_of(text.encode(), cuts)))
    assert not any(mark in shown for mark in stop)
    if stream.stopped_by is None:
        assert shown == text
    else:
        assert text.startswith(shown + stream.stopped_by)


@given(few_letters, stops)
def test_text_that_cannot_become_a_stop_string_is_not_held_back(text: str, stop: list[str]) -> None:
    stream = TextStream(stop)
    shown = stream.push(text.encode())
    if stream.stopped_by is None:
        held = text[len(shown) :]
        assert held == "" or any(mark.startswith(held) for mark in stop)


def without_ids(parsed: list[Parsed]) -> tuple[str, list[tuple[str, str]]]:
    content = "".join(piece.content for piece in parsed)
    return content, [(call.name, call.arguments) for piece in parsed for call in piece.calls]


def parsed(*pieces: str, parallel: bool = True) -> tuple[str, list[tuple[str, str]]]:
    parser = ToolCallParser(parallel=parallel)
    return without_ids([*(parser.push(piece) for piece in pieces), parser.finish()])


def call_text(name: str, arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


@given(fragments, st.lists(st.integers(min_value=0), max_size=6))
def test_tool_calls_in_pieces_are_those_of_the_whole(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    assert parsed(*(piece.decode() for piece in pieces_of(text.encode(), cuts))) == parsed(text)


@given(st.text(alphabet="<tool_cal>/ x", max_size=30))
def test_text_without_a_call_is_content_to_the_letter(text: str) -> None:
    assert parsed(*text) == (text, [])


def test_content_and_several_calls_are_told_apart() -> None:
    text = "Sure. " + call_text("f", {"x": "é"}) + "\n" + call_text("g", {}) + "\n"
    assert parsed(text) == ("Sure. ", [("f", '{"x": "é"}'), ("g", "{}")])


def test_a_single_call_is_kept_where_parallel_calls_are_not_wanted() -> None:
    assert parsed(call_text("f", {}) + call_text("g", {}), parallel=False) == ("", [("f", "{}")])


def test_arguments_that_are_a_text_already_stay_one() -> None:
    assert parsed(call_text("f", '{"x": 1}')) == ("", [("f", '{"x": 1}')])


def test_a_whole_call_that_was_not_closed_counts() -> None:
    assert parsed('<tool_call>{"name": "f"}') == ("", [("f", "{}")])


def test_a_call_that_is_no_call_is_content() -> None:
    for inside in ("nonsense", "[]", '{"name": 7}', "[" * 100_000):
        text = f"<tool_call>{inside}</tool_call>"
        assert parsed(text) == (text, [])
        assert parsed(text.removesuffix("</tool_call>")) == (text.removesuffix("</tool_call>"), [])


def test_calls_have_ids_of_their_own() -> None:
    calls: tuple[ToolCall, ...] = ToolCallParser().push(call_text("f", {}) + call_text("f", {})).calls
    assert len({call.id for call in calls}) == 2
    assert all(call.id.startswith("call_") for call in calls)
