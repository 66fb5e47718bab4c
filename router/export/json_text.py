"""JSON as it is written into files: readable, and such that UTF-8 can hold it."""

from __future__ import annotations

import json
from typing import Any


def dump(value: Any) -> str:
    """One line. Half of a surrogate pair, which a model's JSON may hold as an escape, stays an escape."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value)
    return text


def parsed_object(text: str) -> dict[str, Any] | None:
    """The JSON object that `text` is; None where it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
