"""Training a policy of any kind that can be trained. No learner is imported before it is wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any

from policies.base import PolicyConfig
from policies.cascade import CascadeConfig
from policies.learn.example import Example
from policies.learn.trained import Trained

Progress = Callable[[str, float], None]

# A kind, and what trains it: `train(examples, *, seed, progress, **options)`.
KINDS = {
    "difficulty": "policies.difficulty.train:train",
    "cascade": "policies.gate.train:train",
}


class TrainingRefused(Exception):
    """There is too little to learn from; the message says what is missing."""


def train(
    kind: str,
    examples: Sequence[Example],
    *,
    seed: int = 0,
    progress: Progress | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Trained:
    """A trained policy. Raises TrainingRefused; ImportError where an extra is missing. KeyError for another kind."""
    from policies.difficulty.train import TooFewLabels

    module, _, name = KINDS[kind].partition(":")
    fit: Callable[..., Any] = getattr(import_module(module), name)
    try:
        trained: Trained = fit(examples, seed=seed, progress=progress, **options)
    except TooFewLabels as error:
        raise TrainingRefused(str(error)) from error
    return trained


def options_for(policy: PolicyConfig | None, kind: str) -> dict[str, Any]:
    """What a learner must know of the route's policy: a gate that decides early must learn from as much."""
    early = isinstance(policy, CascadeConfig) and policy.decide_after == "sentence"
    return {"after": "sentence"} if kind == "cascade" and early else {}
