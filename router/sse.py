"""An incremental parser of Server-Sent Events (WHATWG HTML, section 9.2.6) that keeps the bytes it was given.

A proxy reads an event's `data` and forwards its `raw` bytes unchanged: the raws of all events, in order, and the
parser's `remainder` are exactly the bytes fed. It does not keep `id` and `retry`, and decodes no text.
"""

from __future__ import annotations

import re
from typing import NamedTuple

BOM = b"\xef\xbb\xbf"
_BLOCK_END = re.compile(rb"[\r\n](?:(?<=\n)\n|\r\n?)")  # after CRLF or LF any line ending, after a CR another
_BLANK_LINE = re.compile(rb"\r\n|\n|\r")


class EventTooLarge(ValueError):
    """A single event is longer than the parser may buffer."""


class Event(NamedTuple):
    """One block of the stream, its blank line included.

    `data` is the payload, its lines joined by a newline. A block that dispatches nothing (comments, a blank line more)
    is given too, with `data` b"", so that keep-alives can be forwarded at once. `event` is the type where one is named.
    """

    data: bytes
    raw: bytes
    event: bytes | None


class SSEParser:
    """Feeds on chunks cut anywhere; the same stream gives the same events however it was cut."""

    def __init__(self, max_event_bytes: int = 8 * 1024 * 1024) -> None:
        self._max_event_bytes = max_event_bytes
        self._parts: list[bytes] = []  # received, without a whole block
        self._buffered = 0
        self._tail = b""  # the last bytes of the parts, to see a blank line that a cut went through
        self._at_start = True

    @property
    def remainder(self) -> bytes:
        """What was fed and belongs to no event yet; at the end of a stream, an event that was cut off."""
        return b"".join(self._parts)

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes. Raises `EventTooLarge`; the parser is of no use after that."""
        if self._parts:
            if not self._buffer(data):
                return []
            data = self.remainder
        end = data.rfind(b"\n\n") + 2
        frames = _plain_frames(data[: end - 2]) if 2 <= end <= self._max_event_bytes else None
        if frames is None:
            return self._blocks(data, len(data) - data.endswith(b"\r"))
        self._at_start = False
        if self._parts or end < len(data):
            self._keep(data[end:])
        return frames

    def close(self) -> list[Event]:
        """At the end of the stream: an event whose last carriage return might have been half of a CRLF."""
        data = self.remainder
        return self._blocks(data, len(data))

    def _buffer(self, data: bytes) -> bool:
        """Adds to what is kept and says whether a block may be whole now: a large one is put together only once."""
        window = self._tail + data
        self._parts.append(data)
        self._buffered += len(data)
        self._tail = window[-2:]
        if b"\n\n" in window or b"\n\r" in window or b"\r\r" in window or self._parts[0][:1] == b"\r":
            return True
        self._check_size(self._buffered)
        return False

    def _blocks(self, data: bytes, end: int) -> list[Event]:
        """The whole blocks in data[:end]; the rest of `data` is kept. A final CR waits for the next byte."""
        events: list[Event] = []
        start = 0
        while block := _BLANK_LINE.match(data, start, end) or _BLOCK_END.search(data, start, end):
            self._check_size(block.end() - start)
            events.append(self._event(data[start : block.end()]))
            start = block.end()
        self._keep(data[start:])
        return events

    def _keep(self, rest: bytes) -> None:
        self._check_size(len(rest))
        self._parts = [rest] if rest else []
        self._buffered = len(rest)
        self._tail = rest[-2:]

    def _check_size(self, size: int) -> None:
        if size > self._max_event_bytes:
            raise EventTooLarge(f"a server-sent event is longer than {self._max_event_bytes} bytes")

    def _event(self, raw: bytes) -> Event:
        text = raw.removeprefix(BOM) if self._at_start else raw
        self._at_start = False
        data: list[bytes] = []
        name: bytes | None = None
        for line in text.splitlines():
            field, _, value = line.partition(b":")
            if field == b"data":
                data.append(value.removeprefix(b" "))
            elif field == b"event":
                name = value.removeprefix(b" ")
        return Event(b"\n".join(data), raw, name or None) if data else Event(b"", raw, None)


def _plain_frames(data: bytes) -> list[Event] | None:
    """The events of `data: …` lines with a blank line between, as model servers send them; None for any other."""
    if b"\r" in data:
        return None
    events = []
    for frame in data.split(b"\n\n"):
        if not frame.startswith(b"data: ") or b"\n" in frame:
            return None
        events.append(Event(frame[6:], frame + b"\n\n", None))
    return events
