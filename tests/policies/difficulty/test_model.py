"""A model with made-up numbers against the formula in its docstring."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from policies.difficulty import features
from policies.difficulty.model import CALLERS, OUTCOMES, QUANTILES, DifficultyModel
from policies.learn.calibrate import Calibrator
from policies.learn.linear import sigmoid
from policies.learn.rows import Floats
from policies.learn.steps import Steps
from policies.query import Query
from tests.policies.difficulty.test_features import QUERIES

RANDOM = np.random.default_rng(0)
KNOWN = Query(tenant="shop", route="sums")
WIDE = len(features.STRUCTURE)
STEPS = Steps(
    column=np.array([features.STRUCTURE.index("log_words"), features.STRUCTURE.index("log_characters")]),
    limit=np.array([2.0, 4.0]),
    height=RANDOM.normal(size=(2, 4)),
)
MODEL = DifficultyModel(
    heads=("teacher", "student", *OUTCOMES),
    bias=RANDOM.normal(size=4),
    dense=RANDOM.normal(size=(WIDE, 4), scale=0.1),
    table=RANDOM.normal(size=(features.WIDTH, 4)).astype(np.float32),
    low=np.full(WIDE, 0.1),
    high=np.full(WIDE, 3.0),
    levels=features.extract(KNOWN).columns,
    slopes=RANDOM.normal(size=(2, WIDE, 4), scale=0.1),
    steps=STEPS,
    calibrator=Calibrator("platt", np.array([0.2, 0.9])),
    rarity=RANDOM.random(1 << features.BITS, dtype=np.float32),
    rarities=np.sort(RANDOM.random(QUANTILES.size)),
)
FORMULA = {name: np.array(tensor) for name, tensor in MODEL.content().tensors.items()}
ASKED = st.builds(
    lambda query, tenant, route: replace(query, tenant=tenant or query.tenant, route=route or query.route),
    QUERIES,
    st.sampled_from(["", "shop", "school"]),
    st.sampled_from(["", "sums"]),
)


def by_formula(query: Query) -> Floats:
    found = features.extract(query)
    sparse = features.rows([found]).sparse
    assert sparse is not None
    bounded = np.clip(found.dense, FORMULA["low"], FORMULA["high"])
    logits = FORMULA["bias"] + bounded @ FORMULA["dense"] + sparse.dot(FORMULA["table"])[0]
    for column, slopes in zip(FORMULA["levels"], FORMULA["slopes"], strict=True):
        if column in found.columns:
            logits += bounded @ slopes
    for column, limit, height in zip(
        *(FORMULA[f"steps.{name}"] for name in ("column", "limit", "height")), strict=True
    ):
        if found.dense[column] > limit:
            logits += height
    return sigmoid(logits)


@settings(max_examples=60)
@given(ASKED)
@example(Query(last="a word " * 20, whole="a word " * 20))  # beyond what bounds the linear part
def test_each_head_s_probability_is_that_of_the_formula(query: Query) -> None:
    np.testing.assert_allclose(MODEL.probabilities([query])[0], by_formula(query), rtol=1e-9, atol=1e-12)


@settings(max_examples=40)
@given(st.lists(ASKED, max_size=4))
def test_any_request_is_scored_alone_as_in_a_batch(queries: list[Query]) -> None:
    batch = zip(MODEL.losses(queries), MODEL.novelty(queries), strict=True)
    assert [(score.loss, score.novelty) for score in map(MODEL.score, queries)] == list(batch)


@settings(max_examples=40)
@given(ASKED)
def test_novelty_is_the_quantile_of_the_mean_surprise_of_the_words(query: Query) -> None:
    found = features.extract(query)
    words = found.columns[: found.words]
    surprise = FORMULA["rarity"][words].mean(dtype=np.float64) if len(words) else FORMULA["rarities"][0]
    expected = np.interp(surprise, FORMULA["rarities"], QUANTILES)
    np.testing.assert_allclose(MODEL.score(query).novelty, expected, atol=1e-4)


def test_a_caller_is_scored_the_same_after_more_others_than_are_kept_at_hand() -> None:
    asked = replace(KNOWN, last="how many apples are left?")
    before = MODEL.score(asked)
    for place in range(CALLERS + 1):
        MODEL.score(replace(asked, tenant=f"tenant {place}"))
    assert MODEL.score(asked) == before
