"""The texts in a request's messages, whatever form they have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MAX_LEVELS = 8  # a list of messages, each with a list of parts, takes five


def texts(item: Any, levels: int = MAX_LEVELS) -> Iterator[str]:
    """Every text in messages, content parts or plain strings, in order; of anything else nothing."""
    if isinstance(item, str):
        yield item
    elif levels and isinstance(item, list):
        for part in item:
            yield from texts(part, levels - 1)
    elif levels and isinstance(item, dict):
        yield from texts(item.get("content"), levels - 1)
        yield from texts(item.get("text"), levels - 1)
