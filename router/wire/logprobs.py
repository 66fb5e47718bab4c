"""Token log-probabilities in both of OpenAI's forms, and the gate's score over them."""

from __future__ import annotations

import math
from typing import Any


def token_logprobs(logprobs: Any) -> list[float]:
    """The log-probability (nats) of each token of a choice's `logprobs`, chat or completions form; [] without any."""
    if not isinstance(logprobs, dict):
        return []
    content = logprobs.get("content")
    if isinstance(content, list):
        values = [token.get("logprob") for token in content if isinstance(token, dict)]
    else:
        values = logprobs.get("token_logprobs") or []
    return [float(value) for value in values if isinstance(value, int | float) and not math.isnan(value)]


def mean_score(by_choice: list[list[float]], tokens: int) -> float | None:
    """The lowest mean over the choices, each over its first `tokens` tokens; None when a choice has none."""
    if not by_choice or not all(by_choice):
        return None
    return min(math.fsum(values[:tokens]) / len(values[:tokens]) for values in by_choice)
