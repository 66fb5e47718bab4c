"""The table of conversations that the workers of a host share."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.control.conversations import FILE, Conversations, Remembered

NOW = 1_700_000_000.0


def test_a_conversation_is_remembered_with_its_model_and_tokens() -> None:
    table = Conversations()
    table.keep("auto", b"hello", "teacher", 1_200, NOW)
    assert table.recall("auto", b"hello", NOW + 10, ttl_s=300) == Remembered("teacher", 1_200)
    assert table.recall("auto", b"hello you", NOW + 10, ttl_s=300) is None
    assert table.recall("other", b"hello", NOW + 10, ttl_s=300) is None


def test_the_last_answer_counts() -> None:
    table = Conversations()
    table.keep("auto", b"hello", "teacher", 1_200, NOW)
    table.keep("auto", b"hello", "student", 1_500, NOW + 1)
    assert table.recall("auto", b"hello", NOW + 2, ttl_s=300) == Remembered("student", 1_500)


def test_a_cache_that_has_expired_is_forgotten() -> None:
    table = Conversations()
    table.keep("auto", b"hello", "teacher", 1_200, NOW)
    assert table.recall("auto", b"hello", NOW + 299, ttl_s=300)
    assert table.recall("auto", b"hello", NOW + 301, ttl_s=300) is None


def test_workers_of_a_host_share_what_they_know(tmp_path: Path) -> None:
    one, other = Conversations(tmp_path), Conversations(tmp_path)
    one.keep("auto", b"hello", "teacher", 7, NOW)
    assert other.recall("auto", b"hello", NOW, ttl_s=300) == Remembered("teacher", 7)
    late = Conversations(tmp_path)
    assert late.recall("auto", b"hello", NOW, ttl_s=300) == Remembered("teacher", 7)
    for table in (one, other, late):
        table.close()


def test_a_full_place_forgets_whom_nobody_heard_of_for_longest() -> None:
    table = Conversations(slots=4)  # one place
    for number in range(4):
        table.keep("auto", b"%d" % number, "student", number, NOW + number)
    table.keep("auto", b"0", "student", 0, NOW + 10)
    table.keep("auto", b"new", "teacher", 9, NOW + 11)
    known = [table.recall("auto", name, NOW + 11, ttl_s=300) is not None for name in (b"0", b"1", b"2", b"3", b"new")]
    assert known == [True, False, True, True, True]


def test_the_table_does_not_grow(tmp_path: Path) -> None:
    table = Conversations(tmp_path, slots=64)
    size = (tmp_path / FILE).stat().st_size
    for number in range(1_000):
        table.keep("auto", b"%d" % number, "student", number, NOW)
    assert (tmp_path / FILE).stat().st_size == size < 2_000
    table.close()


def test_tokens_without_end_are_counted_as_many() -> None:
    table = Conversations()
    table.keep("auto", b"hello", "teacher", 10**12, NOW)
    known = table.recall("auto", b"hello", NOW, ttl_s=300)
    assert known and known.arm == "teacher" and known.tokens == 2**31 - 1


@given(st.binary(max_size=80), st.integers(0, 79), st.integers(0, 2**32))
def test_a_slot_that_was_torn_reads_as_unknown_or_as_it_was(torn: bytes, at: int, seed: int) -> None:
    """Bytes of other writes in the middle of a place never make up a conversation."""
    table = Conversations(slots=4)
    written = {}
    for number in range(4):
        name = b"%d" % number
        table.keep("auto", name, "teacher", number + 100, NOW)
        written[name] = Remembered("teacher", number + 100)
    piece = torn[: 80 - at]
    table._table[at : at + len(piece)] = piece
    for name, was in written.items():
        assert table.recall("auto", name, NOW, ttl_s=300) in (was, None)
    stranger = random.Random(seed).randbytes(12)
    assert table.recall("auto", stranger, NOW, ttl_s=300) is None


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="conversations"):
        Conversations(tmp_path / "missing")
