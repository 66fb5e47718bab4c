"""What the teacher really costs, by what the student's usage costs at the teacher's prices: a ratio from audited pairs.

A student-served request is priced as if the teacher had needed as many tokens. Audits know better: there the teacher
answered too. With w = 1/audit probability, x the estimate and y the teacher's real cost of a pair, the ratio estimator
R = sum(w y) / X, X = sum(w x), corrects the estimate. Its variance is the jackknife's, in closed form
sum((w (y - R x) / (1 - w x / X))²) / X²: the linearised one (delta method) with each residual enlarged by its leverage,
without which few and uneven pairs give too narrow an interval. Student's t has as many degrees of freedom as pairs of
even size would be worth (Kish: X² / sum((w x)²)), less one.

Sources: W. G. Cochran, Sampling Techniques (3rd edition, 1977), chapter 6, for the ratio estimator, its linearised
variance and the jackknife; L. Kish, Survey Sampling (1965). The finite population correction is left out, which errs to
the wide side: a teacher's answer is itself a draw.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from router.evidence.records import PairRecord
from router.ledger.pricing import Usage, price_list

FEWEST_PAIRS = 30  # of even size
Z95 = 1.959964  # of the normal distribution, two-sided 95%


@dataclass(frozen=True, slots=True)
class Ratio:
    """Of one route. `even_pairs`: how many pairs of even size they are worth. `margin`: half the 95% interval.

    `value` and `margin` None: fewer than `FEWEST_PAIRS` even pairs, nothing is corrected.
    """

    pairs: int = 0
    even_pairs: float = 0.0
    value: float | None = None
    margin: float | None = None


def ratios(pairs: Iterable[PairRecord]) -> dict[str, Ratio]:
    """By route, from the pairs whose student answer was served and whose teacher answered with a usage."""
    draws: dict[str, list[tuple[float, float, float]]] = {}
    for pair in pairs:
        if pair.served == "student" and pair.teacher.error is None and not pair.teacher.estimated:
            draw = (1 / pair.probability, float(estimate_nano(pair)), float(pair.teacher.cost_nano_usd))
            draws.setdefault(pair.route, []).append(draw)
    return {route: ratio(of_route) for route, of_route in draws.items()}


def ratio(draws: list[tuple[float, float, float]]) -> Ratio:
    """From (weight, estimate, real cost) of each pair."""
    base = sum(w * x for w, x, _ in draws)
    even = base**2 / sum((w * x) ** 2 for w, x, _ in draws) if base else 0.0
    if even < FEWEST_PAIRS:
        return Ratio(len(draws), even)
    value = sum(w * y for w, _, y in draws) / base
    residuals = (w * (y - value * x) / (1 - w * x / base) for w, x, y in draws)
    error = math.sqrt(sum(residual**2 for residual in residuals)) / base
    return Ratio(len(draws), even, value, t95(even - 1) * error)


def t95(freedom: float) -> float:
    """Student's t, two-sided 95%, from 10 degrees of freedom on within 0.0003.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5, the first three terms.
    """
    z = Z95
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def estimate_nano(pair: PairRecord) -> int:
    """What the student's usage costs at the teacher's prices of that time, nano-USD."""
    tokens = pair.student.tokens
    usage = Usage(tokens.input, tokens.output, tokens.cached_input, tokens.reasoning)
    return price_list(pair.prices[pair.teacher.model]).cost(usage)
