"""The logs and counts of processes that have ended: taken over by one that lives, which also counts what they lost."""

from __future__ import annotations

from pathlib import Path

from router.evidence.appender import Appender
from router.evidence.counts import DIRECT, DOUBT_DIRECT, DOUBT_NUMBER, DOUBT_SHARD, NEVER, SETTLED
from router.evidence.spool import Log, Spool, producer_of
from router.record.metrics import Metrics

COUNTS_KEPT = 100


class Orphans:
    """`own`: the producer that looks."""

    def __init__(self, spool: Spool, own: str, metrics: Metrics) -> None:
        self._spool = spool
        self._own = own
        self._done: set[str] = set()
        self._dropped = metrics.records_dropped

    def find(self, held: set[str]) -> list[Log]:
        """Take what is free, but for what is held or done. Blocking."""
        producers = self._spool.producers()
        self._done &= producers
        self._prune()
        wanted = sorted(producers - held - self._done - {self._own})
        found = [log for producer in wanted if (log := Log.take(self._spool, producer))]
        for log in found:
            log.recount()
        return found

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
            holder = log if producer == log.producer else Log.take(self._spool, producer)
            if holder is None:
                continue
            lost = self._drop(holder, path)
            if holder is not log:
                holder.close()
            return lost
        return None

    def _drop(self, log: Log, path: Path) -> int:
        segment = next(segment for segment in log.segments if segment.path == path)
        log.read(segment)
        lost = (segment.last or 0) - segment.first
        log.remove(segment, lost)
        return lost

    def _prune(self) -> None:
        """A file of counts is small, and there is one for each process that ever was."""
        left = sorted(producer for producer in self._done if self._spool.counts(producer).exists())
        for producer in left[:-COUNTS_KEPT]:
            self._spool.counts(producer).unlink(missing_ok=True)
