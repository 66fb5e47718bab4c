"""Which requests a floor's certificate covers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest

from policies.base import Arm
from router.control.feed import is_covered
from router.exchange import Trace


@dataclass(frozen=True)
class Ended:
    """What is looked at of a request's trace."""

    arm: Arm | None = "student"
    reason: str = "difficulty:floor"
    loss: float | None = 0.1
    audit_probability: float = 0.1
    student_broke: bool = False
    fell_back: bool = False
    guards: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("covered", "trace"),
    [
        (True, Ended()),
        (True, Ended(reason="cascade:pace")),
        (True, Ended(arm="teacher", reason="fallback:student", loss=None, audit_probability=0.0)),
        (True, Ended(student_broke=True)),
        (True, Ended(arm=None, reason="", loss=None, student_broke=True)),
        (False, Ended(reason="budget:day")),
        (False, Ended(reason="down:teacher")),
        (False, Ended(reason="fallback:teacher", student_broke=True)),
        (False, Ended(loss=None)),
        (False, Ended(audit_probability=0.0)),
        (False, Ended(arm=None, reason="", student_broke=True, audit_probability=0.0)),
        (False, Ended(arm=None, reason="", student_broke=True, fell_back=True)),
        (False, Ended(arm=None, reason="", student_broke=True, guards=("vision", "budget:day"))),
    ],
)
def test_a_request_is_covered_where_the_student_was_chosen_and_an_audit_could_tell(covered: bool, trace: Ended) -> None:
    assert is_covered(cast(Trace, trace)) is covered
