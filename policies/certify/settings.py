"""How a floor is configured."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class FloorSettings(BaseModel):
    """`floor:` of a route: the loss per request, over all its traffic, stays at most `alpha`; at any one time it may be
    more with a probability of `delta`.

    While certified at least `audit_rate` of the requests are audited; while calibrating and after an alarm
    `shadow_rate`, where that stays within `max_audits` of all. A calibration stands after `min_audits` and remembers
    about `window` requests. A state that nobody renewed for `stale_s`: the teacher serves. Audits that were due, and of
    which none has come back for `silent_s`, are an alarm.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: float = Field(default=0.02, gt=0, lt=1, description="the loss per request, over all traffic, that is kept")
    delta: float = Field(default=0.06, gt=0, lt=0.5, description="the probability with which it may be more")
    window: int = Field(default=6_000, ge=100, description="requests that a calibration remembers")
    audit_rate: float = Field(default=0.085, gt=0, le=1, description="share of requests audited while certified")
    shadow_rate: float = Field(
        default=0.5, gt=0, le=1, description="share audited while calibrating and after an alarm"
    )
    max_audits: float = Field(
        default=0.1, gt=0, le=1, description="share audited over all, beyond the first calibration"
    )
    min_audits: int = Field(default=150, ge=20, description="audits that a new calibration takes")
    stale_s: float = Field(
        default=60.0, gt=0, allow_inf_nan=False, description="age from which a state counts for nothing"
    )
    silent_s: float = Field(
        default=300.0,
        gt=0,
        allow_inf_nan=False,
        description="how long audits may take: longer than `audit.timeout_s` of the route",
    )

    @model_validator(mode="after")
    def _audits_fit(self) -> FloorSettings:
        if self.audit_rate > self.max_audits:
            raise ValueError(
                f"audit_rate {self.audit_rate:g} is above max_audits {self.max_audits:g}: raise max_audits"
            )
        return self
