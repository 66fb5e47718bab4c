"""A student's answer as far as it is there, and what its token log-probabilities say of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

FIRST_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Signals:
    """Of an answer's first `tokens` tokens, in nats. `first`: the mean over the first `FIRST_TOKENS` of them.

    Entropies are of the renormalised alternatives that came with each token; None where none came.
    """

    tokens: int
    mean: float
    minimum: float
    first: float
    entropy_mean: float | None = None
    entropy_max: float | None = None


@dataclass(frozen=True, slots=True)
class StudentAnswer:
    """`complete`: the answer was read to its end; else the text and signals are of its beginning.

    `tool_calls`: name and arguments (JSON text) of each. `agreement`: the share of `samples` further samples, or of a
    second model's answers, that say the same. `checks`: the user's own gates by name, True where the answer passed.
    """

    text: str
    signals: Signals | None = None
    finish_reason: str | None = None
    refusal: str | None = None
    tool_calls: tuple[tuple[str, str], ...] = ()
    complete: bool = True
    agreement: float | None = None
    samples: int = 0
    checks: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))


def signals(logprobs: Sequence[float], entropies: Sequence[float] = ()) -> Signals | None:
    """Of token log-probabilities and, where known, entropies; None without a token."""
    if not logprobs:
        return None
    first = logprobs[:FIRST_TOKENS]
    return Signals(
        tokens=len(logprobs),
        mean=math.fsum(logprobs) / len(logprobs),
        minimum=min(logprobs),
        first=math.fsum(first) / len(first),
        entropy_mean=math.fsum(entropies) / len(entropies) if entropies else None,
        entropy_max=max(entropies) if entropies else None,
    )
