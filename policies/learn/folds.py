"""Splits for cross-validation in which no group stands on both sides and every fold has its share of each class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from random import Random

import numpy as np

from policies.learn.rows import Ints


def assign(groups: Sequence[str], strata: Sequence[Hashable], count: int, seed: int = 0) -> Ints:
    """The fold, 0 to `count` - 1, of every example; shape (n,). Deterministic for a seed.

    Examples with the same non-empty group stay together; '' is a group of its own. Groups are dealt out by the
    stratum of their first example, in random order, each to the fold that has the fewest of that stratum (ties: the
    smallest fold). ValueError when there are fewer groups than folds.
    """
    dealt = _members(groups)
    if len(dealt) < count:
        raise ValueError(f"{count} folds need at least {count} groups, got {len(dealt)}")
    Random(seed).shuffle(dealt)
    dealt.sort(key=len, reverse=True)
    fold = np.zeros(len(groups), dtype=np.int64)
    sizes = [0] * count
    per_stratum: dict[Hashable, list[int]] = defaultdict(lambda: [0] * count)
    for places in dealt:
        filled = per_stratum[strata[places[0]]]
        chosen = min(range(count), key=lambda index: (filled[index], sizes[index]))
        fold[places] = chosen
        filled[chosen] += len(places)
        sizes[chosen] += len(places)
    return fold


def splits(fold: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Training and held-out places of each fold."""
    for index in range(int(fold.max()) + 1):
        yield np.flatnonzero(fold != index), np.flatnonzero(fold == index)


def one_of_each(groups: Sequence[str], seed: int = 0) -> tuple[Ints, Ints]:
    """One example of each group, drawn at random, and the sizes of their groups; places rise. '' is as in `assign`.

    Independent where groups are, for what takes examples as independent: each stands for as many as its group has.
    """
    random = Random(seed)
    drawn = sorted((random.choice(places), len(places)) for places in _members(groups))
    places, sizes = np.array(drawn, dtype=np.int64).reshape(-1, 2).T
    return places, sizes


def numbered(groups: Sequence[str]) -> Ints:
    """The number of each example's group, from 0 in the order of their first examples; shape (n,)."""
    numbers = np.empty(len(groups), dtype=np.int64)
    for number, places in enumerate(_members(groups)):
        numbers[places] = number
    return numbers


def count(groups: Sequence[str]) -> int:
    """How many groups there are."""
    return len(_members(groups))


def _members(groups: Sequence[str]) -> list[list[int]]:
    """The places of each group's examples."""
    members: dict[Hashable, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        members[group or place].append(place)
    return list(members.values())
