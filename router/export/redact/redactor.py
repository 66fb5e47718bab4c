"""Replaces what the detectors find in any JSON value, the same thing by the same placeholder: `[EMAIL_1]`, `[EMAIL_2]`.

A text that is a JSON object or array stays one: its strings and numbers are redacted one by one and everything else is
left as it was written; so is such a text inside a string, and one in a fenced block. A number becomes a string. The key
in front of a value is read with it ("phone": 5551234567), keys are redacted too. A text with `\\u` escapes that is no
JSON is read without them, too.
Not looked into: `data:` URLs (images, sound, files) and other encodings.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from router.export.json_text import dump
from router.export.redact.base import PLACEHOLDER, Detector, Span

MAX_LEVELS = 64
_JSON_START = ("{", "[")
_JSON_TOKEN = re.compile(
    r'(?P<string>"(?:[^"\\]|\\.)*")(?P<key>\s*:)?|(?P<number>-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)', re.DOTALL
)
_FENCE = re.compile(r"(?P<open>```[\w+-]*[ \t]*\n)(?P<inside>.*?)(?P<close>\n[ \t]*```)", re.DOTALL)
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_MIN_NUMBER_DIGITS = 7  # no detector knows a shorter one
_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+[;,]")


class Redactor:
    """For one record: placeholders are numbered in the order in which things appear in it."""

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self._detectors = detectors
        self._names: dict[tuple[str, str], str] = {}
        self._last: Counter[str] = Counter()

    @property
    def replaced(self) -> Counter[str]:
        """How many different things of each kind were replaced."""
        return Counter(kind for kind, _ in self._names)

    def reserve(self, value: Any) -> None:
        """Never use the numbers of placeholders that are in `value` already."""
        for text in _strings(value):
            for kind, number in PLACEHOLDER.findall(text):
                self._last[kind] = max(self._last[kind], int(number))

    def value(self, value: Any, key: str = "", levels: int = MAX_LEVELS) -> Any:
        """`value` without what was found. What is nested too deeply to be read is left out, with a mark."""
        if not levels:
            return "[NESTED_TOO_DEEPLY]"
        if isinstance(value, str):
            return self.text(value, key, levels)
        if isinstance(value, list):
            return [self.value(item, key, levels - 1) for item in value]
        if isinstance(value, dict):
            return {self.text(name): self.value(item, name, levels - 1) for name, item in value.items()}
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._number(value, key)
        return value

    def text(self, text: str, key: str = "", levels: int = MAX_LEVELS) -> str:
        """Until nothing is found any more: what was replaced can uncover what stood behind it."""
        if _DATA_URL.match(text):
            return text
        while (cleaner := self._once(text, key, levels)) != text:
            text = cleaner
        return text if _is_json(text) else self._escaped(text, key, levels)

    def _escaped(self, text: str, key: str, levels: int) -> str:
        """JSON that was cut off is only a text, whose escapes can hide something; then it is written without them."""
        if (plain := _unescaped(text)) == text:
            return text
        clean = self.text(plain, key, levels)
        return text if clean == plain else clean

    def _once(self, text: str, key: str, levels: int) -> str:
        if levels and _is_json(text):
            return self._json(text, levels)
        if levels and "```" in text:
            text = _FENCE.sub(
                lambda fence: (
                    f"{fence['open']}{self._json(fence['inside'], levels)}{fence['close']}"
                    if _is_json(fence["inside"])
                    else fence[0]
                ),
                text,
            )
        return self._plain(text, key)

    def _json(self, text: str, levels: int) -> str:
        key = ""
        pieces: list[str] = []
        end = 0
        for token in _JSON_TOKEN.finditer(text):
            pieces.append(text[end : token.start()])
            end = token.end()
            written = token["number"] or token["string"]
            value = json.loads(written)
            clean = self.value(value, "" if token["key"] else key, levels - 1)
            pieces.append(written if clean == value else dump(clean))
            if token["key"]:
                pieces.append(token["key"])
                key = value
        return "".join((*pieces, text[end:]))

    def _number(self, value: int | float, key: str) -> Any:
        written = json.dumps(value)
        if sum(c in "0123456789" for c in written) < _MIN_NUMBER_DIGITS:
            return value
        clean = self._plain(written, key)
        return value if clean == written else clean

    def _plain(self, text: str, key: str) -> str:
        """One pass over a text that is only a text, read together with the key in front of it."""
        lead = f"{key}: " if key else ""
        pieces: list[str] = []
        end = len(lead)
        whole = lead + text
        for span in self._spans(whole, len(lead)):
            pieces += (whole[end : span.start], self._placeholder(span))
            end = span.end
        return "".join((*pieces, whole[end:]))

    def _spans(self, text: str, first: int) -> list[Span]:
        """Without overlaps; an earlier detector wins, then the longer span."""
        spans: list[Span] = []
        taken = bytearray(len(text))
        for detector in self._detectors:
            for span in sorted(detector.find(text), key=lambda span: (span.start - span.end, span.start)):
                if span.start >= first and 1 not in taken[span.start : span.end]:
                    taken[span.start : span.end] = b"\1" * (span.end - span.start)
                    spans.append(span)
        return sorted(spans, key=lambda span: span.start)

    def _placeholder(self, span: Span) -> str:
        name = self._names.get((span.kind, span.key))
        if name is None:
            self._last[span.kind] += 1
            name = self._names[span.kind, span.key] = f"[{span.kind}_{self._last[span.kind]}]"
        return name


def _is_json(text: str) -> bool:
    """Whether it is an object or an array. A scalar is read as a text: an answer that is a number is no JSON."""
    if not text.lstrip().startswith(_JSON_START):
        return False
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _unescaped(text: str) -> str:
    """Characters in the place of JSON's `\\u` escapes, those of surrogate pairs together."""
    if not _ESCAPE.search(text):
        return text
    plain = _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and Infinity are no JSON


def _strings(value: Any) -> Iterator[str]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, list):
            stack += item
        elif isinstance(item, dict):
            stack += [*item, *item.values()]
