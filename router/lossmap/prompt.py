"""A pair's request as texts: the system prompt, and what the user said, of every endpoint's way to say it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from router.request import texts

INSTRUCTING = frozenset({"system", "developer"})


@dataclass(frozen=True, slots=True)
class Prompt:
    """`system`: every instruction beside the conversation; `last`: the last user message; `whole`: all texts."""

    system: str
    last: str
    whole: str


def read_prompt(request: Mapping[str, Any]) -> Prompt:
    """Of a chat, completion, Responses or embedding request; what is not text is left out."""
    said = request.get("messages") or request.get("prompt") or request.get("input")
    system = [request["instructions"]] if isinstance(request.get("instructions"), str) else []
    system += [_joined(message) for message in _messages(said) if message.get("role") in INSTRUCTING]
    users = [_joined(message) for message in _messages(said) if message.get("role") == "user"]
    whole = "\n".join(texts(said))
    return Prompt("\n".join(system), users[-1] if users else "" if list(_messages(said)) else whole, whole)


def _messages(said: Any) -> Iterator[Mapping[str, Any]]:
    for item in said if isinstance(said, list) else ():
        if isinstance(item, Mapping) and "role" in item:
            yield item


def _joined(message: Mapping[str, Any]) -> str:
    return "\n".join(texts(dict(message)))
