"""The parser follows the specification, loses no byte, and does not care where a stream was cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.sse import Event, EventTooLarge, SSEParser

untimed = settings(deadline=None)

lines = st.sampled_from(
    [
        b"data: {}",
        b"data:x",
        b"data",
        b"data:  y",
        b"event: ping",
        b"event",
        b": comment",
        b"id: 1",
        b"",
        b"\xef\xbb\xbf",
    ]
) | st.binary(max_size=6)
endings = st.sampled_from([b"\n", b"\n\n", b"\r\n", b"\r\n\r\n", b"\r", b"\r\r", b"", b"\n\r"])
streams = st.lists(st.tuples(lines, endings), max_size=12).map(lambda rows: b"".join(line + end for line, end in rows))
plain_streams = st.lists(st.sampled_from([b'data: {"a":1}\n\n', b"data: [DONE]\n\n", b"\n", b": ping\n\n"])).map(
    b"".join
)


@st.composite
def cut_streams(draw: st.DrawFn) -> list[bytes]:
    stream = draw(streams | plain_streams)
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def parse(chunks: list[bytes]) -> tuple[list[Event], bytes]:
    parser = SSEParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return events + parser.close(), parser.remainder


def dispatched_by_specification(stream: bytes) -> list[tuple[bytes, bytes | None]]:
    """The algorithm of WHATWG HTML 9.2.6, line by line; an event that the stream does not end is dropped."""
    found, data, name = [], b"", b""
    whole = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for line in whole.split(b"\n")[:-1]:
        field, _, value = line.partition(b":")
        if not line:
            if data:
                found.append((data[:-1], name or None))
            data, name = b"", b""
        elif field == b"data":
            data += value.removeprefix(b" ") + b"\n"
        elif field == b"event":
            name = value.removeprefix(b" ")
    return found


@untimed
@given(cut_streams())
def test_any_cut_of_a_stream_gives_the_events_of_the_whole(chunks: list[bytes]) -> None:
    assert parse(chunks) == parse([b"".join(chunks)])


@untimed
@given(cut_streams())
def test_no_byte_is_lost(chunks: list[bytes]) -> None:
    events, remainder = parse(chunks)
    assert b"".join(event.raw for event in events) + remainder == b"".join(chunks)


@untimed
@given(cut_streams())
def test_events_are_those_of_the_specification(chunks: list[bytes]) -> None:
    events, _ = parse(chunks)
    expected = [event for event in dispatched_by_specification(b"".join(chunks)) if event[0]]
    assert [(event.data, event.event) for event in events if event.data] == expected


@untimed
@given(cut_streams())
def test_bytes_are_kept_also_before_the_stream_ends(chunks: list[bytes]) -> None:
    parser, raws, fed = SSEParser(), b"", b""
    for chunk in chunks:
        fed += chunk
        raws += b"".join(event.raw for event in parser.feed(chunk))
        assert raws + parser.remainder == fed


def test_a_chunk_of_whole_frames_gives_one_event_each() -> None:
    assert SSEParser().feed(b'data: {"a":1}\n\ndata: [DONE]\n\n') == [
        Event(b'{"a":1}', b'data: {"a":1}\n\n', None),
        Event(b"[DONE]", b"data: [DONE]\n\n", None),
    ]


@pytest.mark.parametrize(
    ("stream", "data", "event"),
    [
        (b"data: a\ndata: b\n\n", b"a\nb", None),
        (b"data:a\r\ndata:  b\r\n\r\n", b"a\n b", None),
        (b"event: delta\ndata: {}\n\n", b"{}", b"delta"),
        (b"\xef\xbb\xbfdata: a\n\n", b"a", None),
        (b": note\nid: 7\nretry: 10\ndata: a\n\n", b"a", None),
        (b"data\n\n", b"", None),
        (b"data: a: b\n\n", b"a: b", None),
    ],
)
def test_one_block_is_one_event(stream: bytes, data: bytes, event: bytes | None) -> None:
    assert SSEParser().feed(stream) == [Event(data, stream, event)]


def test_a_keep_alive_comment_is_given_at_once_and_without_data() -> None:
    assert SSEParser().feed(b": ping\n\n") == [Event(b"", b": ping\n\n", None)]


def test_a_type_without_data_is_no_event() -> None:
    assert SSEParser().feed(b"event: ping\n\n") == [Event(b"", b"event: ping\n\n", None)]


def test_a_byte_order_mark_counts_only_at_the_start() -> None:
    events = SSEParser().feed(b"data: a\n\n\xef\xbb\xbfdata: b\n\n")
    assert [event.data for event in events] == [b"a", b""]


def test_a_final_carriage_return_is_decided_by_the_next_byte_or_the_end() -> None:
    parser = SSEParser()
    assert parser.feed(b"data: a\r\n\r") == []
    assert parser.feed(b"\n") == [Event(b"a", b"data: a\r\n\r\n", None)]
    assert parser.feed(b"data: b\r\r") == []
    assert parser.close() == [Event(b"b", b"data: b\r\r", None)]
    assert parser.remainder == b""


def test_an_event_that_the_stream_breaks_off_is_the_remainder() -> None:
    parser = SSEParser()
    assert parser.feed(b'data: a\n\ndata: {"b"')[0].data == b"a"
    assert parser.close() == []
    assert parser.remainder == b'data: {"b"'


@pytest.mark.parametrize(
    "stream", [b"data: " + b"x" * 100, b"data: " + b"x" * 100 + b"\n\n", b": " + b"x" * 100 + b"\r\r"]
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_event_beyond_the_limit_is_refused_however_it_is_cut(stream: bytes, size: int) -> None:
    parser = SSEParser(max_event_bytes=64)
    parser.feed(b"data: small\n\n" * 20)
    with pytest.raises(EventTooLarge, match="longer than 64 bytes"):
        for start in range(0, len(stream), size):
            parser.feed(stream[start : start + size])


def test_a_large_event_in_many_small_chunks_is_put_together() -> None:
    stream = b"data: " + b"x" * 200_000 + b"\n\n"
    parser = SSEParser()
    events = [event for start in range(len(stream)) for event in parser.feed(stream[start : start + 1])]
    assert events == [Event(stream[6:-2], stream, None)]
