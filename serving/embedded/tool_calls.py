"""Tool calls in Hermes form, found in the text of an answer: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`.

Text goes in as it comes and leaves as content or calls; text that may become a call is held back until that is known.
A call that is not JSON with a name is content. White space after a call is dropped, as nobody asked for it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from uuid import uuid4

from serving.embedded.text import pending_chars
from serving.embedded.tokenizer import TOOL_MARKS

_OPEN, _CLOSE = TOOL_MARKS


@dataclass(frozen=True)
class ToolCall:
    """A call of one function; `arguments` is a JSON text, as OpenAI has it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Parsed:
    """What a piece of text brought."""

    content: str = ""
    calls: tuple[ToolCall, ...] = ()


class ToolCallParser:
    """Splits the text of one answer; with `parallel` false (`parallel_tool_calls`) only the first call is kept."""

    def __init__(self, *, parallel: bool = True) -> None:
        self._parallel = parallel
        self._held = ""
        self._inside = False
        self.call_count = 0

    def push(self, text: str) -> Parsed:
        """Add text; returns what is certain by now."""
        self._held += text
        content: list[str] = []
        calls: list[ToolCall] = []
        while self._next_piece(content, calls):
            pass
        return Parsed("".join(content), tuple(calls))

    def finish(self) -> Parsed:
        """The rest: a call that was never closed counts if it is whole, as in vLLM; otherwise it is content."""
        rest, self._held = self._held, ""
        if not self._inside:
            return Parsed(self._trimmed(rest))
        call = _parse_call(rest)
        if call is None:
            return Parsed(_OPEN + rest)
        return Parsed(calls=self._counted(call))

    def _next_piece(self, content: list[str], calls: list[ToolCall]) -> bool:
        """Move one piece from the held text to the lists; False when the rest has to wait."""
        mark = _CLOSE if self._inside else _OPEN
        before, found, after = self._held.partition(mark)
        if not found:
            if not self._inside:
                self._release(content)
            return False
        self._held = after
        if not self._inside:
            content.append(self._trimmed(before))
        elif (call := _parse_call(before)) is not None:
            calls.extend(self._counted(call))
        else:
            content.append(_OPEN + before + _CLOSE)
        self._inside = not self._inside
        return True

    def _release(self, content: list[str]) -> None:
        """Give away what cannot become the opening mark."""
        self._held = self._trimmed(self._held)
        end = len(self._held) - pending_chars(self._held, [_OPEN])
        content.append(self._held[:end])
        self._held = self._held[end:]

    def _trimmed(self, text: str) -> str:
        return text.lstrip() if self.call_count else text

    def _counted(self, call: ToolCall) -> tuple[ToolCall, ...]:
        if self.call_count and not self._parallel:
            return ()
        self.call_count += 1
        return (call,)


def _parse_call(text: str) -> ToolCall | None:
    try:
        call = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments", {})
    rendered = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(id=f"call_{uuid4().hex[:24]}", name=call["name"], arguments=rendered)
