"""Whether a log says anything of another policy. Where it does not, a replay refuses instead of guessing.

An estimate from draws needs every request that the candidate treats otherwise to have had a chance to be seen that way
(overlap, or positivity). Audited requests were seen both ways. A decision with a probability of 0 or 1, such as a
threshold's, says nothing of the other arm.
"""

from __future__ import annotations

from collections.abc import Sequence

from policies.bounds import Floats, kish
from policies.replay.log import Decided

MOST_UNSUPPORTED = 0.01
"""Share of the decisions that may lack support; they are left out."""


class NoSupport(Exception):
    """The log says nothing of this candidate; the message says why, and what would help."""


def require_pairs(weights: Floats, fewest: int) -> None:
    """Raises NoSupport where the audited requests are worth less than `fewest` equally weighted ones."""
    effective = kish(weights)
    if effective < fewest:
        worth = "" if len(weights) == round(effective) else f", worth {effective:.0f} equally weighted ones"
        raise NoSupport(
            f"{len(weights)} audited requests{worth}: at least {fewest} are needed to say what the student loses"
        )


def supported(decided: Sequence[Decided]) -> list[Decided]:
    """The decisions that speak of the candidate.

    Raises NoSupport where the candidate does not tell its probabilities, where nothing was decided, or where more than
    `MOST_UNSUPPORTED` of the decisions went one way for certain that the candidate would (also) have sent the other.
    """
    if not decided:
        raise NoSupport("there are no decisions in the log")
    if any(each.candidate is None for each in decided):
        raise NoSupport("the candidate looks at more than a decision row keeps")
    speaking = [each for each in decided if _overlaps(each)]
    if len(speaking) < (1 - MOST_UNSUPPORTED) * len(decided):
        silent = 1 - len(speaking) / len(decided)
        raise NoSupport(
            f"{silent:.1%} of the logged decisions had a probability of 0 or 1, as those of thresholds have, and the "
            "candidate decides otherwise"
        )
    return speaking


def _overlaps(each: Decided) -> bool:
    assert each.candidate is not None
    possible = 0 < each.teacher_probability < 1
    return possible or each.candidate == each.teacher_probability
