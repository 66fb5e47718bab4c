"""The fixed bins in which scores and novelties are counted, so that counts of workers, hours and restarts add up.

Bins of the loss are even in its square root: at 2% they are 0.2 points wide, at 50% one point.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

import numpy as np

from policies.bounds import Floats

SCORE_BINS: Final = 150
NOVELTY_BINS: Final = 25
EDGES: Final[Floats] = (np.arange(SCORE_BINS + 1) / SCORE_BINS) ** 2
CENTRES: Final[Floats] = ((np.arange(SCORE_BINS) + 0.5) / SCORE_BINS) ** 2
ABOVE_ALL: Final = 2.0  # a threshold that no expected loss reaches
_INNER: Final = EDGES[1:-1].tolist()


def score_bin(loss: float) -> int:
    """The bin k of an expected loss in [0, 1]: EDGES[k] <= loss < EDGES[k + 1]; NaN is taken for the worst."""
    return bisect_right(_INNER, loss) if loss == loss else SCORE_BINS - 1


def novelty_bin(novelty: float) -> int:
    """The bin of a novelty in [0, 1], all equally wide; NaN is taken for the newest."""
    return min(NOVELTY_BINS - 1, max(0, int(novelty * NOVELTY_BINS))) if novelty == novelty else NOVELTY_BINS - 1
