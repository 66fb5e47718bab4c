"""What trained policies need of the configuration: scheduled retraining and encoders, both of a route."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from policies.base import PolicyConfig
from policies.learn.trained import FILE
from policies.learn.trainers import MODULES
from router.budget_settings import rolling
from router.setting_types import Block, Name, Seconds
from router.trained.store import NAME


def _period(value: str) -> str:
    if rolling(value) is None:
        raise ValueError(f"'{value}' is a calendar window; expected a period such as 90m, 24h, 7d")
    return value


Period = Annotated[str, AfterValidator(_period)]


class Training(Block):
    """Learn anew from the route's pairs now and then. A new version is tried on pairs that neither it nor the version
    in force has learned from, and promoted where it wins with confidence; else it is kept as a candidate."""

    every: Period = Field(default="24h", description="90m, 24h, 7d: from one training to the next")
    since: Period = Field(default="30d", description="learn from the pairs of this time")
    min_pairs: int = Field(default=200, ge=30, description="with fewer nothing is trained")
    trial_pairs: int = Field(default=50, ge=20, description="with fewer newer ones nothing is tried")
    delta: float = Field(
        default=0.05, gt=0, lt=0.5, description="P(any worse version is promoted while one version is in force)"
    )
    promote: bool = Field(default=True, description="false: a version that won stays a candidate, too")
    timeout_s: Seconds = Field(default=3600, description="a training that takes longer is ended")

    @property
    def every_s(self) -> float:
        return _seconds(self.every)

    @property
    def since_s(self) -> float:
        return _seconds(self.since)


class EmbeddingsSettings(Block):
    """A configured model that serves `/v1/embeddings`."""

    kind: Literal["embeddings"]
    model: Name
    timeout_s: Seconds = Field(default=0.5, description="a decision that waited so long is made without a vector")


class OnnxSettings(Block):
    """A sentence encoder exported with `input_ids` and `attention_mask`, and its tokenizer.json."""

    kind: Literal["onnx"]
    model: Path
    tokenizer: Path
    max_tokens: int = Field(default=256, ge=8, le=8192, description="of each text; the rest is not looked at")
    timeout_s: Seconds = Field(default=0.5, description="a decision that waited so long is made without a vector")


EncoderSettings = Annotated[EmbeddingsSettings | OnnxSettings, Field(discriminator="kind")]
ENCODER_KINDS = ("embeddings", "onnx")


def encoder_problems(
    routes: Mapping[str, tuple[PolicyConfig, EncoderSettings | None]], models: Collection[str]
) -> Iterator[str]:
    """A line for each encoder that could not be asked, whose vectors nobody would use, or that is not the only one of
    what two routes follow."""
    first: dict[str, tuple[str, EncoderSettings]] = {}
    for name, (policy, encoder) in routes.items():
        followed = policy.trained_for(name)
        if encoder is not None and followed is not None:
            other, its_encoder = first.setdefault(followed, (name, encoder))
            if its_encoder != encoder:
                yield f"routes.{name}.encoder: routes.{other} follows '{followed}', too: give both the same encoder"
        if encoder is not None and policy.kind != "difficulty":
            yield f"routes.{name}.encoder: policy '{policy.kind}' has no use for it; `difficulty` does"
        if isinstance(encoder, EmbeddingsSettings) and encoder.model not in models:
            yield f"routes.{name}.encoder.model: unknown model '{encoder.model}'; known: {', '.join(models)}"


def trained_kind(name: str | None) -> str | None:
    """The kind of a trained policy of the store by its name; None where there is none, or nothing trains it."""
    if name is None or name.startswith(FILE):
        return None
    kind = name.rpartition(":")[2]
    return kind if kind in MODULES else None


def store_problems(path: str, policy: PolicyConfig, followed: str | None, *, has_redis: bool) -> Iterator[str]:
    """A line where nothing can ever be in force under the name that a policy follows; None: it follows nothing.

    `path`: of the policy in the file.
    """
    if followed is None or followed.startswith(FILE):
        return
    if not has_redis:
        yield f"{path}: trained policies are kept in redis; add it, or name a `file`"
    of_another = policy.kind in MODULES and trained_kind(followed) != policy.kind
    if of_another or not NAME.fullmatch(followed):
        yield (
            f"{path}.trained: '{followed}' is no trained policy of kind {policy.kind}; expected ROUTE:{policy.kind}, "
            f"such as auto:{policy.kind}"
        )


def training_problems(routes: Mapping[str, tuple[PolicyConfig, Training | None]], *, has_redis: bool) -> Iterator[str]:
    """A line for each route whose `training` would train nothing."""
    for name, (policy, training) in routes.items():
        if training is None:
            continue
        if not has_redis:
            yield f"routes.{name}.training: trained policies are kept in redis; add it"
        yield from _unfollowed(name, policy)


def _unfollowed(route: str, policy: PolicyConfig) -> Iterator[str]:
    """What is trained is `ROUTE:KIND`: a policy that follows something else would never see it."""
    followed, path = policy.trained_for(route), f"routes.{route}.training"
    if followed is not None and followed.startswith(FILE):
        yield f"{path}: the policy follows a `file`; leave `file` out to follow what is trained"
    elif followed is not None and followed != f"{route}:{policy.kind}":
        yield f"{path}: the policy follows '{followed}'; put `training` on that route, or leave `trained` out"
    elif trained_kind(followed) is None:
        yield f"{path}: policy '{policy.kind}' learns nothing that can be trained; known: {', '.join(MODULES)}"


def _seconds(period: str) -> float:
    length = rolling(period)
    assert length is not None, "checked when it was read"
    return length.total_seconds()
