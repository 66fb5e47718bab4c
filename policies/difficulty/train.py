"""Trains the difficulty estimator on judged requests; every setting is chosen inside the examples given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from policies.difficulty import features, heads, levels
from policies.difficulty.model import OUTCOMES, QUANTILES, DifficultyModel, raw_loss
from policies.difficulty.report import report
from policies.learn import calibrate, folds, linear
from policies.learn.artifact import CalibrationSet
from policies.learn.encoder import Encoder, encoded
from policies.learn.example import Example
from policies.learn.extra import single_threaded
from policies.learn.rows import Floats, Rows

MIN_EXAMPLES = 30
MIN_OF_A_CLASS = 8
FEW = 200  # below: structure and identity only
FOLDS = 5

Progress = Callable[[str, float], None]


class TooFewLabels(ValueError):
    """There is not enough to learn from, and the message says what is missing."""


def train(
    examples: Sequence[Example],
    *,
    seed: int = 0,
    progress: Progress | None = None,
    trees: bool | None = None,
    encoder: Encoder | None = None,
) -> DifficultyModel:
    """A `DifficultyModel` of the examples.

    `trees`: whether trees may be grown on what the logistic model leaves over; None: from `FEW` examples on.
    `encoder`: its vectors of the last user turns become dense columns; queries should then carry theirs.
    Raises TooFewLabels, and TrainingNotInstalled without the extra `learn`.
    """
    with single_threaded():
        return _train(examples, seed, progress or _silent, trees, encoder)


def _train(
    examples: Sequence[Example], seed: int, tell: Progress, trees: bool | None, encoder: Encoder | None
) -> DifficultyModel:
    harm = np.array([example.harm for example in examples], dtype=np.float64)
    weight = np.array([example.weight for example in examples], dtype=np.float64)
    groups = [example.group for example in examples]
    check(harm, groups)
    tell("features", 0.0)
    found = [features.extract(example.query) for example in examples]
    vectors = encoded(encoder, [example.query.encoded for example in examples])
    names, targets = _targets(examples)
    several = levels.choose(found, np.array([each.dense for each in found]), heads.SPARSE_SCALE)
    strata = list(map(tuple, (targets[:, :2] > 0.5).tolist()))
    fold = folds.assign(groups, strata, FOLDS, seed)
    data = heads.Data(_choices(found, vectors, several), weight, fold)
    fitted = []
    for place, name in enumerate(names):
        tell(f"head {name}", (place + 0.1) / (len(names) + 0.2))
        grow = len(examples) >= FEW if trees is None else trees
        fitted.append(heads.fit(data, targets[:, place], grow=grow and name not in OUTCOMES, seed=seed))
    tell("calibration", 0.95)
    raw = raw_loss(linear.sigmoid(np.stack([head.held_out for head in fitted], axis=1)))
    calibrator, calibrations = calibrate.choose(raw, harm, weight, seed=seed)
    loss = np.clip(calibrator(raw), 0.0, 1.0)
    rarity, surprise = _rarity(found)
    rarities = np.quantile(surprise, QUANTILES)
    novelty = np.interp(surprise, rarities, QUANTILES)
    model = _assemble(names, fitted, several, data, calibrator, rarity, rarities)
    tell("done", 1.0)
    return replace(
        model,
        encoder=encoder.name if encoder else "",
        centre=vectors.mean(axis=0),
        report=report(examples, model, fitted, calibrations, loss),
        calibration_set=CalibrationSet(loss, novelty, harm, weight),
    )


def check(harm: Floats, groups: Sequence[str] | None = None) -> None:
    """TooFewLabels unless there are enough examples with and without harm, and, where given, groups to fold."""
    harmful = float(harm.sum())
    fewest = min(harmful, len(harm) - harmful)
    if len(harm) < MIN_EXAMPLES or fewest < MIN_OF_A_CLASS:
        raise TooFewLabels(
            f"training needs at least {MIN_EXAMPLES} judged requests, {MIN_OF_A_CLASS} of them with harm and "
            f"{MIN_OF_A_CLASS} without; there are {len(harm)}, {harmful:.4g} with harm: collect more audited pairs"
        )
    count = len({group or place for place, group in enumerate(groups or ())})
    if groups is not None and count < FOLDS:
        raise TooFewLabels(
            f"training needs judged requests of at least {FOLDS} conversations, there are {count}: "
            "collect audited pairs of more conversations"
        )


def _silent(stage: str, share: float) -> None:
    return None


def _targets(examples: Sequence[Example]) -> tuple[tuple[str, ...], Floats]:
    """The heads and their targets, shape (n, heads)."""
    if all(example.teacher is not None and example.student is not None for example in examples):
        scores = np.array([[example.teacher, example.student] for example in examples], dtype=np.float64)
        gain = scores[:, :1] - scores[:, 1:]
        return ("teacher", "student", *OUTCOMES), np.hstack((scores, np.maximum(gain, 0.0), np.maximum(-gain, 0.0)))
    return ("harm",), np.array([[example.harm] for example in examples], float)


def _choices(found: Sequence[features.Features], vectors: Floats, several: levels.Levels) -> dict[str, Rows]:
    """The sets of columns among which cross-validation chooses."""
    choices = {}
    for name, words in (("structure", False), ("words", True)):
        if words and len(found) < FEW:
            continue
        rows = features.rows(found, words=words)
        assert rows.sparse is not None
        choices[name] = Rows(np.hstack((rows.dense, vectors)), several.rows(found, rows.sparse))
    return choices


def _assemble(
    names: tuple[str, ...],
    fitted: Sequence[heads.Head],
    several: levels.Levels,
    data: heads.Data,
    calibrator: calibrate.Calibrator,
    rarity: NDArray[np.float32],
    rarities: Floats,
) -> DifficultyModel:
    dense = data.choices["structure"].dense
    parts = [several.split(head.linear) for head in fitted]
    tables = [each.table for each, _ in parts if each.table is not None]
    return DifficultyModel(
        heads=names,
        bias=np.array([each.bias for each, _ in parts]),
        dense=np.stack([each.dense for each, _ in parts], axis=1),
        table=np.stack(tables, axis=1).astype(np.float32),
        low=dense.min(axis=0),
        high=dense.max(axis=0),
        levels=several.columns,
        slopes=np.stack([slopes for _, slopes in parts], axis=2),
        forests=tuple(head.forest for head in fitted),
        calibrator=calibrator,
        rarity=rarity,
        rarities=rarities,
    )


def _rarity(found: Sequence[features.Features]) -> tuple[NDArray[np.float32], Floats]:
    """Surprise of each column of words, log((n + 1) / (rows with it + 1)), and the mean over each example's words.

    An example's own words count one row less, as if it had not been there.
    """
    seen = np.zeros(1 << features.BITS)
    for each in found:
        seen[each.columns[: each.words]] += 1
    total = len(found) + 1
    surprise = [np.log(total / seen[each.columns[: each.words]]).mean() if each.words else 0.0 for each in found]
    return np.log(total / (seen + 1)).astype(np.float32), np.array(surprise)
