"""Frames: what was written whole comes back, what a crash or the disk damaged does not, and nothing is made up."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from router.evidence.segment import MAGIC, Frame, decode_frames, encode_frames

FRAMES = st.builds(
    Frame,
    st.integers(0, 63),
    st.integers(1, 2**40),
    st.integers(0, 2**40),
    st.floats(0, 2e9),
    st.dictionaries(st.text(max_size=8), st.lists(st.binary(max_size=30), max_size=4), max_size=3),
)
MANY = st.lists(FRAMES, max_size=6)


def decoded(data: bytes) -> list[Frame]:
    return list(decode_frames(data))


@given(MANY)
def test_frames_come_back_as_they_were(frames: list[Frame]) -> None:
    assert decoded(encode_frames(frames)) == frames


@given(MANY, FRAMES, st.data())
def test_a_torn_tail_is_passed_over(frames: list[Frame], last: Frame, data: st.DataObject) -> None:
    whole = encode_frames([last])
    torn = whole[: data.draw(st.integers(0, len(whole) - 1))]
    assert decoded(encode_frames(frames) + torn) == frames


@given(MANY, FRAMES, MANY, st.data())
def test_damage_costs_the_frame_that_has_it_and_no_other(
    before: list[Frame], hit: Frame, after: list[Frame], data: st.DataObject
) -> None:
    damaged = bytearray(encode_frames([hit]))
    place = data.draw(st.integers(0, len(damaged) - 1))
    damaged[place] ^= data.draw(st.integers(1, 255))
    assert decoded(encode_frames(before) + bytes(damaged) + encode_frames(after)) == [*before, *after]


@given(MANY, st.binary(max_size=40), MANY)
def test_rubbish_between_frames_is_passed_over(before: list[Frame], rubbish: bytes, after: list[Frame]) -> None:
    assert _joined(before, [rubbish, MAGIC, MAGIC[:2]], after) == [*before, *after]


def _joined(before: list[Frame], between: Iterable[bytes], after: list[Frame]) -> list[Frame]:
    return decoded(encode_frames(before) + b"".join(between) + encode_frames(after))
