"""Continuous batching: one thread, one batched step at a time, for every sequence that is running.

Each step computes the next token of every running sequence and, beside them, a bounded number of prompt tokens, so
that a long prompt does not stall the others. Sequences that find no place wait first come, first served. It knows no
HTTP and no event loop: outputs leave through one callback a step, called on the scheduler's thread.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Any

import numpy as np

from serving.embedded.checkpoint import Array
from serving.embedded.errors import EngineError, EngineStopped, TooManyRequests
from serving.embedded.model import Chunk, KVCache, LlamaModel
from serving.embedded.sequence import LogitsFor
from serving.embedded.sequence import Sequence as ModelSequence

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What the scheduler admits: sequences at once and in the queue, prompt tokens a step."""

    max_num_seqs: int = 64
    max_waiting: int = 1024
    prefill_tokens_per_step: int = 128


@dataclass(eq=False)
class Job:
    """A sequence on its way through the scheduler; `deliver` is for whoever handles the outputs."""

    sequence: ModelSequence[Any]
    deliver: Callable[[Event], None]
    cancelled: bool = False


@dataclass(frozen=True)
class Event:
    """An output of a job, or the error that ended it; nothing follows the last one."""

    job: Job
    output: Any
    last: bool


@dataclass(frozen=True)
class _Running:
    """A job with its place in memory."""

    job: Job
    cache: KVCache


@dataclass(frozen=True)
class _Scheduled:
    """A job's part in one step."""

    job: Job
    chunk: Chunk
    start: int

    @property
    def stop(self) -> int:
        return self.start + len(self.chunk.token_ids)


class Scheduler:
    """Owns the model, the running batch and the queue. `emit` is given the outputs and errors of a step."""

    def __init__(self, model: LlamaModel, limits: Limits, emit: Callable[[list[Event]], None]) -> None:
        self._model = model
        self._limits = limits
        self._emit = emit
        self._waiting: deque[Job] = deque()
        self._running: list[_Running] = []
        self._changed = Condition()
        self._stopping = False
        self._thread = Thread(target=self._run, name="embedded-scheduler", daemon=True)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its step; what was not finished gets EngineStopped."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue the jobs, all or none. Raises TooManyRequests, EngineStopped."""
        with self._changed:
            if self._stopping:
                raise EngineStopped("The engine is shutting down.")
            # A large request may fill the queue beyond its limit, or it could never be served; the next ones may not.
            if self._waiting and len(self._waiting) + len(jobs) > self._limits.max_waiting:
                raise TooManyRequests(f"{len(self._waiting)} sequences are waiting already; retry later.")
            self._waiting.extend(jobs)
            self._changed.notify()

    def cancel(self, jobs: Iterable[Job]) -> None:
        """Drop the jobs: waiting ones now, running ones before the next step."""
        with self._changed:
            for job in jobs:
                job.cancelled = True
            self._waiting = deque(job for job in self._waiting if not job.cancelled)

    def _run(self) -> None:
        while self._admit():
            try:
                events = self._step()
            except Exception:  # the edge of the thread: one bad step must not end all later ones
                log.exception("a step failed; its %d sequences are given up", len(self._running))
                failure = EngineError("The engine failed on this batch; the server's log says why.")
                events = [Event(running.job, failure, last=True) for running in self._running]
                self._running = []
            if events:
                self._emit(events)
        stopped = EngineStopped("The engine is shutting down.")
        unfinished = [*(running.job for running in self._running), *self._waiting]
        self._emit([Event(job, stopped, last=True) for job in unfinished])

    def _admit(self) -> bool:
        """Wait for work, drop what was cancelled, fill free places. False when it is time to stop."""
        with self._changed:
            while True:
                if self._stopping:
                    return False
                self._running = [running for running in self._running if not running.job.cancelled]
                while self._waiting and len(self._running) < self._limits.max_num_seqs:
                    job = self._waiting.popleft()
                    self._running.append(_Running(job, self._model.new_cache(job.sequence.capacity)))
                if self._running:
                    return True
                self._changed.wait()

    def _step(self) -> list[Event]:
        scheduled = self._schedule()
        hidden = self._model.forward([item.chunk for item in scheduled])
        self._advance(scheduled, hidden)
        events = []
        for item in scheduled:
            output = item.job.sequence.take()
            if output is not None:
                events.append(Event(item.job, output, item.job.sequence.finished))
        self._running = [running for running in self._running if not running.job.sequence.finished]
        return events

    def _schedule(self) -> list[_Scheduled]:
        """Every sequence that has one token to compute, and prompts in order of arrival as far as the budget goes."""
        budget = self._limits.prefill_tokens_per_step
        scheduled = []
        for running in self._running:
            cache, token_ids = running.cache, running.job.sequence.token_ids
            left = len(token_ids) - cache.length
            count = left if left == 1 else min(left, budget)
            if left > 1:
                budget -= count
            if count:
                chunk = Chunk(token_ids[cache.length : cache.length + count], cache)
                scheduled.append(_Scheduled(running.job, chunk, cache.length))
        return scheduled

    def _advance(self, scheduled: Sequence[_Scheduled], hidden: Array) -> None:
        """Compute the logits that are wanted, all at once, and hand every sequence its own rows."""
        rows: list[range] = []
        row = 0
        for item in scheduled:
            end = row + len(item.chunk.token_ids)
            wanted = item.job.sequence.logits_for(item.start, item.stop)
            first = {LogitsFor.NONE: end, LogitsFor.LAST: end - 1, LogitsFor.ALL: row}[wanted]
            rows.append(range(first, end))
            row = end
        picked = [index for wanted_rows in rows for index in wanted_rows]
        logits = self._model.logits(hidden[np.array(picked, np.intp)])
        row = taken = 0
        for item, wanted_rows in zip(scheduled, rows, strict=True):
            end, last = row + len(item.chunk.token_ids), taken + len(wanted_rows)
            item.job.sequence.advance(item.start, hidden[row:end], logits[taken:last])
            row, taken = end, last
