"""Bytes of tokens to the text a client sees: whole characters only, and nothing of a stop string.

Both text and parts of it are exact: what was pushed in pieces equals what would be cut from the whole.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence


class TextStream:
    """The text of one answer while it grows."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.decoded_chars = 0
        self.stopped_by: str | None = None

    def push(self, data: bytes) -> str:
        """Add the bytes of a token; returns the text that has become safe to show."""
        return self._release(self._decoder.decode(data), last=False)

    def finish(self) -> str:
        """The rest: an unfinished character becomes U+FFFD, a part of a stop string that stayed a part is text."""
        return self._release(self._decoder.decode(b"", True), last=True)

    def _release(self, decoded: str, *, last: bool) -> str:
        if self.stopped_by is not None:
            return ""
        self.decoded_chars += len(decoded)
        self._held += decoded
        found = [(self._held.find(stop), stop) for stop in self._stop if stop in self._held]
        if found:
            end, self.stopped_by = min(found)
        else:
            end = len(self._held) - (0 if last else pending_chars(self._held, self._stop))
        text, self._held = self._held[:end], self._held[end:]
        return text


def pending_chars(text: str, marks: Iterable[str]) -> int:
    """How many characters at the end of the text may be the start of one of the marks."""
    longest = 0
    for mark in marks:
        for size in range(min(len(mark) - 1, len(text)), longest, -1):
            if text.endswith(mark[:size]):
                longest = size
                break
    return longest
