"""Slopes of their own for who asks."""

from __future__ import annotations

import numpy as np

from policies.difficulty import features, levels
from policies.learn import linear
from policies.learn.rows import Rows
from policies.query import Query
from tests.policies.difficulty.examples import judged

SCALE = 16.0
EXAMPLES = judged(200)
FOUND = [features.extract(example.query) for example in EXAMPLES]
BASE = features.rows(FOUND)
ONES = np.ones(200)


def columns_of(query: Query) -> list[int]:
    found = features.extract(query)
    columns: list[int] = found.columns[found.words :].tolist()
    return columns


def test_the_split_model_says_of_every_example_what_the_fitted_one_says() -> None:
    several = levels.choose(FOUND, BASE.dense, SCALE)
    assert BASE.sparse is not None and len(several.columns)
    rows = Rows(BASE.dense, several.rows(FOUND, BASE.sparse))
    fitted = linear.fit(rows, np.array([example.harm for example in EXAMPLES]), ONES, 10.0, SCALE)
    plain, slopes = several.split(fitted)
    assert np.abs(slopes).max() > 0
    deviations = [
        sum(slopes[place] @ each.dense for place, column in enumerate(several.columns) if column in each.columns)
        for each in FOUND
    ]
    np.testing.assert_allclose(plain.logits(BASE) + deviations, fitted.logits(rows), atol=1e-8)


def test_a_caller_with_enough_requests_has_slopes_and_one_with_few_has_not() -> None:
    seldom = [features.extract(Query(last="hello", tenant="seldom"))] * (levels.FEWEST_ROWS - 1)
    chosen = levels.choose(FOUND + seldom, np.array([each.dense for each in FOUND + seldom]), SCALE).columns.tolist()
    assert set(columns_of(Query(tenant="shop", route="sums"))) <= set(chosen)
    assert not set(columns_of(Query(tenant="seldom"))) & set(chosen)


def test_the_only_caller_has_the_common_slopes() -> None:
    alone = [features.extract(Query(last=example.query.last, tenant="only")) for example in EXAMPLES]
    assert not len(levels.choose(alone, np.array([each.dense for each in alone]), SCALE).columns)


def test_of_many_callers_the_most_frequent_have_slopes() -> None:
    counts = {f"tenant{place}": levels.FEWEST_ROWS + place % 3 for place in range(levels.MOST_LEVELS + 10)}
    found = [features.extract(Query(last="hello", tenant=name)) for name, count in counts.items() for _ in range(count)]
    chosen = set(levels.choose(found, np.array([each.dense for each in found]), SCALE).columns.tolist())
    assert len(chosen) == levels.MOST_LEVELS
    busiest = [name for name, count in counts.items() if count == levels.FEWEST_ROWS + 2]
    assert {column for name in busiest for column in columns_of(Query(tenant=name))} <= chosen
