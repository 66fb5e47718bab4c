"""The pair record: what a comparison of teacher and student leaves behind; versioned, the raw material of training."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from policies.base import Arm
from router.evidence.compare.base import Verdict
from router.price_settings import Price

SCHEMA_VERSION: Literal[2] = 2
Split = Literal["train", "val", "test"]
Sample = Literal["audit", "escalation", "confidence", "novelty"]
TriageLabel = Literal["student_wrong", "teacher_wrong", "equivalent", "ambiguous"]
TRIAGE_LABELS: tuple[TriageLabel, ...] = ("student_wrong", "teacher_wrong", "equivalent", "ambiguous")

USER_FIELDS = ("safety_identifier", "user")  # of a request: both may be there, and say different things


class Tokens(BaseModel):
    model_config = ConfigDict(frozen=True)
    input: int
    output: int
    cached_input: int = 0
    reasoning: int = 0
    image_input: int = 0
    audio_input: int = 0
    audio_output: int = 0


class AnswerSignals(BaseModel):
    """See `policies.gate.answer.Signals`: of an answer's first tokens, in nats."""

    model_config = ConfigDict(frozen=True)
    tokens: int
    mean: float
    minimum: float
    first: float
    entropy_mean: float | None = None
    entropy_max: float | None = None


class ArmAnswer(BaseModel):
    """One arm's full answer. `error`: it failed, and that is data. `mean_logprob` in nats, where it is known.

    `signals`: of its first tokens; earlier records lack them. `agreement`, `samples`, `checks`: what a cascade's gate
    found out about it beyond the answer itself, as in `policies.gate.answer.StudentAnswer`.
    """

    model_config = ConfigDict(frozen=True)
    model: str
    text: str = ""
    tool_calls: list[dict[str, str]] = []
    finish_reason: str | None = None
    refusal: str | None = None
    error: str | None = None
    tokens: Tokens = Tokens(input=0, output=0)
    cost_nano_usd: int = 0
    estimated: bool = False
    mean_logprob: float | None = None
    signals: AnswerSignals | None = None
    agreement: float | None = None
    samples: int = 0
    checks: dict[str, bool] = {}


class VerdictRecord(BaseModel):
    """See `router.evidence.compare.base.Verdict`."""

    model_config = ConfigDict(frozen=True)
    same: bool
    score: float
    harm: bool
    kind: str
    diff: str
    comparator: str
    version: int
    checks: dict[str, bool] = {}
    preferred: Literal["teacher", "student", "tie"] | None = None
    judged: bool = False


class Triage(BaseModel):
    """Whose mistake a disagreement is, and what that was told from; `basis` "none": nothing but the two answers."""

    model_config = ConfigDict(frozen=True)
    label: TriageLabel
    basis: Literal["outcome", "checks", "judge", "second_draw", "human", "none"]


class LabelRecord(BaseModel):
    """What a person says of a pair; `id` is the pair's. `by`: who, `key`: the API key it came with ("": the shell)."""

    model_config = ConfigDict(frozen=True)
    schema_version: Literal[1] = 1
    id: str
    time: float
    label: TriageLabel
    by: str
    note: str = ""
    key: str = ""


class PairRecord(BaseModel):
    """Both answers to one request, with the probabilities that make it count.

    `served`: which arm the client got. `teacher_probability`: the propensity of the decision. `sample`: why it was
    looked at; `audit_probability`: of the uniform draw, `probability`: of being looked at for any reason, which is what
    an estimate divides by. `second`: the teacher's second answer, `second_verdict`: it against the first one,
    `second_student`: the student's answer against it; `noise_probability`: of the second draw, given the pair, where
    it was drawn uniformly, else 0. `triage`: None where the answers agree. `users`: what the request calls its end
    user, see `users_of`. Versions are hashes of the models' configuration. `training_use`: whether the teacher's
    licence lets its answers train another model. `prices`: of each model's tokens at that time, in USD per million.
    `split` is fixed here, by conversation, so that no later step can mix training and test.
    """

    model_config = ConfigDict(frozen=True)
    schema_version: Literal[2] = SCHEMA_VERSION
    id: str
    time: float
    endpoint: str
    route: str
    tenant: str
    key: str = ""
    users: list[str] = []
    stream: bool = False
    needs: list[str] = []
    policy: str
    policy_version: str
    reason: str
    served: Arm
    teacher_probability: float
    sample: Sample = "audit"
    audit_probability: float
    probability: float
    teacher_version: str
    student_version: str
    request: dict[str, Any]
    teacher: ArmAnswer
    student: ArmAnswer
    verdict: VerdictRecord
    second: ArmAnswer | None = None
    second_verdict: VerdictRecord | None = None
    second_student: VerdictRecord | None = None
    noise_probability: float = 0.0
    triage: Triage | None = None
    prices: dict[str, Price]
    training_use: Literal["allow", "deny", "unknown"]
    split: Split


def verdict_record(verdict: Verdict) -> VerdictRecord:
    return VerdictRecord(
        same=verdict.same,
        score=verdict.score,
        harm=verdict.harm,
        kind=verdict.kind,
        diff=verdict.diff,
        comparator=verdict.comparator,
        version=verdict.version,
        checks=dict(verdict.checks),
        preferred=verdict.preferred,
        judged=verdict.judged,
    )


def users_of(request: Mapping[str, object]) -> list[str]:
    """Every name that a request gives its end user, each once."""
    names = (name for field in USER_FIELDS if isinstance(name := request.get(field), str) and name)
    return list(dict.fromkeys(names))


def split_of(conversation: bytes) -> Split:
    """80% train, 10% validation, 10% test, by a hash of the conversation: all its turns share one split."""
    draw = int.from_bytes(blake2b(conversation, digest_size=4, key=b"distill-router data").digest(), "big") % 10
    return "test" if draw == 0 else "val" if draw == 1 else "train"
