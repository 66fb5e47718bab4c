"""Training a policy of any kind that can be trained. No learner is imported before it is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from policies.base import PolicyConfig
from policies.learn import artifact, trainers
from policies.learn.encoder import Encoder
from policies.learn.example import Example
from policies.learn.trained import Trained
from policies.learn.trainers import Progress


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
    from policies.learn.labels import TooFewLabels

    try:
        return trainers.train(kind, examples, seed=seed, progress=progress, **options)
    except TooFewLabels as error:
        raise TrainingRefused(str(error)) from error


def about(trained: Trained, models: Mapping[str, Sequence[str]]) -> Trained:
    """As it will be read from its file, with a report that says the versions of which `models` it was taught by."""
    content = artifact.read(artifact.dumps(trained))
    return artifact.loads(artifact.write(replace(content, report={**content.report, "models": models})))


def options_for(policy: PolicyConfig | None, kind: str, encoder: Encoder | None = None) -> dict[str, Any]:
    """What a learner must know of the route: what its policy sees, and the encoder."""
    if kind == "difficulty":
        return {"encoder": encoder} if encoder else {}
    return dict(policy.training_options()) if policy is not None and policy.kind == kind else {}
