"""Money through real processes: workers, Redis and an upstream that keeps its own record of what it billed.

`bench/budgets.py` does the same at length.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.budget_run import Scenario, run_budget
from tests.support.shutdown_run import run_shutdown

DRAIN_S = 1.0
LONG_ANSWERS = (47, 48)  # 1.4 s of tokens: cut off by the end of the drain


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(
            "workers and Redis die, clients leave",
            "refuse",
            scoped=True,
            hang_ups=0.3,
            faults=((0.4, "worker"), (0.8, "redis"), (1.0, "worker")),
            seconds=2.5,
            clients=200,
        ),
        Scenario(  # soon spent, by dear and fast answers
            "a worker dies",
            "student",
            window="2m",
            faults=((1.4, "worker"),),
            seconds=2.0,
            workers=2,
            clients=100,
            calls=8,
            tokens=(40, 48),
            token_s=0.004,
            cached=False,
        ),
    ],
    ids=lambda scenario: scenario.name,
)
def test_no_limit_is_exceeded_and_nothing_stays_reserved_whoever_dies(scenario: Scenario, tmp_path: Path) -> None:
    report = run_budget(scenario, seed=1, folder=tmp_path)
    assert not report.problems
    assert report.killed == len(scenario.faults)
    assert report.teacher_calls > 0
    assert report.clients["answered"] > 0


def test_sigterm_under_load_finishes_what_runs_and_loses_no_row_and_no_cent(tmp_path: Path) -> None:
    shutdown = run_shutdown(tmp_path)
    assert not shutdown.problems
    assert shutdown.finished > 0
    assert shutdown.nano > 0


def test_answers_that_outlast_the_drain_are_cut_off_and_still_have_their_row_and_price(tmp_path: Path) -> None:
    shutdown = run_shutdown(tmp_path, drain_s=DRAIN_S, tokens=LONG_ANSWERS)
    assert not shutdown.problems
    assert shutdown.cut_off > 0
