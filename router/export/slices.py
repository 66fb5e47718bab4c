"""The loss map's slices as an export asks for them: the only place here that knows how they are told.

Most slices are told from the pair alone. Topics and lengths within an opening need all pairs, so that the same pairs
must be read as for `losses`: the same `--route`, `--since` and archives.
"""

from __future__ import annotations

from collections.abc import Sequence

from router.evidence.records import PairRecord
from router.lossmap.corpus import slices_of
from router.lossmap.describe import kind, slice_names

KINDS = "kind:"


def needs_all(names: Sequence[str]) -> bool:
    """Whether one of the slices can only be told from all pairs together."""
    return any(name.startswith("topic:") or " & " in name for name in names)


def memberships(records: Sequence[PairRecord]) -> list[frozenset[str]]:
    """Every slice of each record, topics included."""
    names = [set(slice_names(record)) for record in records]
    for found in slices_of(records):
        for place in found.members.nonzero()[0].tolist():
            names[place].update(name for name in (found.name, *found.aliases) if needs_all([name]))
    return [frozenset(each) for each in names]


def kind_of(record: PairRecord) -> str:
    """The slice of each record that says what its answer is; every record has exactly one."""
    return f"{KINDS}{kind(record)}"


__all__ = ["kind_of", "memberships", "needs_all", "slice_names"]
