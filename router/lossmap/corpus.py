"""All slices of a set of pairs: those of each pair, topics, and openings split by length; nearly equal ones merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from policies.slices import Slice, label_slices, merge
from router.evidence.records import PairRecord
from router.lossmap.describe import slice_names
from router.lossmap.fields import lost_fields
from router.lossmap.topics import topics
from router.prompt import read_prompt

FEWEST = 5
"""Pairs of a slice; fewer cannot be told from chance."""
# Of two names for one set of pairs, the one whose dimension comes first is shown.
READABILITY = ("tool", "opening", "system", "kind", "field", "language", "length", "topic")


def slices_of(records: Sequence[PairRecord]) -> list[Slice]:
    """Which requests to look at together. Chosen and merged without a look at the losses."""
    labels = _by_dimension([slice_names(record) for record in records])
    found = [each for carried in labels.values() for each in label_slices(carried, fewest=FEWEST)]
    whole = merge([each for each in found if not each.name.startswith("field:")], _readability)
    prompts = [read_prompt(record.request, record.endpoint) for record in records]
    found_topics = topics([prompt.last or prompt.whole for prompt in prompts])
    by_topic = [{f"topic:{topic}"} if topic else set() for topic in found_topics]
    lengths = np.array([len(prompt.last) for prompt in prompts])
    split = [half for each in _shortest_openings(whole) for half in _halves(each, lengths)]
    everything = merge([*whole, *label_slices(by_topic, fewest=FEWEST), *split], _readability)
    return everything + merge(_fields(records, found), _readability)


def _by_dimension(labels: Sequence[frozenset[str]]) -> dict[str, list[set[str]]]:
    """Each dimension by itself, so that many openings leave room for the tools."""
    dimensions = sorted({label.partition(":")[0] for carried in labels for label in carried})
    return {
        dimension: [{label for label in carried if label.startswith(f"{dimension}:")} for carried in labels]
        for dimension in dimensions
    }


def _shortest_openings(slices: Sequence[Slice]) -> list[Slice]:
    """Those that continue no other one: halves of halves would be many tests that say little."""
    openings = [each for each in slices if each.name.startswith("opening:")]
    return [each for each in openings if not any(each.name.startswith(f"{other.name} ") for other in openings)]


def _halves(each: Slice, lengths: NDArray[np.int_]) -> list[Slice]:
    """An opening's shorter and longer messages, split at the median."""
    middle = int(np.median(lengths[each.members]))
    longer = lengths >= middle
    halves = [
        Slice(f"{each.name} & under {middle} characters", each.members & ~longer),
        Slice(f"{each.name} & {middle} characters or more", each.members & longer),
    ]
    return halves if min(half.size for half in halves) >= FEWEST else []


def _fields(records: Sequence[PairRecord], found: Sequence[Slice]) -> list[Slice]:
    """Those of structured answers, each with its own losses."""
    slices = [each for each in found if each.name.startswith("field:")]
    if not slices:
        return []
    lost = [lost_fields(record.teacher, record.student) for record in records]
    return [
        replace(each, lost=np.array([each.name.removeprefix("field:") in paths for paths in lost])) for each in slices
    ]


def _readability(name: str) -> tuple[bool, int, int]:
    """Plain before combined, by dimension, and of one dimension the longer text: it says more."""
    return "&" in name, READABILITY.index(name.partition(":")[0]), -len(name)
