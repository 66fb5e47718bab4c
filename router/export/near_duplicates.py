"""Prompts that are nearly the same: MinHash over word shingles (Broder 1997), found by locality-sensitive hashing.

Compared is what was said since the assistant's last turn, and what was said before it, without system messages: an
instruction that comes with every request makes requests alike, not the same. For the same reason shingles that a tenth
of all prompts have count for nothing, so that a template with different contents gives different prompts.

Deterministic: a prompt joins the first one in the given order that it resembles and that joined no other. The estimate
of the Jaccard similarity has a standard error of at most 0.045 (128 permutations).
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from zlib import crc32

import numpy as np
from datasketch import MinHash, MinHashLSH  # type: ignore[import-untyped]  # no types in the package
from numpy.typing import NDArray

from router.export.example import Message

PERMUTATIONS = 128
THRESHOLD = 0.8
SCHEME = "affine32"
SHINGLE_WORDS = 3
COMMON_SHARE = 0.1
COMMON_PROMPTS = 10  # fewer prompts than this have no template
_WORD = re.compile(r"\w+|[^\w\s]+")

Prompt = tuple[Message, ...]
Shingles = NDArray[np.uint32]  # the checksum of each, once


def clusters(prompts: Sequence[Prompt]) -> list[int]:
    """For each prompt the place of the one that leads its cluster, itself where there is none like it before."""
    sides = [_sides(prompt) for prompt in prompts]
    leaders: dict[Hashable, int] = {}
    first = [leaders.setdefault(side, place) for place, side in enumerate(sides)]
    distinct = [place for place, leader in enumerate(first) if place == leader]
    led = dict(zip(distinct, _alike([sides[place] for place in distinct]), strict=True))
    return [distinct[led[leader]] for leader in first]


def _sides(prompt: Prompt) -> tuple[str, str]:
    """What was said before the assistant's last turn, that turn included, and what came after it."""
    spoken = [message for message in prompt if message.role != "system"]
    last = max((place + 1 for place, message in enumerate(spoken) if message.role == "assistant"), default=0)
    return _words(spoken[:last]), _words(spoken[last:])


def _words(messages: Sequence[Message]) -> str:
    said = (f"{message.text} {' '.join(call.arguments for call in message.calls)}" for message in messages)
    return " ".join(_WORD.findall(" ".join(said).lower()))


def _alike(sides: Sequence[tuple[str, str]]) -> list[int]:
    """The place of each one's leader among `sides`, which are all different."""
    before, after = (_hashes([_shingles(side[n]) for side in sides]) for n in (0, 1))
    index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    leaders: list[int] = []
    for place, hashed in enumerate(after):
        similar = (other for other in sorted(index.query(hashed)) if _similar(place, other, before, after))
        leader = next(similar, place)
        if leader == place:
            index.insert(place, hashed)
        leaders.append(leader)
    return leaders


def _similar(one: int, other: int, before: Sequence[MinHash], after: Sequence[MinHash]) -> bool:
    return all(side[one].jaccard(side[other]) >= THRESHOLD for side in (before, after))


def _shingles(text: str) -> Shingles:
    words = text.split()
    runs = range(max(1, len(words) - SHINGLE_WORDS + 1))
    found = (" ".join(words[start : start + SHINGLE_WORDS]) for start in runs)
    return np.unique(np.array([crc32(run.encode("utf-8", "surrogatepass")) for run in found], dtype=np.uint32))


def _hashes(texts: Sequence[Shingles]) -> list[MinHash]:
    """With one set of permutations for all, and without what too many of them have, unless that is all there is."""
    common = _common(texts)
    told = (np.setdiff1d(text, common, assume_unique=True) for text in texts)
    empty = MinHash(num_perm=PERMUTATIONS, hashfunc=int, scheme=SCHEME)
    hashes = []
    for text, telling in zip(texts, told, strict=True):
        hashed = empty.copy()
        hashed.update_batch((telling if telling.size else text).tolist())
        hashes.append(hashed)
    return hashes


def _common(texts: Sequence[Shingles]) -> Shingles:
    if not texts:
        return np.array([], dtype=np.uint32)
    shingles, counts = np.unique(np.concatenate(texts), return_counts=True)
    common: Shingles = shingles[counts >= max(COMMON_PROMPTS, COMMON_SHARE * len(texts))]
    return common
