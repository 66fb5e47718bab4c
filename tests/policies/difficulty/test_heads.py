"""One head: it is the average that its report says, and neither part of it lacks its constant."""

from __future__ import annotations

import numpy as np
import pytest

from policies.difficulty import heads
from policies.learn import calibrate, stack, trees
from policies.learn.linear import sigmoid
from policies.learn.rows import Floats, Rows, Sparse

RANDOM = np.random.default_rng(0)
DENSE = RANDOM.normal(size=(400, 5))
WORDS = Sparse.of([(np.array([place % 7]), np.ones(1)) for place in range(400)], 7)
ROWS = Rows(DENSE, WORDS)
TARGET = (RANDOM.random(400) < sigmoid(2 * (DENSE[:, 0] > 0.5) - 2.5 + 0.5 * DENSE[:, 1])).astype(float)
WEIGHT = RANDOM.uniform(0.5, 2.0, 400)
FOLD = np.arange(400) % 5


def logits(head: heads.Head) -> Floats:
    return head.linear.logits(ROWS) + steps_of(head)


def steps_of(head: heads.Head) -> Floats:
    return np.array([head.steps.of(row)[0] for row in DENSE])


@pytest.fixture(scope="module")
def head() -> heads.Head:
    return heads.fit(heads.Data({"all": ROWS}, DENSE, WEIGHT, FOLD), TARGET, seed=0)


def test_the_fit_has_the_mean_of_its_target_and_is_closer_to_it_than_what_is_held_out(head: heads.Head) -> None:
    fitted, held_out = sigmoid(logits(head)), sigmoid(head.held_out)
    assert np.average(fitted, weights=WEIGHT) == pytest.approx(np.average(TARGET, weights=WEIGHT), abs=0.01)
    assert calibrate.log_loss(fitted, TARGET, WEIGHT) < calibrate.log_loss(held_out, TARGET, WEIGHT)
    assert np.corrcoef(fitted, held_out)[0, 1] > 0.9


def test_steps_and_lines_share_as_the_report_says(head: heads.Head) -> None:
    lines = heads.fit(heads.Data({"all": ROWS}, None, WEIGHT, FOLD), TARGET, seed=0)
    steps = heads.fit(heads.Data({}, DENSE, WEIGHT, FOLD), TARGET, seed=0)
    shares = head.tried["shares"]
    assert min(shares.values()) > 0.05 and set(shares) == {"all", "steps"}
    parts = [(lines, "all"), (steps, "steps")]
    expected = sum(shares[name] * each.held_out for each, name in parts)
    np.testing.assert_allclose(head.held_out, expected, atol=1e-9)
    alone = steps_of(steps) + steps.linear.bias
    np.testing.assert_allclose(
        logits(head), shares["all"] * lines.linear.logits(ROWS) + shares["steps"] * alone, atol=1e-6
    )


def test_the_numbers_of_trees_are_averaged_by_their_likelihood() -> None:
    head = heads.fit(heads.Data({}, DENSE, WEIGHT, FOLD), TARGET, seed=0)
    losses = np.array([head.tried["log_losses"]["steps"][str(rounds)] for rounds in heads.ROUNDS])
    shares = stack.by_likelihood(losses, WEIGHT)
    assert shares.max() < 1, "one size alone would not show the average"
    start = float(np.average(TARGET, weights=WEIGHT))
    grown = trees.grow(DENSE, TARGET, WEIGHT, heads.GROWTH, seed=0, start=np.full(400, np.log(start / (1 - start))))
    expected = sum(
        share * grown.first(rounds).logits(DENSE) for share, rounds in zip(shares, heads.ROUNDS, strict=True)
    )
    found = steps_of(head) + head.linear.bias
    np.testing.assert_allclose(found - found.mean(), expected - expected.mean(), atol=0.01)
    assert np.average(sigmoid(head.held_out), weights=WEIGHT) == pytest.approx(start, abs=0.02)


def test_an_outcome_that_never_was_gets_a_low_chance_and_breaks_nothing() -> None:
    head = heads.fit(heads.Data({"all": ROWS}, DENSE, WEIGHT, FOLD), np.zeros(400), seed=0)
    assert np.isfinite(logits(head)).all()
    assert sigmoid(logits(head)).max() < 0.02
