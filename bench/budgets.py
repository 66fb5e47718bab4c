"""Twenty runs of 400 concurrent requests against budgets for 50 teacher calls, with kills: is a limit ever exceeded?

    python bench/budgets.py [--runs 20] [--only NAME] [--seed 1] [--json FILE]

Each run is a gateway of four workers, a Redis with an append-only file and an upstream with its own record of what it
bills, all processes of their own. Workers, Redis, the whole gateway and clients are killed as the scenario says. The
limit is 50 times the dearest that one call can get; real answers are shorter, so that more than 50 fit. In every run
what the upstream billed must be within each limit and covered by what is spent or presumed spent, nothing may be
reserved a lease's lifetime after the end, and every client gets an answer, a clean refusal, or a broken connection if
its worker was killed. Without kills a budget must pay for at least 100 calls. Last comes SIGTERM under load: no row and
no nano-dollar may be missing. Exit status 1 where any of this fails.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.support.budget_run import CALLS, LEASE_S, Faults, Report, Scenario, run_budget
from tests.support.shutdown_run import run_shutdown

WORKERS_DIE: Faults = ((0.6, "worker"), (1.4, "worker"), (2.2, "worker"), (3.2, "worker"))
REDIS_DIES: Faults = ((1.0, "redis"), (6.0, "redis"))
BOTH_DIE: Faults = (
    *((0.6, "worker"), (1.0, "redis"), (1.2, "worker"), (2.4, "worker")),
    *((5.5, "redis"), (5.7, "worker")),
)
THIRD = 1 / 3
SERVED_WITHOUT_KILLS = 2 * CALLS
SCENARIOS = (
    Scenario("nothing dies", "student"),
    Scenario("nothing dies", "refuse"),
    Scenario("nothing dies", "student", scoped=True),
    Scenario("nothing dies", "refuse", window="2m", scoped=True),
    Scenario("clients leave", "student", hang_ups=THIRD),
    Scenario("clients leave", "refuse", hang_ups=THIRD, scoped=True),
    Scenario("clients leave streams", "refuse", hang_ups=0.9, streams=1, tokens=(40, 48), cached=False),
    Scenario("clients leave whole answers", "student", hang_ups=0.9, streams=0, tokens=(40, 48), cached=False),
    Scenario("workers die", "student", faults=WORKERS_DIE),
    Scenario("workers die", "refuse", faults=WORKERS_DIE, scoped=True),
    Scenario("workers die", "refuse", faults=WORKERS_DIE, window="2m"),
    Scenario("Redis dies", "student", faults=REDIS_DIES, seconds=11),
    Scenario("Redis dies", "refuse", faults=REDIS_DIES, seconds=11, appendfsync="always"),
    Scenario("Redis dies", "student", faults=REDIS_DIES, seconds=11, window="2m", scoped=True),
    Scenario("Redis loses all", "refuse", faults=((1.0, "redis loses all"),), seconds=9),
    Scenario("the gateway dies", "student", faults=((1.0, "gateway"),), seconds=18),
    Scenario("the gateway dies", "refuse", faults=((1.0, "gateway"),), seconds=18, scoped=True),
    Scenario("workers and Redis die, clients leave", "student", faults=BOTH_DIE, seconds=11, hang_ups=THIRD),
    Scenario(
        "workers and Redis die, clients leave", "refuse", "month", False, "always", THIRD, faults=BOTH_DIE, seconds=11
    ),
    Scenario(
        "workers and Redis die, clients leave", "refuse", "2m", True, "everysec", THIRD, faults=BOTH_DIE, seconds=11
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=len(SCENARIOS))
    parser.add_argument("--only", metavar="NAME", help="only the scenarios of this name")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the reports to this file")
    options = parser.parse_args()
    scenarios = [scenario for scenario in SCENARIOS if options.only in (None, scenario.name)]
    reports = measure([scenarios[number % len(scenarios)] for number in range(options.runs)], options.seed)
    if options.json:
        options.json.write_text(json.dumps([asdict(report) for report in reports], indent=1))
    wrong = sum(bool(report.problems) for report in reports)
    print(f"{len(reports)} runs, {wrong} with problems; leases of {LEASE_S:g} s")
    with tempfile.TemporaryDirectory() as folder:
        shutdown = run_shutdown(Path(folder), options.seed)
    print(f"SIGTERM under load: {shutdown}")
    sys.exit(bool(wrong or shutdown.problems))


def measure(scenarios: Sequence[Scenario], seed: int) -> list[Report]:
    """One run of each; a line is printed after it."""
    reports = []
    print(HEAD)
    for number, scenario in enumerate(scenarios):
        with tempfile.TemporaryDirectory() as folder:
            report = run_budget(scenario, seed + number, Path(folder))
        if not (scenario.faults or scenario.hang_ups) and report.teacher_calls < SERVED_WITHOUT_KILLS:
            report.problems.append(f"only {report.teacher_calls} teacher calls were paid for")
        reports.append(report)
        print(_line(number + 1, scenario, report), flush=True)
        for problem in report.problems[:5]:
            print(f"    {problem}", flush=True)
    return reports


HEAD = (
    f"{'':2} {'what dies':37} {'spent':8} {'window':6} {'budgets':>7} {'kills':>5} {'teacher':>7} {'student':>7} "
    f"{'billed':>7} {'spent':>7} {'presumed':>8} {'answered':>8} {'refused':>7} {'left':>5} {'broken':>6} free after"
)


def _line(number: int, scenario: Scenario, report: Report) -> str:
    """Money in parts of the limit of the budget that was used most."""
    most = max(report.balances, key=lambda balance: balance.billed / balance.limit)
    parts = [f"{value / most.limit:.1%}" for value in (most.billed, most.spent, most.presumed)]
    clients: dict[str, Any] = report.clients
    return (
        f"{number:2} {scenario.name:37} {scenario.on_spent:8} {scenario.window:6} {len(report.balances):7} "
        f"{report.killed:5} {report.teacher_calls:7} {report.student_calls:7} "
        f"{parts[0]:>7} {parts[1]:>7} {parts[2]:>8} {clients.get('answered', 0):8} {clients.get('refused', 0):7} "
        f"{clients.get('hung up', 0):5} {clients.get('broken', 0):6} {report.released_s:8.1f} s"
    )


if __name__ == "__main__":
    main()
