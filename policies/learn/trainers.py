"""The kinds of policy that learn, a line each. Nothing of them is imported before it trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from policies.learn.example import Example
from policies.learn.extra import single_threaded
from policies.learn.trained import Trained

Progress = Callable[[str, float], None]
"""Told of each stage and the share that is done."""

# `train(examples, *, seed, progress, **options)` of a kind's module gives a trained policy.
MODULES = {
    "difficulty": "policies.difficulty.train",
    "cascade": "policies.gate.train",
}


def train(
    kind: str, examples: Sequence[Example], *, seed: int = 0, progress: Progress | None = None, **options: Any
) -> Trained:
    """On one core. KeyError for another kind; raises TooFewLabels, and TrainingNotInstalled without the extra."""
    fit: Callable[..., Trained] = import_module(MODULES[kind]).train
    with single_threaded():
        return fit(examples, seed=seed, progress=progress, **options)


def silent(stage: str, share: float) -> None:
    """The progress of a training that nobody watches."""
