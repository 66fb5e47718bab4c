"""Topics of prompts: clusters of their words, named by the words that are most their own.

TF-IDF of words and word pairs, hashed into a fixed number of columns, and k-means by cosine (spherical k-means, Dhillon
and Modha 2001) with a fixed seed, on sorted texts: the same prompts have the same topics, everywhere and in any order.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

COLUMNS = 1024
MOST_TOPICS = 24
FEWEST_TEXTS = 20
FITTED_TEXTS = 4000
WORDS_OF_A_TEXT = 100
NAME_WORDS = 3
ROUNDS = 25
SEED = 7
_WORD = re.compile(r"[^\W\d_]{2,24}")

Matrix = NDArray[np.float32]


def topics(texts: Sequence[str]) -> list[str]:
    """The topic of each text, such as "weather, city, today"; '' where there are too few texts, or no words in it."""
    words = [_WORD.findall(text.lower())[:WORDS_OF_A_TEXT] for text in texts]
    telling = sorted((place for place, found in enumerate(words) if found), key=lambda place: words[place])
    if len(telling) < FEWEST_TEXTS:
        return [""] * len(texts)
    vectors = _tf_idf([words[place] for place in telling])
    clusters = _assign(vectors, _centres(vectors[:: math.ceil(len(telling) / FITTED_TEXTS)]))
    names = _names([words[place] for place in telling], clusters)
    found = dict(zip(telling, (names[cluster] for cluster in clusters.tolist()), strict=True))
    return [found.get(place, "") for place in range(len(texts))]


def _tf_idf(texts: Sequence[Sequence[str]]) -> Matrix:
    """Rows of length one."""
    counts = np.zeros((len(texts), COLUMNS), dtype=np.float32)
    for row, words in enumerate(texts):
        for term, count in Counter((*words, *map(" ".join, pairwise(words)))).items():
            counts[row, crc32(term.encode()) % COLUMNS] += count
    seen = (counts > 0).sum(axis=0)
    weighted: Matrix = np.log1p(counts) * np.log((1 + len(texts)) / (1 + seen)).astype(np.float32)
    return _unit(weighted)


def _centres(vectors: Matrix) -> Matrix:
    rng = np.random.default_rng(SEED)
    centres = _first_centres(vectors, min(MOST_TOPICS, max(2, round(math.sqrt(len(vectors) / 6)))), rng)
    for _ in range(ROUNDS):
        members = _assign(vectors, centres)
        sums = [vectors[members == number].sum(axis=0) for number in range(len(centres))]
        moved = _unit(np.array(sums, dtype=np.float32))
        if np.allclose(moved, centres, atol=1e-5):
            break
        centres = moved
    return centres


def _first_centres(vectors: Matrix, count: int, rng: np.random.Generator) -> Matrix:
    """Far from each other with some luck: k-means++ (Arthur and Vassilvitskii 2007)."""
    chosen = [int(rng.integers(len(vectors)))]
    while len(chosen) < count:
        distance = np.clip(1 - (vectors @ vectors[chosen].T).max(axis=1).astype(np.float64), 0, None) ** 2
        if distance.sum() <= 1e-9:
            break
        chosen.append(int(rng.choice(len(vectors), p=distance / distance.sum())))
    return vectors[chosen]


def _assign(vectors: Matrix, centres: Matrix) -> NDArray[np.int_]:
    nearest: NDArray[np.int_] = (vectors @ centres.T).argmax(axis=1)
    return nearest


def _names(texts: Sequence[Sequence[str]], clusters: NDArray[np.int_]) -> dict[int, str]:
    """For each cluster the words that are in more of its texts than of all; a number tells equal names apart."""
    overall = Counter(word for words in texts for word in set(words))
    names: dict[int, str] = {}
    for cluster in sorted(set(clusters.tolist())):
        inside = [texts[row] for row in np.flatnonzero(clusters == cluster).tolist()]
        counts = Counter(word for words in inside for word in set(words))
        scored = {word: _lift(count, len(inside), overall[word], len(texts)) for word, count in counts.items()}
        best = sorted((word for word in scored if scored[word] > 0), key=lambda word: (-scored[word], word))
        name = ", ".join(best[:NAME_WORDS]) or "other"
        taken = sum(each.partition(" (")[0] == name for each in names.values())
        names[cluster] = f"{name} ({taken + 1})" if taken else name
    return names


def _lift(count: int, inside: int, overall: int, texts: int) -> float:
    """How common a word is in the cluster times how much more common than everywhere; 0 for a word of one text."""
    return count / inside * math.log((count / inside) / (overall / texts)) if count > 1 else 0.0


def _unit(rows: Matrix) -> Matrix:
    lengths = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), dtype=np.float32)
