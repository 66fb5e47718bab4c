"""Calibration and the measures of it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.learn import calibrate
from policies.learn.linear import sigmoid
from policies.learn.rows import Floats

RANDOM = np.random.default_rng(0)
HONEST = RANDOM.uniform(0.02, 0.98, 3000)
HAPPENED = (RANDOM.random(3000) < HONEST).astype(float)
ONES = np.ones(3000)
OVERCONFIDENT = sigmoid(3 * np.log(HONEST / (1 - HONEST)))
CHANCES = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def test_honest_probabilities_are_left_alone() -> None:
    chosen = calibrate.choose(HONEST, HAPPENED, ONES)
    assert chosen.calibrator.kind == "none"
    assert set(chosen.log_losses) == set(calibrate.KINDS)


@pytest.mark.parametrize("kind", ["platt", "beta", "isotonic"])
def test_every_kind_mends_overconfidence(kind: calibrate.Kind) -> None:
    mended = calibrate.fit(OVERCONFIDENT, HAPPENED, ONES, kind)(OVERCONFIDENT)
    assert calibrate.expected_calibration_error(OVERCONFIDENT, HAPPENED, ONES) > 0.1
    assert calibrate.expected_calibration_error(mended, HAPPENED, ONES) < 0.03


def test_overconfidence_is_seen_and_mended_by_choice() -> None:
    chosen = calibrate.choose(OVERCONFIDENT, HAPPENED, ONES)
    assert chosen.calibrator.kind != "none"
    assert chosen.log_losses[chosen.calibrator.kind] < chosen.log_losses["none"] - 0.1


def test_held_out_values_are_of_calibrators_that_had_not_seen_them() -> None:
    few = slice(0, 300)
    chosen = calibrate.choose(OVERCONFIDENT[few], HAPPENED[few], ONES[few])
    seen = calibrate.log_loss(chosen.calibrator(OVERCONFIDENT[few]), HAPPENED[few], ONES[few])
    held_out = calibrate.log_loss(chosen.held_out, HAPPENED[few], ONES[few])
    assert held_out == pytest.approx(chosen.log_losses[chosen.calibrator.kind])
    assert held_out > seen


def test_turns_of_a_conversation_do_not_calibrate_each_other() -> None:
    """The score tells conversations apart and says nothing of harm: steps that fit each of them do not pay."""
    for seed in range(8):
        random = np.random.default_rng(seed)
        score = np.clip(np.repeat(random.beta(2, 4, 30), 20) + random.normal(0, 1e-3, 600), 0.01, 0.99)
        harm = np.repeat((random.random(30) < 0.3).astype(float), 20)
        groups = [str(place // 20) for place in range(600)]
        assert calibrate.choose(score, harm, np.ones(600), groups, seed=seed).calibrator.kind != "isotonic"


def test_repeated_examples_of_a_group_make_the_mean_no_surer() -> None:
    values, ones = HONEST[:50], np.ones(50)
    twice = calibrate.standard_error(np.repeat(values, 2), np.ones(100), [str(place // 2) for place in range(100)])
    assert twice == pytest.approx(calibrate.standard_error(values, ones))
    assert calibrate.standard_error(np.repeat(values, 2), np.ones(100)) < 0.8 * twice


@pytest.mark.parametrize(("kind", "size"), [("platt", 3), ("beta", 2), ("isotonic", 0), ("none", 1), ("sine", 2)])
def test_parameters_of_another_kind_are_refused(kind: calibrate.Kind, size: int) -> None:
    with pytest.raises(ValueError, match=f"calibration '{kind}' with {size} parameters"):
        calibrate.Calibrator(kind, np.ones(size))


@pytest.mark.parametrize("kind", calibrate.KINDS)
@given(CHANCES)
def test_a_calibrated_probability_lies_in_the_unit_interval_and_keeps_the_order(
    kind: calibrate.Kind, chances: list[float]
) -> None:
    ordered = np.sort(np.array(chances))
    mapped = FITTED[kind](ordered)
    assert ((mapped >= 0) & (mapped <= 1)).all()
    assert (np.diff(mapped) >= -1e-12).all()


@pytest.mark.parametrize("kind", calibrate.KINDS)
@given(st.floats(0, 1))
def test_one_probability_is_mapped_as_among_others(kind: calibrate.Kind, chance: float) -> None:
    assert FITTED[kind].one(chance) == pytest.approx(float(FITTED[kind](np.array([chance]))[0]), abs=1e-12)


def test_scores_that_fall_with_the_truth_are_calibrated_to_the_mean_not_turned_round() -> None:
    for kind in ("platt", "beta"):
        mapped = calibrate.fit(1 - HONEST, HAPPENED, ONES, kind)(np.array([0.1, 0.9]))
        np.testing.assert_allclose(mapped, HAPPENED.mean(), atol=0.01)


def test_weights_count_as_repeated_examples() -> None:
    weight = np.where(np.arange(3000) < 1000, 2.0, 1.0)
    twice = np.concatenate((np.arange(3000), np.arange(1000)))
    for measure in (calibrate.log_loss, calibrate.brier, calibrate.auc):
        repeated = measure(HONEST[twice], HAPPENED[twice], np.ones(4000))
        assert measure(HONEST, HAPPENED, weight) == pytest.approx(repeated)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=20))
def test_auc_is_the_share_of_pairs_in_the_right_order(examples: list[tuple[int, bool]]) -> None:
    score = np.array([value for value, _ in examples], dtype=float)
    target = np.array([label for _, label in examples], dtype=float)
    pairs = [(up, down) for (up, is_up), (down, is_down) in product(examples, examples) if is_up and not is_down]
    found = calibrate.auc(score, target, np.ones(len(score)))
    if not pairs:
        assert np.isnan(found)
        return
    assert found == pytest.approx(sum((up > down) + 0.5 * (up == down) for up, down in pairs) / len(pairs))


def test_reliability_bins_hold_every_example_and_rise() -> None:
    table = calibrate.reliability(HONEST, HAPPENED, ONES)
    assert sum(row["count"] for row in table) == 3000
    predicted = [row["predicted"] for row in table]
    assert predicted == sorted(predicted)
    assert all(abs(row["predicted"] - row["observed"]) < 0.1 for row in table)


def test_a_certain_and_wrong_probability_has_a_finite_loss() -> None:
    assert np.isfinite(calibrate.log_loss(np.array([0.0, 1.0]), np.array([1.0, 0.0]), np.ones(2)))


def _fitted(kind: calibrate.Kind) -> calibrate.Calibrator:
    overconfident: Floats = OVERCONFIDENT[:500]
    return calibrate.fit(overconfident, HAPPENED[:500], ONES[:500], kind)


FITTED = {kind: _fitted(kind) for kind in calibrate.KINDS}
