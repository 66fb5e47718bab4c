"""Brings one log to Redis: every batch once, in order, and out of the log only when Redis has it for sure.

For sure: Redis has confirmed it, and still has its number some seconds later. A server with an append-only file that is
killed loses what it confirmed in the last second or two. Then, as after a `FLUSHALL`, its markers say what is missing,
and the log has it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from router.evidence.appender import Appender, Gap, Sending, first_group
from router.evidence.segment import Frame
from router.evidence.spool import Log, Segment

SURE_S = 3.0  # more than the two seconds that Redis may put off an fsync that it owes
ROTATE_S = 1.0
TAIL_BYTES = 8 * 1024 * 1024

P = ParamSpec("P")
T = TypeVar("T")


class Delivery:
    """`had`: called with each frame that Redis has, in order, again after a loss.

    `behind`: what is in the log is read back from the disk; else it goes to Redis from memory as it is written.
    """

    def __init__(
        self,
        log: Log,
        appender: Appender,
        had: Callable[[Log, Frame], None],
        *,
        behind: bool,
        sure_s: float = SURE_S,
    ) -> None:
        self.log = log
        self.behind = behind
        self._appender = appender
        self._had = had
        self._sure_s = sure_s
        self._tail: deque[Sending] = deque()
        self._tail_bytes = 0
        self._direct: Sending | None = None
        self._acked = 0  # up to this total Redis has said that it has everything
        self._lock = asyncio.Lock()
        self._restart()

    @property
    def at_rest(self) -> bool:
        """Redis has been given everything."""
        return not (self.behind or self._tail or self._direct)

    @property
    def oldest(self) -> float | None:
        """When the first record was written that Redis does not have (Unix time)."""
        waiting = [s.oldest for s in self.log.segments if s.size and (s.last is None or s.last > self._acked)]
        return min(waiting, default=None)

    async def disk(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Off the event loop, one at a time."""
        async with self._lock:
            return await asyncio.to_thread(work, *args, **kwargs)

    async def keep(self, sendings: list[Sending]) -> bool:
        """Write batches to the log; True: they go on to Redis at once. Raises NoNet."""
        async with self._lock:
            await asyncio.to_thread(self.log.append, [sending.frame for sending in sendings])
            if self.behind:
                return False
            self._tail.extend(sendings)
            self._tail_bytes += sum(map(_size, sendings))
            return True

    @property
    def swamped(self) -> bool:
        """More waits in memory than should."""
        return self._tail_bytes > TAIL_BYTES

    def fall_behind(self) -> list[Frame]:
        """From here on the disk is read; what was to go from memory."""
        frames = [sending.frame for sending in self._tail]
        self._tail.clear()
        self._tail_bytes = 0
        self.behind = True
        self._restart()
        return frames

    async def send_tail(self) -> None:
        """What was kept since. Raises Unreachable."""
        while self._tail and not self.behind:
            await self._appender.send(self.log.producer, first_group(self._tail), self._arrived)

    def _arrived(self, frame: Frame) -> None:
        if self._tail and self._tail[0].frame is frame:
            self._tail_bytes -= _size(self._tail.popleft())
        self._note(frame)

    def _note(self, frame: Frame) -> None:
        self._acked = max(self._acked, frame.total)
        self._had(self.log, frame)

    def begin_direct(self, sending: Sending) -> None:
        """A batch that the log has no room for; goes when everything older is there."""
        self._direct = sending

    @property
    def arrived(self) -> bool:
        """No such batch waits."""
        return self._direct is None

    def end_direct(self) -> bool:
        """Give it up; True: it has arrived."""
        arrived, self._direct = self.arrived, None
        return arrived

    async def send_direct(self) -> None:
        """Raises Unreachable."""
        if self._direct and not self.behind:
            await self._appender.send(self.log.producer, [self._direct], lambda _: None)
            self._direct = None

    async def replay(self) -> None:
        """Send the next segment from the disk, without what Redis has; after the last `behind` is over.

        Raises Unreachable.
        """
        segment = await self.disk(self._next)
        if segment is None:
            return
        frames = await self.disk(self.log.read, segment)
        await self._ask(frames)
        group: list[Sending] = []
        for frame in frames:
            sending = Sending(frame, self._passed.get(frame.shard, 0))
            self._passed[frame.shard] = frame.number
            if frame.number > self._markers[frame.shard]:
                group.append(sending)
                continue
            await self._send_all(group)
            group = []
            self._note(frame)
        await self._send_all(group)
        self._acked = max(self._acked, segment.last or 0)
        self._replayed.add(segment)

    def _next(self) -> Segment | None:
        self.log.rotate()
        for segment in self.log.segments:
            if segment not in self._replayed:
                return segment
        self.behind = False
        if self._direct:
            self._direct = Sending(self._direct.frame, self._passed.get(self._direct.frame.shard, 0))
        return None

    async def _ask(self, frames: Iterable[Frame]) -> None:
        shards = {frame.shard for frame in frames} - self._markers.keys()
        if shards:
            self._markers |= await self._appender.markers(self.log.producer, shards)

    async def _send_all(self, sendings: list[Sending]) -> None:
        while sendings:
            group = first_group(sendings)
            await self._appender.send(self.log.producer, group, self._note)
            sendings = sendings[len(group) :]

    def _restart(self) -> None:
        """Begin a replay with the oldest segment, and ask Redis anew what it has."""
        self._markers: dict[int, int] = {}
        self._passed: dict[int, int] = {}
        self._replayed: set[Segment] = set()

    async def release(self, now: float) -> int:
        """Remove what Redis has for sure; how many records of it were damaged. Raises Unreachable, Gap among them."""
        sure = await self.disk(self._confirmed, now)
        numbers: dict[int, int] = {}
        for segment in sure:
            numbers |= segment.numbers
        markers = await self._appender.markers(self.log.producer, numbers) if numbers else {}
        if any(markers[shard] < number for shard, number in numbers.items()):
            raise Gap("Redis has lost batches that it had confirmed")
        for segment in sure:
            await self.disk(self.log.remove, segment, segment.damaged)
        return sum(segment.damaged for segment in sure)

    def _confirmed(self, now: float) -> list[Segment]:
        """Segments that Redis has confirmed long enough ago."""
        self.log.rotate(min(ROTATE_S, self._sure_s))
        sure = []
        for segment in self.log.closed:
            if segment.last is None or segment.last > self._acked:
                break
            if segment.acked_at is None:
                segment.acked_at = now
            elif now >= segment.acked_at + self._sure_s:
                sure.append(segment)
        return sure

    def lose_ground(self) -> list[Frame]:
        """Redis has lost what it had confirmed: all that the log still has is to be asked for again."""
        self._acked = 0
        for segment in self.log.segments:
            segment.acked_at = None
        return self.fall_behind()


def _size(sending: Sending) -> int:
    return sum(sum(map(len, records)) for records in sending.frame.records.values())
