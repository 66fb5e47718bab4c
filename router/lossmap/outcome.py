"""Whether a pair counts as a loss, after what is known of whose mistake it was."""

from __future__ import annotations

from router.evidence.records import PairRecord

NO_LOSS = frozenset({"equivalent", "teacher_wrong"})
UNDECIDED = frozenset({"ambiguous", "comparator_failed"})  # kinds of verdict: nobody could say


def is_loss(record: PairRecord) -> bool:
    """A harmful verdict, unless the answers are equivalent or the teacher is wrong; what a person says comes first.

    What is ambiguous counts as a loss: an unknown must not look like retention.
    """
    triage = record.triage
    if triage is None:
        return record.verdict.harm
    return triage.label not in NO_LOSS and (record.verdict.harm or triage.basis == "human")


def is_excused(record: PairRecord) -> bool:
    """The comparator found a harmful difference, and triage or a person took it back."""
    return record.verdict.harm and not is_loss(record)


def is_ambiguous(record: PairRecord) -> bool:
    """It counts as a loss, and whose mistake it is nobody knows."""
    if not is_loss(record):
        return False
    if record.triage is not None and record.triage.basis == "human":
        return record.triage.label == "ambiguous"
    return record.verdict.kind in UNDECIDED or (record.triage is not None and record.triage.label == "ambiguous")
