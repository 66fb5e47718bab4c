"""Agreement: further answers to the same request, and what their agreement says of the first one.

A model that says the same when it is asked again is more often right (Wang et al. 2022, "Self-consistency",
arXiv:2203.11171; as the gate of a cascade: Yue et al. 2023, arXiv:2310.03094). What it does not know: an error that
the model always makes, or that both models make.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

OWN_TEMPERATURE = 0.7
PRIOR_SAMPLES = 4.0
EVEN = 0.5


class Agreement(BaseModel):
    """`{samples: 2}`: of the student itself; `{model: other, samples: 1}`: of a second cheap model."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    samples: int = Field(default=2, ge=1, le=8, description="further answers, each paid for")
    temperature: float | None = Field(
        default=None, ge=0, le=2, description="default: 0.7 for the student's own, the request's for another model's"
    )
    model: str | None = Field(default=None, min_length=1, description="a second model; default: the student itself")
    comparator: str = Field(default="auto", min_length=1, description="who says that two answers are the same")
    timeout_s: float = Field(
        default=30, gt=0, le=86_400, allow_inf_nan=False, description="an answer that takes longer does not count"
    )

    @model_validator(mode="after")
    def _varies(self) -> Agreement:
        if self.model is None and self.temperature == 0:
            raise ValueError("at temperature 0 the student repeats itself; leave it out, or name another model")
        return self

    @property
    def sampling_temperature(self) -> float | None:
        """What further answers are drawn at; None: as the request says."""
        own = OWN_TEMPERATURE if self.model is None else None
        return own if self.temperature is None else self.temperature


def with_agreement(
    p_wrong: float | None, agreement: float, samples: int, *, prior_samples: float = PRIOR_SAMPLES
) -> float:
    """P(wrong) after a share `agreement` of `samples` further answers said the same.

    The posterior mean (m p + n (1 - agreement)) / (m + n) of a Beta prior with mean p and the weight of m =
    `prior_samples` answers, p = 1/2 where nothing else is known. A rule that needs no data; a learned gate replaces it.
    """
    prior = EVEN if p_wrong is None else p_wrong
    return (prior_samples * prior + samples * (1.0 - agreement)) / (prior_samples + samples)
