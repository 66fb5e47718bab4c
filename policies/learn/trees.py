"""Gradient-boosted trees: grown by LightGBM (the extra `learn`), served from flat numpy arrays.

A gateway that only serves needs neither LightGBM nor libgomp. The evaluator gives exactly what the booster gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.learn.extra import lightgbm
from policies.learn.rows import Floats, Ints

CHUNK = 512  # rows that are walked down all trees at once
DEEPEST = 256  # steps that a file may ask for


@dataclass(frozen=True, slots=True)
class Growth:
    """How the trees grow. `rounds`: one tree each. `leaves` and `depth` bound a tree, `leaf_rows` a leaf."""

    rounds: int = 120
    rate: float = 0.04
    leaves: int = 8
    depth: int = 4
    leaf_rows: int = 20
    ridge: float = 10.0
    columns: float = 0.5
    rows: float = 0.8


@dataclass(frozen=True, slots=True)
class Forest:
    """All nodes of all trees in one row of arrays; a leaf is its own child.

    `children[2 * i]` is where node i sends a row whose column `column[i]` is at most `limit[i]`, `children[2 * i + 1]`
    where it sends the others; NaN goes right where `nan_right[i]`. `roots` is (trees,), `depth` the steps to any leaf.
    """

    roots: Ints
    column: Ints
    limit: Floats
    children: Ints
    nan_right: NDArray[np.bool_]
    value: Floats
    depth: int
    _lefts: Ints = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_lefts", np.arange(0, self.children.size, 2))

    def logits(self, dense: Floats) -> Floats:
        """The sum of all trees' leaves for each row of `dense`, (n, d) to (n,), added in the order of the trees."""
        parts = [self._chunk(dense[start : start + CHUNK]) for start in range(0, len(dense), CHUNK)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def logit(self, row: Floats) -> float:
        """The same for one row, shape (d,): all splits are decided at once, then only the paths are followed."""
        if not len(self.roots):
            return 0.0
        values = row.take(self.column)
        right = (values > self.limit) | (np.isnan(values) & self.nan_right)
        following = self.children.take(self._lefts + right)
        node = self.roots
        for _ in range(self.depth):
            node = following[node]
        return float(np.add.accumulate(self.value[node])[-1])

    def _chunk(self, dense: Floats) -> Floats:
        node = np.repeat(self.roots[None, :], len(dense), axis=0)
        place = np.arange(len(dense))[:, None]
        missing = bool(np.isnan(dense).any())
        for _ in range(self.depth):
            values = dense[place, self.column[node]]
            right = values > self.limit[node]
            if missing:
                right |= np.isnan(values) & self.nan_right[node]
            node = self.children[2 * node + right]
        if not len(self.roots):
            return np.zeros(len(dense))
        return np.asarray(np.cumsum(self.value[node], axis=1)[:, -1])

    def first(self, trees: int) -> Forest:
        """Only the first trees, as if growing had stopped there."""
        end = int(self.roots[trees]) if trees < len(self.roots) else len(self.column)
        return Forest(
            self.roots[:trees],
            self.column[:end],
            self.limit[:end],
            self.children[: 2 * end],
            self.nan_right[:end],
            self.value[:end],
            self.depth,
        )

    def tensors(self, prefix: str) -> dict[str, NDArray[Any]]:
        """As tensors of a file, their names beginning with `prefix`."""
        return {f"{prefix}{each.name}": np.asarray(getattr(self, each.name)) for each in fields(self) if each.init}

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]], prefix: str) -> Forest:
        """From a file's tensors. KeyError where one is missing, ValueError where they are no trees."""
        parts: dict[str, Any] = {each.name: tensors[f"{prefix}{each.name}"] for each in fields(cls) if each.init}
        forest = cls(**(parts | {"depth": int(parts["depth"].item())}))
        forest._check(prefix)
        return forest

    def _check(self, prefix: str) -> None:
        nodes = len(self.column)
        rows = {self.column.shape, self.limit.shape, self.nan_right.shape, self.value.shape}
        inside = (((each >= 0) & (each < nodes)).all() for each in (self.roots, self.children))
        shaped = rows == {(nodes,)} and self.children.shape == (2 * nodes,) and self.roots.ndim == 1
        if not (shaped and all(inside) and (self.column >= 0).all() and 0 <= self.depth <= DEEPEST):
            raise ValueError(f"'{prefix}*' are no trees")


def grow(
    dense: Floats, target: Floats, weight: Floats, growth: Growth, *, seed: int = 0, start: Floats | None = None
) -> Forest:
    """Trees that minimise the weighted cross-entropy of targets in [0, 1]; `dense` (n, d) may hold NaN.

    `start` (n,) are logits to begin from: the trees then add to them. Single-threaded and deterministic.
    """
    library = lightgbm()
    settings = {
        "objective": "cross_entropy",
        "learning_rate": growth.rate,
        "num_leaves": growth.leaves,
        "max_depth": growth.depth,
        "min_data_in_leaf": growth.leaf_rows,
        "min_sum_hessian_in_leaf": 1.0,
        "lambda_l2": growth.ridge,
        "feature_fraction": growth.columns,
        "bagging_fraction": growth.rows,
        "bagging_freq": 1,
        "max_bin": 63,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
        "feature_pre_filter": False,
    }
    data = library.Dataset(dense, label=target, weight=weight / weight.mean(), init_score=start, free_raw_data=False)
    booster = library.train(settings, data, num_boost_round=growth.rounds)
    return flatten(booster.dump_model()["tree_info"])


def flatten(trees: Sequence[Mapping[str, Any]]) -> Forest:
    """The `tree_info` of `Booster.dump_model()` as arrays. ValueError on categorical splits, which are not served."""
    flat = _Flat()
    roots = [flat.add(tree["tree_structure"], 0) for tree in trees]
    return Forest(
        roots=np.array(roots, dtype=np.int64),
        column=np.array(flat.column, dtype=np.int64),
        limit=np.array(flat.limit, dtype=np.float64),
        children=np.array(flat.children, dtype=np.int64),
        nan_right=np.array(flat.nan_right, dtype=np.bool_),
        value=np.array(flat.value, dtype=np.float64),
        depth=flat.depth,
    )


class _Flat:
    """Nodes in the order in which they are met, a tree's root first."""

    def __init__(self) -> None:
        self.column: list[int] = []
        self.limit: list[float] = []
        self.children: list[int] = []
        self.nan_right: list[bool] = []
        self.value: list[float] = []
        self.depth = 0

    def add(self, node: Mapping[str, Any], depth: int) -> int:
        """Appends a node and all below it; returns its place."""
        place = len(self.column)
        inner = "split_feature" in node
        if inner and node["decision_type"] != "<=":
            raise ValueError("a tree splits on a category; only numbers are served")
        self.column.append(node["split_feature"] if inner else 0)
        self.limit.append(node["threshold"] if inner else np.inf)
        self.nan_right.append(_nan_goes_right(node) if inner else False)
        self.value.append(0.0 if inner else node["leaf_value"])
        self.children += [place, place]
        self.depth = max(self.depth, depth)
        if inner:
            self.children[2 * place] = self.add(node["left_child"], depth + 1)
            self.children[2 * place + 1] = self.add(node["right_child"], depth + 1)
        return place


def _nan_goes_right(node: Mapping[str, Any]) -> bool:
    """LightGBM reads NaN as 0 where no NaN was seen in training."""
    return not node["default_left"] if node["missing_type"] == "NaN" else node["threshold"] < 0.0
