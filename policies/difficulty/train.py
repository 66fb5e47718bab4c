"""Trains the difficulty estimator on judged requests; every setting is chosen inside the examples given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from policies.difficulty import features, heads, levels
from policies.difficulty.model import OUTCOMES, QUANTILES, DifficultyModel
from policies.difficulty.report import report
from policies.learn import calibrate, linear
from policies.learn.encoder import Encoder, encoded
from policies.learn.example import Example
from policies.learn.labels import FEW, Labels
from policies.learn.loss import raw_loss
from policies.learn.rows import Floats, Rows
from policies.learn.steps import Steps
from policies.learn.trainers import Progress, silent

OUTLINE = (
    *("log_characters", "log_words", "log_lines", "share_digits", "log_numbers", "log_largest_number"),
    *("log_questions", "choices", "share_code_signs"),
)
"""What the common weights of the logistic model that is mostly of words see of the structure."""


def train(
    examples: Sequence[Example],
    *,
    seed: int = 0,
    progress: Progress | None = None,
    steps: bool | None = None,
    encoder: Encoder | None = None,
) -> DifficultyModel:
    """A `DifficultyModel` of the examples.

    `steps`: whether boosted trees of one split join the logistic models; None: from `FEW` examples on.
    `encoder`: its vectors of the last user turns become dense columns; queries should then carry theirs.
    Raises TooFewLabels, and TrainingNotInstalled without the extra `learn`. How many threads linear algebra takes is up
    to the caller: `policies.learn.trainers.train` allows one, so that the same examples give the same version.
    """
    tell = progress or silent
    labels = Labels.of(examples)
    tell("features", 0.0)
    found = [features.extract(example.query) for example in examples]
    vectors = encoded(encoder, [example.query.encoded for example in examples])
    names, targets = _targets(labels)
    several = levels.choose(found, np.array([each.dense for each in found]), heads.SPARSE_SCALE)
    dense = np.hstack((features.rows(found).dense, vectors))
    grow = len(examples) >= FEW if steps is None else steps
    data = heads.Data(_choices(found, dense, several), dense if grow else None, labels.weight, labels.fold(seed))
    fitted = []
    for place, name in enumerate(names):
        tell(f"head {name}", (place + 0.1) / (len(names) + 0.2))
        fitted.append(heads.fit(data, targets[:, place], seed=seed))
    tell("calibration", 0.95)
    raw = raw_loss(linear.sigmoid(np.stack([head.held_out for head in fitted], axis=1)))
    calibration = calibrate.choose(raw, labels.harm, labels.weight, labels.groups, seed=seed)
    rarity, surprise = _rarity(found)
    rarities = np.quantile(surprise, QUANTILES)
    novelty = np.interp(surprise, rarities, QUANTILES)
    model = _assemble(names, fitted, several, dense, calibration.calibrator, rarity, rarities)
    tell("done", 1.0)
    return replace(
        model,
        encoder=encoder.name if encoder else "",
        centre=vectors.mean(axis=0),
        report=report(examples, labels, model, fitted, calibration),
        calibration_set=labels.calibration_set(np.clip(calibration.held_out, 0.0, 1.0), novelty, seed),
    )


def _targets(labels: Labels) -> tuple[tuple[str, ...], Floats]:
    """The heads and their targets, shape (n, heads): those of the labels, and of scores the `OUTCOMES` too."""
    names, targets = labels.heads
    if labels.scores is None:
        return names, targets
    gain = targets[:, :1] - targets[:, 1:]
    return (*names, *OUTCOMES), np.hstack((targets, np.maximum(gain, 0.0), np.maximum(-gain, 0.0)))


def _choices(found: Sequence[features.Features], dense: Floats, several: levels.Levels) -> dict[str, Rows]:
    """The columns of each logistic model.

    Few examples: no words. Else two sets with words, of which one leaves more to them; structure alone is the steps',
    for its weights mislead on subjects that training never saw.
    """
    few = len(found) < FEW
    sparse = features.rows(found, words=not few).sparse
    assert sparse is not None
    columns = several.rows(found, sparse)
    if few:
        return {"structure": Rows(dense, columns)}
    outline = dense.copy()
    outline[:, [column for column, name in enumerate(features.STRUCTURE) if name not in OUTLINE]] = 0.0
    return {"everything": Rows(dense, columns), "words": Rows(outline, columns)}


def _assemble(
    names: tuple[str, ...],
    fitted: Sequence[heads.Head],
    several: levels.Levels,
    dense: Floats,
    calibrator: calibrate.Calibrator,
    rarity: NDArray[np.float32],
    rarities: Floats,
) -> DifficultyModel:
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
        steps=Steps.together([head.steps for head in fitted]),
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
