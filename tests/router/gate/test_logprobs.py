"""Reading token log-probabilities in both of OpenAI's forms, whatever an upstream makes of them."""

from __future__ import annotations

from math import log
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.gate.tokens import Token
from router.wire.logprobs import tokens_of

HALVES = log(0.5)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["content", "token", "logprob", "top_logprobs", "tokens", "token_logprobs"]), inner
        )
    ),
    max_leaves=12,
)


def chat(*entries: Any) -> dict[str, Any]:
    return {"content": list(entries), "refusal": None}


def test_chat_tokens_have_text_log_probability_and_entropy() -> None:
    tops = [{"token": "a", "logprob": HALVES}, {"token": "b", "logprob": HALVES}]
    found = tokens_of(
        chat({"token": "a", "logprob": HALVES, "top_logprobs": tops}, {"token": "b", "logprob": -2, "top_logprobs": []})
    )
    assert [(token.text, token.logprob) for token in found] == [("a", HALVES), ("b", -2.0)]
    assert found[0].entropy == pytest.approx(log(2)) and found[1].entropy is None


def test_completion_tokens_too() -> None:
    found = tokens_of(
        {
            "tokens": ["a", "b"],
            "token_logprobs": [None, -2.0],
            "top_logprobs": [None, {"b": -2.0, "c": -2.0}],
            "text_offset": [0, 1],
        }
    )
    (token,) = found
    assert (token.text, token.logprob) == ("b", -2.0)
    assert token.entropy == pytest.approx(log(2))


@pytest.mark.parametrize(
    ("logprobs", "tokens"),
    [
        (None, []),
        ({}, []),
        ("x", []),
        (chat("x", None, {"token": "a"}, {"token": "a", "logprob": "low"}), []),
        (chat({"logprob": -1.0, "top_logprobs": "x"}), [Token("", -1.0)]),
        (chat({"token": "a", "logprob": -1.0, "top_logprobs": [None, {"logprob": -1.0}]}), [Token("a", -1.0)]),
        (chat({"token": "a", "logprob": -9999.0}), [Token("a", -9999.0)]),
        (chat({"token": "a", "logprob": float("-inf")}, {"token": "a", "logprob": float("nan")}), []),
        ({"token_logprobs": [-1.0], "tokens": ["a", "b"], "top_logprobs": [{}, {}]}, [Token("", -1.0)]),
        ({"token_logprobs": "x"}, []),
    ],
    ids=str,
)
def test_what_is_no_log_probability_counts_as_absent(logprobs: Any, tokens: list[Token]) -> None:
    assert tokens_of(logprobs) == tokens


@given(JSON)
def test_no_json_is_too_odd(logprobs: Any) -> None:
    assert all(isinstance(token, Token) for token in tokens_of(logprobs))
