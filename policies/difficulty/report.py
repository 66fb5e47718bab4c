"""The training report of a difficulty estimator: what it learnt from, what was tried, and how good it is held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from policies.difficulty import features
from policies.difficulty.heads import Head
from policies.difficulty.model import DifficultyModel
from policies.learn import calibrate, figures, text
from policies.learn.example import Example
from policies.learn.labels import Labels
from policies.learn.linear import sigmoid

TOP = 15
SEEN_WORDS = 5  # conversations that a word must occur in to be named: a name that one of them repeats is not


def report(
    examples: Sequence[Example],
    labels: Labels,
    model: DifficultyModel,
    fitted: Sequence[Head],
    calibration: calibrate.Chosen,
) -> dict[str, Any]:
    """JSON values only. The figures are of the out-of-fold loss."""
    return {
        **figures.of_labels(labels),
        "heads": {
            name: figures.of_head(head.target, sigmoid(head.held_out), labels.weight) | head.tried
            for name, head in zip(model.heads, fitted, strict=True)
        },
        **figures.of_loss(labels, calibration),
        "levels_with_slopes": len(model.levels),
        "words": _top_words(examples, model),
    }


def _top_words(examples: Sequence[Example], model: DifficultyModel) -> dict[str, list[str]]:
    """The words that say most for the teacher (`harder`) and for the student (`easier`), by the linear weights."""
    names = [word for word, count in _conversations(examples).items() if count >= SEEN_WORDS]
    columns = np.array([text.columns([word], features.BITS)[0] for word in names], dtype=np.int64)
    if not names:
        return {"harder": [], "easier": []}
    weights = model.table[columns] @ (np.array([1.0, -1.0, 1.0, -1.0]) if len(model.heads) > 1 else np.ones(1))
    order = np.argsort(-weights, kind="stable")
    ranked = [(names[place].decode("utf-8", "replace"), float(weights[place])) for place in order]
    return {
        "harder": [word for word, weight in ranked if weight > 0][:TOP],
        "easier": [word for word, weight in reversed(ranked) if weight < 0][:TOP],
    }


def _conversations(examples: Sequence[Example]) -> Counter[bytes]:
    """In how many conversations each word occurs, in the order in which the words are met."""
    said: dict[str | int, dict[bytes, None]] = {}
    for place, example in enumerate(examples):
        words = text.words(text.sample(example.query.last or example.query.whole))
        said.setdefault(example.group or place, {}).update(dict.fromkeys(words))
    return Counter(word for words in said.values() for word in words)
