"""What the store says of one version of a trained policy, beside its file."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from policies.learn.trained import Trained

Origin = Literal["train", "retrain", "file"]
FIGURES = ("examples", "log_loss", "auc")  # of a report: what a list shows


class VersionRecord(BaseModel):
    """`version`: the digest of its parameters. `created`: Unix time of training, `until`: time of the latest example.

    `origin`: by the command, by scheduled retraining, or a file that was handed in. `figures` of its report. `data`:
    what it was trained from (counts by source, left out by reason), `trial`: the comparison with the version in force
    then; JSON values.
    """

    model_config = ConfigDict(frozen=True)
    kind: str
    version: str
    created: float
    origin: Origin
    until: float = 0.0
    figures: dict[str, float] = {}
    data: dict[str, Any] = {}
    trial: dict[str, Any] | None = None


def record_of(trained: Trained, origin: Origin, created: float, **more: Any) -> VersionRecord:
    """`more`: `until`, `data`, `trial`."""
    figures = {name: value for name in FIGURES if isinstance(value := trained.report.get(name), int | float)}
    return VersionRecord(
        kind=trained.kind, version=trained.version, created=created, origin=origin, figures=figures, **more
    )
