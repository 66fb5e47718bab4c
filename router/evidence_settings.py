"""What is compared, what is kept of it and for how long, as it is configured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from router.budget_settings import LimitUsd
from router.evidence.streams import MAX_SHARDS
from router.setting_types import Block, Name, Seconds

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Days = Annotated[float, Field(gt=0, le=3660, allow_inf_nan=False)]


class Evidence(Block):
    """Where decision rows and pairs go: bounded Redis streams, and a bounded spool on disk that outlives both."""

    shards: int = Field(default=1, ge=1, le=MAX_SHARDS, description="each stream in so many keys; for Redis Cluster")
    spool_dir: Path = Field(default=Path("spool"), description="relative to the working directory")
    spool_max_bytes: int = Field(default=256 * 1024 * 1024, ge=1024 * 1024)
    queue_max_records: int = Field(default=20_000, ge=1)
    queue_max_bytes: int = Field(default=64 * 1024 * 1024, ge=64 * 1024)
    decisions_max: int = Field(default=1_000_000, ge=1, description="rows kept in Redis")
    decisions_max_bytes: int = Field(default=512 * 1024 * 1024, ge=1024 * 1024, description="of rows, about")
    decisions_days: Days = Field(default=30, description="older rows leave Redis")
    pair_max_bytes: int = Field(default=256 * 1024, ge=1024, description="a larger pair is dropped and counted")
    pairs_max_bytes: int = Field(default=256 * 1024 * 1024, ge=1024 * 1024, description="of disagreements, about")
    pairs_max: int = Field(default=50_000, ge=1, description="disagreements kept, and as many agreements")
    pairs_days: Days = Field(default=30, description="older pairs and labels leave Redis")


class Targeted(Block):
    """Comparisons beyond the uniform audit, where they teach most; each is a share of the requests it is about."""

    escalations: Share = Field(default=0.1, description="both answers are there: no further call")
    low_confidence: Share = Field(default=0.0, description="answers that a cascade accepted, but not surely")
    margin: Share = Field(default=0.2, description="not surely: P(wrong) less than this below escalate_at")
    novelty: Share = Field(default=0.0, description="the first requests with an opening that was not seen before")


class Audit(Block):
    """Ask the other arm in the background for this share of the route's requests, and compare."""

    rate: Share = 0.0
    comparator: Name = "auto"
    targeted: Targeted = Targeted()
    budget_usd_per_day: LimitUsd | None = Field(
        default=None, description="for shadow calls, second draws and judges together; hard; needs redis"
    )
    second_draw: Share = Field(
        default=0.1, description="of audited pairs: the teacher is asked twice, for the noise floor"
    )
    confirm: Share = Field(
        default=1.0, description="of disagreements: the teacher is asked again, to tell whose mistake it was"
    )
    max_in_flight: int = Field(default=32, ge=1, description="audits at a time and worker")
    timeout_s: Seconds = 120

    @model_validator(mode="after")
    def _targets(self) -> Audit:
        if not self.rate and (self.targeted.low_confidence or self.targeted.novelty):
            raise ValueError("targeted comparisons without `rate` say nothing about the rest; rate: 0.01 is a start")
        return self


class Retention(Block):
    """How the live figures are computed."""

    window_days: int = Field(default=7, ge=1, le=30, description="UTC days, today included")
    confidence: float = Field(default=0.95, ge=0.5, le=0.9999)
    min_pairs: int = Field(default=50, ge=1, description="with fewer there is no figure")
