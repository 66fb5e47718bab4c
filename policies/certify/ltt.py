"""Learn then Test: the largest threshold that a set of judged requests certifies.

Thresholds are tested in a fixed order, the strictest first, each at the full level, and the first that fails ends the
search: fixed-sequence testing (Angelopoulos et al. 2021, arXiv:2110.01052, section 3). The p-values come by betting
(Waudby-Smith and Ramdas 2023, JRSS-B 86(1); `policies/bounds.py`). With a probability of at least 1 - delta the loss
per request at the threshold found is then at most alpha, on traffic like the set's. It does not know drift.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policies.bounds import Floats, certifies


def certified_threshold(
    scores: Floats, losses: Floats, probabilities: Floats, alpha: float, delta: float, edges: Sequence[float] | Floats
) -> float:
    """The largest of the rising `edges` below which the requests certifiably lose at most `alpha` per request of all.

    0.0 where none is certified. `scores`, `losses` in [-1, 1] (net: below 0 where the student was the better one) and
    the `probabilities` with which each was looked at have shape (n,). Raises ValueError on what `certifies` refuses.
    """
    found = 0.0
    for edge in edges:
        if not below_alpha(np.where(scores < edge, losses, 0.0), probabilities, alpha, delta):
            break
        found = float(edge)
    return found


def below_alpha(losses: Floats, probabilities: Floats, alpha: float, delta: float) -> bool:
    """Whether the mean loss is certified to be at most `alpha`; losses in [-1, 1] are brought to [0, 1] first."""
    if (losses >= 0).all():
        return certifies(losses, probabilities, alpha, delta)
    return certifies((losses + 1) / 2, probabilities, (alpha + 1) / 2, delta)
