"""The logs and counts of processes that have ended: taken over by one that lives, which also counts what they lost.

Only of those that wrote to the same Redis: prompts of one gateway are not to go where another one's go.
"""

from __future__ import annotations

import logging
from pathlib import Path

from router.evidence.appender import Appender
from router.evidence.counts import DIRECT, DOUBT_DIRECT, DOUBT_NUMBER, DOUBT_SHARD, NEVER, SETTLED
from router.evidence.spool import Log, Spool, Unread, producer_of
from router.record.metrics import Metrics

logger = logging.getLogger("distill_router.evidence")

COUNTS_KEPT = 100


class Orphans:
    """`own`: the producer that looks."""

    def __init__(self, spool: Spool, own: str, metrics: Metrics) -> None:
        self._spool = spool
        self._own = own
        self._done: set[str] = set()
        self._unread: set[str] = set()
        self._foreign = False
        self._dropped = metrics.records_dropped

    def find(self, held: set[str]) -> list[Log]:
        """Take what is free and can be read, but for what is held or done. Blocking; raises OSError."""
        self._tell_of_foreign()
        producers = set(filter(self._spool.is_ours, self._spool.producers()))
        self._done &= producers
        self._prune()
        wanted = sorted(producers - held - self._done - {self._own})
        return [log for producer in wanted if (log := self._take(producer))]

    def _take(self, producer: str) -> Log | None:
        try:
            log = Log.take(self._spool, producer)
        except OSError as error:
            self._warn(producer, error)
            return None
        if log is None:
            return None
        try:
            log.recount()
        except Unread as error:
            self.leave(log, error)
            return None
        return log

    def leave(self, log: Log, error: Unread) -> None:
        """It cannot be read now: it is looked for again."""
        self._warn(log.producer, error)
        log.close()

    def _warn(self, producer: str, error: OSError) -> None:
        if producer not in self._unread:
            self._unread.add(producer)
            logger.warning("the log of an ended process cannot be read now, it waits in the spool: %s", error)

    def _tell_of_foreign(self) -> None:
        """Once, that logs in the folder belong to others."""
        if self._foreign:
            return
        names = sorted({producer_of(path)[-len(self._spool.digest) :] for path in self._spool.foreign()})
        if names:
            self._foreign = True
            logger.error(
                "evidence.spool_dir: %s holds evidence of gateways that write to another Redis, or that wrote before "
                "the address was changed (files with -%s; this gateway's have -%s). It stays where it is, is sent "
                "nowhere by this gateway, and takes of evidence.spool_max_bytes. Give each gateway a folder of its "
                "own; for what is left of an old address see docs/redis.md, or delete the files",
                self._spool.path,
                ", -".join(names),
                self._spool.digest,
            )

    async def settle(self, log: Log, appender: Appender | None) -> None:
        """Count what its process lost in the crash. Raises Unreachable where Redis has to be asked."""
        cells = log.counts.cells
        if cells[SETTLED]:
            return
        if appender and 0 < cells[DOUBT_NUMBER] < NEVER and cells[DIRECT] != cells[DOUBT_DIRECT]:
            shard = cells[DOUBT_SHARD]
            if (await appender.markers(log.producer, [shard]))[shard] >= cells[DOUBT_NUMBER]:
                log.counts.arrived()
        if lost := log.counts.settle():
            self._dropped.labels("crash").inc(lost)
        log.counts.settled()

    def let_go(self, log: Log) -> None:
        """Nothing is left to do for it here."""
        self._done.add(log.producer)
        log.close()

    def make_room(self, log: Log) -> int | None:
        """Drop the oldest segment that no other living process holds; how many records that lost, None: there is none.

        Blocking.
        """
        log.rotate()
        for path in self._spool.oldest():
            producer = producer_of(path)
            holder = log if producer == log.producer else self._take(producer)
            if holder is None:
                continue
            try:
                lost = self._drop(holder, path)
            except OSError as error:
                self._warn(producer, error)
                continue
            finally:
                if holder is not log:
                    holder.close()
            if lost is not None:
                return lost
        return None

    def _drop(self, log: Log, path: Path) -> int | None:
        """How many records that lost; None: another process has dropped it meanwhile. Raises OSError."""
        segment = next((segment for segment in log.segments if segment.path == path), None)
        if segment is None:
            return None
        if segment.last is None:
            log.read(segment)
        lost = (segment.last or 0) - segment.first
        log.remove(segment, lost)
        return lost

    def _prune(self) -> None:
        """A file of counts is small, and there is one for each process that ever was."""
        left = sorted(producer for producer in self._done if self._spool.counts(producer).exists())
        for producer in left[:-COUNTS_KEPT]:
            self._spool.counts(producer).unlink(missing_ok=True)
