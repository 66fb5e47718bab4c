"""Runs the scheduled trainings: of all gateway processes one at a time, in a process apart from the requests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from router.evidence.redis import Unreachable
from router.settings import Settings
from router.tasks import end
from router.trained.job import Outcome, Task
from router.trained.metrics import TrainedMetrics
from router.trained.schedule import Schedule
from router.trained.settings import Training

log = logging.getLogger("distill_router.trained")

LOOK_EVERY_S = 30.0
LEASE_S = 120.0
AGAIN_S = 3600.0  # after a training that came to nothing
ONE_THREAD = ("OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1")  # what numpy would take of the requests' processors
COMPLAINT_BYTES = 2000


class TrainingFailed(Exception):
    """The process did not end as it should; the text says how."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One route's policy to be trained. `config`: the text of the configuration that it belongs to."""

    route: str
    kind: str
    training: Training
    config: str

    @property
    def name(self) -> str:
        return f"{self.route}:{self.kind}"

    @property
    def task(self) -> Task:
        return Task(self.config, self.route, self.kind, self.training.model_dump(mode="json"), os.getpid())


Run = Callable[[Plan], Awaitable[Outcome]]


class Retrainer:
    """One per process; `schedule` lets one of them at a time train a policy. `run`: see `run_apart`."""

    def __init__(self, schedule: Schedule, metrics: TrainedMetrics, run: Run | None = None) -> None:
        self._schedule = schedule
        self._metrics = metrics
        self._run = run or run_apart
        self._plans: Mapping[str, Plan] = {}
        self._answers = True
        self._task: asyncio.Task[None] | None = None

    def configure(self, plans: Mapping[str, Plan]) -> None:
        """What is to be trained from now on, by name. A training that runs ends as it began."""
        self._plans = plans
        for name in plans:
            self._metrics.retrains(name)

    def start(self) -> None:
        self._task = asyncio.create_task(self._follow(), name="scheduled trainings")

    async def close(self) -> None:
        """A training that runs is ended; its claim ends by itself, and another process begins anew."""
        if self._task:
            await end([self._task])

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for plan in list(self._plans.values()):
                await self._turn(plan)

    async def _turn(self, plan: Plan) -> None:
        try:
            await self.train_if_due(plan)
            self._answers = True
        except Unreachable as error:
            if self._answers:
                log.warning("scheduled trainings wait, Redis does not answer: %s", error)
            self._answers = False
        except Exception:  # the edge of a background task
            log.exception("scheduled training of %s", plan.name)
            self._metrics.trainings.labels(plan.name, "failed").inc()

    async def train_if_due(self, plan: Plan) -> bool:
        """Whether it was due and nobody else trains it. Raises what Redis raises."""
        claim = await self._schedule.claim(plan.name, LEASE_S)
        if claim is None:
            return False
        began = time.monotonic()
        outcome, claim = await self._trained(plan, claim)
        result = outcome.result if outcome else "failed"
        self._metrics.trainings.labels(plan.name, result).inc()
        if outcome:
            log.info("scheduled training of %s: %s: %s", plan.name, result, outcome.why)
        worth_waiting = result in ("promoted", "candidate")
        pause_s = plan.training.every_s if worth_waiting else min(AGAIN_S, plan.training.every_s)
        await self._schedule.move(plan.name, claim, max(0.0, pause_s - (time.monotonic() - began)))
        return True

    async def _trained(self, plan: Plan, claim: bytes) -> tuple[Outcome | None, bytes]:
        """What came of it, None: it failed; and the claim as it is then, which is kept all the time."""
        running = asyncio.ensure_future(self._run(plan))
        try:
            while not (await asyncio.wait([running], timeout=LEASE_S / 3))[0]:
                claim = await self._kept(plan, claim)
            return running.result(), claim
        except TrainingFailed as error:
            log.error("scheduled training of %s failed: %s", plan.name, error)
            return None, claim
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError, TrainingFailed):
                await running

    async def _kept(self, plan: Plan, claim: bytes) -> bytes:
        """While Redis is away nothing is kept: two may train the same then, and one of them promotes."""
        with contextlib.suppress(*Unreachable):
            return await self._schedule.move(plan.name, claim, LEASE_S) or claim
        return claim


def plans(settings: Settings, trainings: Mapping[str, tuple[str, Training]]) -> dict[str, Plan]:
    """By name. `trainings`: for each route that has a block, the kind that it trains."""
    found = [Plan(route, kind, training, settings.text) for route, (kind, training) in trainings.items()]
    return {plan.name: plan for plan in found}


async def run_apart(plan: Plan) -> Outcome:
    """Train in a process of its own, which ends with this one. Raises TrainingFailed."""
    try:
        process = await asyncio.create_subprocess_exec(
            *("env", *ONE_THREAD, sys.executable, "-m", "router.trained.job"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C in the terminal is for the gateway alone
        )
    except OSError as error:
        raise TrainingFailed(f"its process cannot be started: {error}") from error
    try:
        async with asyncio.timeout(plan.training.timeout_s):
            output, complaint = await process.communicate(plan.task.encoded())
    except TimeoutError:
        raise TrainingFailed(f"it took longer than timeout_s, {plan.training.timeout_s:g} s") from None
    finally:
        await _end(process)
    if process.returncode != 0:
        told = complaint[-COMPLAINT_BYTES:].decode(errors="replace").strip()
        raise TrainingFailed(f"its process ended with status {process.returncode}: {told}")
    try:
        return Outcome.decoded(output)
    except ValueError as error:
        raise TrainingFailed(str(error)) from error


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
