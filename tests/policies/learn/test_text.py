"""Text to hashed words."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from policies.learn import text

BITS = 12


def test_a_short_text_is_looked_at_whole() -> None:
    assert text.sample("a b c") == "a b c"


def test_of_a_long_text_start_and_end_are_seen_and_the_length_is_bounded() -> None:
    long = "first " + "word " * 50_000 + "last"
    seen = text.sample(long)
    assert seen.startswith("first ") and seen.endswith("last")
    assert len(seen) <= text.LONGEST + text.PIECES


def test_numbers_count_by_their_length_and_case_does_not() -> None:
    assert text.words("Add 48 and 17, ADD 3!") == [b"add", b"00", b"and", b"00", b"add", b"0"]


def test_chinese_characters_are_words_of_their_own_and_accents_stay_in_theirs() -> None:
    assert text.words("你好 café") == ["你".encode(), "好".encode(), "café".encode()]


def test_order_matters_by_pairs_of_words() -> None:
    one, other = (text.columns(text.words(each), BITS) for each in ("dog bites man", "man bites dog"))
    assert len(np.intersect1d(one, other)) == 3
    assert len(one) == len(other) == 5


def test_namespaces_do_not_share_columns_of_the_same_text() -> None:
    words = text.words("how many apples are left")
    assert set(text.columns(words, 20).tolist()).isdisjoint(text.columns(words, 20, salt=1).tolist())


def test_the_hash_is_the_same_in_every_version_of_the_program() -> None:
    assert text.columns([b"apples", b"left"], 17).tolist() == [71262, 104664, 118630]


@given(st.text(), st.integers(4, 20))
def test_any_text_gives_sorted_distinct_columns_within_the_table(anything: str, bits: int) -> None:
    columns = text.columns(text.words(text.sample(anything)), bits)
    assert (np.diff(columns) > 0).all()
    assert not len(columns) or 0 <= columns[0] <= columns[-1] < 1 << bits


def test_a_lone_surrogate_is_read_like_any_sign_that_is_no_letter() -> None:
    assert text.words("a\ud800b")


CJK = re.compile(r"([\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff])")


@given(st.text(st.sampled_from("ab1 ,é的한字﫿豈⺀鿿 \n")))
def test_text_without_spaces_is_split_as_if_each_character_had_spaces_around_it(anything: str) -> None:
    assert text.words(anything) == text.words(CJK.sub(r" \1 ", anything))
