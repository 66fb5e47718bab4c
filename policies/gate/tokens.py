"""The tokens of an answer as a gate counts them: text, log-probability, entropy."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, fsum, log
from typing import NamedTuple

from policies.gate.answer import Signals, signals


class Token(NamedTuple):
    """`logprob` in nats; `entropy` in nats, None where the token came without alternatives."""

    text: str
    logprob: float
    entropy: float | None = None


def entropy(logprobs: Sequence[float]) -> float | None:
    """Shannon's entropy (nats) of a token's alternatives: -sum q ln q with q = exp(l) / sum exp(l).

    The few best alternatives stand for the whole vocabulary, so that it is a lower bound of the spread, at most the
    logarithm of their number. None for fewer than two, of which nothing can be said.
    """
    if len(logprobs) < 2:
        return None
    top = max(logprobs)
    weights = [exp(value - top) for value in logprobs]
    total = fsum(weights)
    # ln q = l - top - ln(total); its mean over q is the entropy with the sign turned.
    spread = log(total) - fsum(w * (value - top) for w, value in zip(weights, logprobs, strict=True)) / total
    return max(0.0, spread)


def signals_of(tokens: Sequence[Token]) -> Signals | None:
    """What the tokens say of the answer; None without a token."""
    return signals(
        [token.logprob for token in tokens], [token.entropy for token in tokens if token.entropy is not None]
    )
