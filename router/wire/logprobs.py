"""Token log-probabilities in both of OpenAI's forms, and the gate's score over them."""

from __future__ import annotations

import math
from typing import Any

# OpenAI writes -9999 for a token that is very unlikely; what is far beyond is no log-probability.
LOWEST = -1e6


def token_logprobs(logprobs: Any) -> list[float]:
    """The log-probability (nats) of each token of a choice's `logprobs`, chat or completions form; [] without any."""
    if not isinstance(logprobs, dict):
        return []
    values: Any = logprobs.get("token_logprobs")
    content = logprobs.get("content")
    if isinstance(content, list):
        values = [token.get("logprob") for token in content if isinstance(token, dict)]
    if not isinstance(values, list):
        return []
    return [float(value) for value in values if isinstance(value, int | float) and LOWEST <= value <= -LOWEST]


def mean_score(by_choice: list[list[float]], tokens: int) -> float | None:
    """The lowest mean over the choices, each over its first `tokens` tokens; None when a choice has none."""
    if not by_choice or not all(by_choice):
        return None
    return min(math.fsum(values[:tokens]) / len(values[:tokens]) for values in by_choice)
