"""Slices of traffic: from the labels of each pair to sets of pairs that are worth testing, each set once.

A slice may only depend on the request and on the teacher's answer, never on whether the student's differs: which slices
there are, and which are merged, must not be chosen by the losses that are then tested on them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Members = NDArray[np.bool_]
ALIKE = 0.9
"""Jaccard's index above which two slices are one."""


@dataclass(frozen=True, slots=True)
class Slice:
    """`members`: which pairs are in it. `aliases`: names of nearly the same set.

    `lost`: where it loses, for a slice that asks for less than the pair's whole answer (one field of it); else None.
    """

    name: str
    members: Members
    aliases: tuple[str, ...] = ()
    lost: Members | None = None

    @property
    def size(self) -> int:
        return int(self.members.sum())


def label_slices(
    labels: Sequence[Collection[str]], *, fewest: int, largest_share: float = 0.9, most: int = 60
) -> list[Slice]:
    """A slice for each label on `fewest` pairs or more, and on at most `largest_share` of them; the `most` frequent.

    What is nearly all of the traffic has no rest to be compared with.
    """
    counts = Counter(label for carried in labels for label in set(carried))
    usual = [
        (label, count) for label, count in counts.items() if fewest <= count <= largest_share * max(len(labels), 1)
    ]
    chosen = sorted(usual, key=lambda item: (-item[1], item[0]))[:most]
    return [Slice(label, np.array([label in carried for carried in labels], dtype=np.bool_)) for label, _ in chosen]


def merge(slices: Sequence[Slice], readability: Callable[[str], Any]) -> list[Slice]:
    """Of slices with nearly the same members the one whose name has the least `readability` key; the others' names
    become its aliases. Slices with losses of their own are only merged when those are nearly the same too."""
    kept: list[Slice] = []
    for candidate in sorted(slices, key=lambda each: (readability(each.name), each.name)):
        twin = next((number for number, each in enumerate(kept) if _alike(each, candidate)), None)
        if twin is None:
            kept.append(candidate)
        else:
            kept[twin] = replace(kept[twin], aliases=(*kept[twin].aliases, candidate.name))
    return kept


def jaccard(one: Members, other: Members) -> float:
    """Shared members over all members; 1 for two empty sets."""
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else 1.0


def _alike(one: Slice, other: Slice) -> bool:
    if (one.lost is None) != (other.lost is None) or jaccard(one.members, other.members) <= ALIKE:
        return False
    return one.lost is None or other.lost is None or jaccard(one.lost, other.lost) > ALIKE
