"""A request as numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from math import log1p, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.difficulty import features
from policies.learn import text
from policies.query import Query

TEXT = st.text(max_size=400)
QUERIES = st.builds(
    Query,
    system=TEXT,
    last=TEXT,
    whole=TEXT,
    turns=st.integers(0, 40),
    tools=st.integers(0, 200),
    needs=st.sets(st.sampled_from(["tools", "json_schema", "images", "logprobs", "n", "other"])).map(frozenset),
    output_tokens=st.none() | st.integers(0, 1 << 20),
    tenant=TEXT,
    key=TEXT,
    route=TEXT,
)


def of(query: Query) -> dict[str, float]:
    return dict(zip(features.STRUCTURE, features.structure(query).tolist(), strict=True))


@given(QUERIES)
def test_any_request_has_finite_structure_and_columns_within_the_table(query: Query) -> None:
    found = features.extract(query)
    assert found.dense.shape == (len(features.STRUCTURE),) and np.isfinite(found.dense).all()
    assert np.isfinite(found.values).all() and len(found.values) == len(found.columns)
    assert not len(found.columns) or 0 <= found.columns.min() <= found.columns.max() < features.WIDTH
    assert (found.columns[: found.words] < 1 << features.BITS).all()
    assert (found.columns[found.words :] >= 1 << features.BITS).all()


@given(QUERIES)
def test_the_words_of_each_text_have_length_one_together_and_who_asks_counts_in_full(query: Query) -> None:
    found = features.extract(query)
    squares = np.square(found.values[: found.words]).sum()
    texts = [query.last or query.whole, *([query.whole] if query.turns > 1 and query.whole != query.last else [])]
    assert squares == pytest.approx(sum(len(text.words(each)) > 0 for each in texts))
    assert (found.values[found.words :] == 1).all()


def test_a_question_with_choices_shows_its_shape() -> None:
    found = of(Query(last="Which is not a gas?\nA. Iron 26\nB. Neon\nC. Argon\nD. Helium\nAnswer:"))
    assert found["choices"] == 4 and found["choice_numbers"] == 0.25
    assert found["words_negations"] == 1 and found["words_asks_what"] == 1
    assert found["ends_with_question"] == 0


def test_numbers_of_a_sum_are_counted_with_thousands_and_decimals() -> None:
    found = of(Query(last="Add 1,200 and 2.5 and 1/2?"))
    assert found["log_numbers"] == log1p(4)
    assert found["log_largest_number"] == log1p(1200)
    assert found["decimals"] == 0.25 and found["slashed_numbers"] == log1p(1)
    assert found["ends_with_question"] == 1


@given(st.text(st.sampled_from("0123456789,./ xé\n"), max_size=60))
def test_numbers_are_those_of_the_text_whatever_stands_between_them(anything: str) -> None:
    numbers = re.findall(r"[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?", anything)
    found = of(Query(last=anything))
    assert found["log_numbers"] == log1p(len(numbers))
    assert found["distinct_numbers"] == sqrt(len(set(numbers)))
    assert found["decimals"] == sum("." in number for number in numbers) / max(len(numbers), 1)
    assert found["log_largest_number"] == max(
        (log1p(float(number.replace(",", "")[:15])) for number in numbers), default=0.0
    )


@given(st.text(st.sampled_from("aA0{}()[]_;#$ é한.?!") | st.characters(), max_size=60))
def test_a_sign_counts_for_each_class_that_has_it(anything: str) -> None:
    found, raw = of(Query(last=anything)), anything.encode("utf-8", "replace")
    for name, members in (
        ("digits", "0123456789"),
        ("brackets", "()[]{}"),
        ("code_signs", "_;{}#|&\\`"),
        ("stops", ".!"),
    ):
        assert found[f"share_{name}"] == sqrt(sum(map(anything.count, members)) / max(len(raw), 1))
    assert found["share_other_bytes"] == sqrt(sum(byte >= 128 for byte in raw) / max(len(raw), 1))


def test_a_word_counts_once_and_for_each_lexicon_that_has_it() -> None:
    found = of(Query(last="Write than write: NOT more than never."))
    lexicons = {name: value for name, value in found.items() if name.startswith("words_") and value}
    assert lexicons == {
        "words_negations": sqrt(2),
        "words_quantities": sqrt(2),
        "words_code": 1.0,
        "words_comparisons": 1.0,
        "words_orders": 1.0,
    }


@pytest.mark.parametrize(
    "text", ["Two apples. And a pear", "a. b? c! And a pear", "a. b\nAnd a pear", "a! b? And a pear"]
)
def test_the_last_sentence_or_line_is_measured_from_the_last_mark(text: str) -> None:
    assert of(Query(last=text + " \n"))["log_last_sentence"] == log1p(len(" And a pear") - ("\n" in text))


def test_what_is_asked_for_is_structure() -> None:
    found = of(Query(last="x", needs=frozenset({"tools"}), tools=3, output_tokens=20, turns=3))
    assert (found["needs_tools"], found["needs_images"], found["output_limited"]) == (1, 0, 1)
    assert found["log_tools"] == log1p(3) and found["log_turns"] == log1p(2)


def test_who_asks_changes_the_identity_columns_only() -> None:
    asked = Query(last="hello there", tenant="a", key="k", route="r", system="Be brief.")
    found = features.extract(asked)
    assert len(found.columns) - found.words == 4
    others = (replace(asked, tenant="b"), replace(asked, key="l"), replace(asked, route="s"))
    for changed in (*others, replace(asked, system="Be long.")):
        other = features.extract(changed)
        assert np.array_equal(other.columns[: other.words], found.columns[: found.words])
        assert (other.columns[other.words :] != found.columns[found.words :]).sum() == 1


def test_an_unknown_caller_has_no_identity() -> None:
    found = features.extract(Query(last="hello there"))
    assert len(found.columns) == found.words


def test_of_several_turns_the_whole_conversation_is_seen_beside_the_last_one() -> None:
    last = features.extract(Query(last="and now?", whole="and now?"))
    several = features.extract(Query(last="and now?", whole="solve this integral\nand now?", turns=2))
    assert several.words > last.words
    assert set(last.columns.tolist()) < set(several.columns.tolist())


def test_a_request_without_a_user_turn_is_read_by_its_whole_text() -> None:
    assert np.array_equal(
        features.extract(Query(whole="translate this")).columns,
        features.extract(Query(last="translate this", whole="translate this")).columns,
    )


def test_a_long_text_costs_no_more_words_than_a_sampled_one() -> None:
    long = features.extract(Query(last=" ".join(f"word{place}x" for place in range(100_000))))
    assert long.words <= text.LONGEST + text.PIECES


def test_without_words_the_rows_say_only_who_asks() -> None:
    found = [features.extract(Query(last="hello there", tenant="a"))]
    sparse = features.rows(found, words=False).sparse
    assert sparse is not None
    assert sparse.indices.tolist() == found[0].columns[found[0].words :].tolist()
