"""Token log-probabilities in both of OpenAI's forms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, repeat
from typing import Any

from policies.gate.tokens import Token, entropy

# OpenAI writes -9999 for a token that is very unlikely; what is far beyond is no log-probability.
LOWEST = -1e6
ALTERNATIVES = 5  # asked for with each token where entropies are looked at: what every provider grants


def tokens_of(logprobs: Any, most: int | None = None) -> list[Token]:
    """The first `most` tokens of a choice's `logprobs`, chat or completions form; [] without any."""
    if not isinstance(logprobs, dict):
        return []
    content = logprobs.get("content")
    return list(islice(_of_chat(content) if isinstance(content, list) else _of_completions(logprobs), most))


def _of_chat(content: list[Any]) -> Iterator[Token]:
    for entry in content:
        if isinstance(entry, dict) and (value := _logprob(entry.get("logprob"))) is not None:
            tops = entry.get("top_logprobs")
            tops = tops if isinstance(tops, list) else []
            alternatives = (top.get("logprob") for top in tops if isinstance(top, dict))
            yield Token(_text(entry.get("token")), value, _entropy(alternatives))


def _of_completions(logprobs: dict[str, Any]) -> Iterator[Token]:
    values = logprobs.get("token_logprobs")
    if not isinstance(values, list):
        return
    texts, tops = (_column(logprobs.get(name), len(values)) for name in ("tokens", "top_logprobs"))
    for text, value, top in zip(texts, values, tops, strict=False):
        if (logprob := _logprob(value)) is not None:
            yield Token(_text(text), logprob, _entropy(top.values() if isinstance(top, dict) else ()))


def _column(values: Any, length: int) -> Iterator[Any]:
    """A list of that length, or so many times nothing."""
    return iter(values) if isinstance(values, list) and len(values) == length else repeat(None, length)


def _entropy(alternatives: Iterable[Any]) -> float | None:
    known = [value for each in alternatives if (value := _logprob(each)) is not None]
    return entropy(known)


def _logprob(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and LOWEST <= value <= -LOWEST else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
