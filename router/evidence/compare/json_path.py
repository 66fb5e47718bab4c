"""Paths into JSON values, with wildcards: `$.lines[*].price`. A small part of RFC 9535.

Read: `$`, then any of `.name`, `["name"]`, `[0]`, `.*` and `[*]`. A wildcard fits one name or one index.
"""

from __future__ import annotations

import json
import re

WILD = None  # a step that fits every name and every index
Step = str | int | None
Path = tuple[str | int, ...]
_STEP = re.compile(
    r"\.(?P<name>[A-Za-z_][\w-]*)|\.\*|\[\*\]|\[(?P<index>\d{1,9})\]|\[(?P<quoted>\"(?:[^\"\\]|\\.)*\")\]"
)
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*\Z")


def parse_path(text: str) -> tuple[Step, ...]:
    """The steps of a path. Raises ValueError, saying what is expected."""
    position, steps = 1, list[Step]()
    while text.startswith("$") and position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            break
        steps.append(_step(match))
        position = match.end()
    if not text.startswith("$") or position < len(text):
        raise ValueError(f"'{text}' is no path; expected $ and then .name, [\"name\"], [0], .* or [*]")
    return tuple(steps)


def render_path(path: Path) -> str:
    return "$" + "".join(_render(step) for step in path)


def fits(pattern: tuple[Step, ...], path: Path) -> bool:
    return len(pattern) == len(path) and all(
        wanted is WILD or (type(wanted) is type(step) and wanted == step)
        for wanted, step in zip(pattern, path, strict=True)
    )


def wildcards(pattern: tuple[Step, ...]) -> int:
    return sum(step is WILD for step in pattern)


def _step(match: re.Match[str]) -> Step:
    if match["name"]:
        return match["name"]
    if match["index"]:
        return int(match["index"])
    if match["quoted"]:
        name: str = json.loads(match["quoted"])
        return name
    return WILD


def _render(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if _IDENTIFIER.match(step) else f"[{json.dumps(step, ensure_ascii=False)}]"
