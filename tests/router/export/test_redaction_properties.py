"""What holds for redaction of any text and any JSON."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from router.export.redact.money import luhn
from router.export.redact.redactor import Redactor
from router.export.redact.registry import DETECTORS

PIECES = st.sampled_from(
    [
        *("ada@example.com", "bob@b.de", "+49 30 901820", "(415) 555-2671", "phone: ", "phone", "4111 1111 1111 1111"),
        *("4111111111111111", "DE89370400440532013000", "10.1.2.3", "2001:db8::1", "sk-abcDEF1234567890abcdef"),
        *("Bearer ", "AKIAIOSFODNN7EXAMPLE", "https://u:p@", "api_key=abcd1234efgh5678ijkl", "[EMAIL_1]", "[CARD_9]"),
        *(
            "-----BEGIN PRIVATE KEY-----",
            "-----END PRIVATE KEY-----",
            "```json\n",
            "\n```",
            '{"a": "',
            '"}',
            '{"phone": ',
        ),
        *(" ", "\n", ", ", "+", "@", ".", "-", ":", '"', "\\", "}", "]", "1", "12", "555", "x"),
    ]
)
TEXTS = st.lists(PIECES | st.text(max_size=3), max_size=12).map("".join)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.just(4111111111111111)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS | st.just("phone"), inner, max_size=4),
    max_leaves=8,
)


def redacted(value: Any) -> Any:
    return Redactor(DETECTORS).value(value)


def shape(value: Any) -> Any:
    """Lists and objects with the number of their parts."""
    if isinstance(value, list):
        return [shape(item) for item in value]
    return {"of": [shape(item) for item in value.values()]} if isinstance(value, dict) else None


@given(TEXTS)
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = redacted(text)
    assert redacted(once) == once


@given(JSON.filter(lambda value: isinstance(value, dict | list)))
def test_json_text_stays_json_of_the_same_shape(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, indent=1, ensure_ascii=False)):
        clean = json.loads(redacted(text), object_pairs_hook=_all_pairs)
        assert shape(clean) == shape(value)


def _all_pairs(pairs: list[tuple[str, Any]]) -> dict[int, Any]:
    """Keys that became the same are still two."""
    return {number: value for number, (_, value) in enumerate(pairs)}


@given(JSON)
def test_redacting_json_twice_changes_nothing_more(value: Any) -> None:
    once = redacted(value)
    assert redacted(once) == once


@given(st.integers(10**12, 10**19 - 1))
def test_a_number_that_fails_luhn_stays(number: int) -> None:
    if not luhn(str(number)):
        assert redacted(f"no {number}!") == f"no {number}!"


@given(st.text(alphabet="0123456789 .,-+/", max_size=30))
def test_fewer_than_seven_digits_are_never_touched(text: str) -> None:
    if sum(c.isdigit() for c in text) < 7 and text.count(".") < 3:
        assert redacted(text) == text


@given(TEXTS, TEXTS)
def test_a_thing_has_one_placeholder_in_all_texts_of_a_record(before: str, after: str) -> None:
    first, second = redacted([f"{before} x@y.example ", f" x@y.example {after}"])
    names = {part for part in first.split() if part.startswith("[EMAIL_")}
    assert names & {part for part in second.split() if part.startswith("[EMAIL_")}
