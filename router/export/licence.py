"""Whether the teachers' answers may train another model. Not allowed, or not known: nothing leaves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from router.errors import ConfigError
from router.evidence.records import PairRecord
from router.settings import Config


def require_training_use(records: Sequence[PairRecord], config: Config) -> None:
    """Raises ConfigError with the teachers, the counts and what to do.

    What counts is the licence when the answer was given, which the record holds, and the one that is configured now.
    """
    problems = [*_as_recorded(records), *_as_configured(records, config)]
    if problems:
        raise ConfigError("\n".join(problems))


def _as_recorded(records: Sequence[PairRecord]) -> Iterator[str]:
    counts = Counter((record.teacher.model, record.training_use) for record in records)
    for (model, use), n in sorted(counts.items()):
        if use != "allow":
            yield (
                f"training_use: {n} of {len(records)} records hold answers that '{model}' gave while "
                f"models.{model}.training_use was {use}; nothing is exported. Where its licence permits training, set "
                "it to allow, and export what is recorded from then on (--since)"
            )


def _as_configured(records: Sequence[PairRecord], config: Config) -> Iterator[str]:
    counts = Counter(record.teacher.model for record in records if record.training_use == "allow")
    for name, n in sorted(counts.items()):
        model = config.models.get(name)
        if model is None:
            yield (
                f"training_use: {n} of {len(records)} records hold answers of '{name}', which is no longer among the "
                f"models: nobody says that its answers may train others. Add models.{name} with training_use: allow, "
                "or choose others (--route, --since)"
            )
        elif model.training_use != "allow":
            yield (
                f"models.{name}.training_use: is {model.training_use}, so that its {n} answers are not exported, "
                "although it was allow when they were given. Set it to allow if the licence permits training"
            )
