"""What a decision row says of its request, as numbers: what a doubly robust estimate predicts from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import log, log1p

import numpy as np

from policies.bounds import Floats
from router.ledger.pricing import NANO_PER_USD
from router.record.row import DecisionRow

NEEDS = ("tools", "json_schema", "images", "logprobs", "n")
MOST_TENANTS = 8
SMALLEST_USD = 1e-9


def before(rows: Sequence[DecisionRow]) -> Floats:
    """What was known before the decision, (n, d): size, abilities, the estimator's score, tenant."""
    tenants = [name for name, _ in Counter(row.tn for row in rows).most_common(MOST_TENANTS)]
    return np.array([[*_asked(row), *(float(row.tn == name) for name in tenants)] for row in rows], dtype=np.float64)


def after(rows: Sequence[DecisionRow]) -> Floats:
    """The same, and what came of it: who answered, the gate's score, and the cost."""
    return np.column_stack([before(rows), np.array([_answered(row) for row in rows], dtype=np.float64)])


def _asked(row: DecisionRow) -> list[float]:
    loss, novelty = row.q or (0.0, 0.0)
    known = float(row.q is not None)
    return [log1p(row.f[0]), float(row.f[0]), known, loss, novelty, *(float(need in row.f[1]) for need in NEEDS)]


def _answered(row: DecisionRow) -> list[float]:
    score, p_wrong = row.s or (None, None)
    teacher = float(row.a == "t")
    usd = sum(charge.nano for charge in row.ch) / NANO_PER_USD
    scale = log(max(usd, SMALLEST_USD))
    return [
        teacher,
        usd,
        teacher * usd,
        scale,
        teacher * scale,
        float(row.s is not None),
        score or 0.0,
        p_wrong or 0.0,
        float(row.r.partition(":")[0] == "escalated"),
    ]
