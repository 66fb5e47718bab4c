"""What examples say, and whether that is enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from policies.learn.example import Example
from policies.learn.labels import Labels, TooFewLabels
from policies.query import Query


def judged(harms: Sequence[float], *, weights: Sequence[float] | None = None, turns: int = 1) -> list[Example]:
    """An example of each harm; every `turns` of them are a conversation."""
    return [
        Example(
            str(place),
            Query(last="hello"),
            harm=harm,
            weight=weights[place] if weights else 1.0,
            group=str(place // turns),
            time=float(place),
        )
        for place, harm in enumerate(harms)
    ]


def test_a_few_that_stand_for_nearly_everything_are_few_whatever_the_rest() -> None:
    harms = [float(place % 2) for place in range(400)]
    weights = [1e6 if place < 3 else 1.0 for place in range(400)]
    with pytest.raises(TooFewLabels, match=r"at least 30 .* there are 3\S*, 1\S* with harm \(of 400, by"):
        Labels.of(judged(harms, weights=weights))
    assert len(Labels.of(judged(harms)).harm) == 400


def test_harm_that_hardly_counts_is_too_little_of_its_class() -> None:
    harms = [float(place < 20) for place in range(200)]
    Labels.of(judged(harms))
    with pytest.raises(TooFewLabels, match="8 of them with harm"):
        Labels.of(judged(harms, weights=[0.1 if harm else 1.0 for harm in harms]))


def test_nothing_is_refused_with_a_count_of_nothing() -> None:
    with pytest.raises(TooFewLabels, match="there are 0, 0 with harm"):
        Labels.of([])


def test_the_latest_example_says_until_when() -> None:
    assert Labels.of(judged([0.0, 1.0] * 20)).until == 39.0


def test_of_each_conversation_one_example_is_kept_and_stands_for_all() -> None:
    labels = Labels.of(judged([0.0, 1.0] * 60, turns=4))
    numbers = np.arange(120.0)
    kept = labels.calibration_set(numbers, numbers, seed=0)
    assert [int(number) // 4 for number in kept.loss] == list(range(30))
    assert kept.weight.tolist() == [4.0] * 30
    assert kept.harm.tolist() == (kept.loss % 2).tolist()


@pytest.mark.parametrize(("harm", "weight"), [(float("nan"), 1.0), (1.5, 1.0), (1.0, 0.0), (1.0, float("inf"))])
def test_a_harm_or_weight_that_is_none_is_refused(harm: float, weight: float) -> None:
    with pytest.raises(ValueError, match=r"example 3 has harm .* and weight"):
        Labels.of(judged([0.0, 1.0, 0.0, harm], weights=[1.0, 1.0, 1.0, weight]))
