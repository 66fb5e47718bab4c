"""One pair as every trainer sees it: messages, tools, the answer to imitate and the one to avoid. No format yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from router.evidence.records import PairRecord, TriageLabel

Json = dict[str, Any]
Role = Literal["system", "user", "assistant", "tool"]
Verdict = TriageLabel | Literal["agree"]


@dataclass(frozen=True, slots=True)
class Call:
    """A function call; `arguments` is the JSON text that the model wrote."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """`parts`: the content where it is more than text, as it came; `text` then holds its texts."""

    role: Role
    text: str = ""
    calls: tuple[Call, ...] = ()
    call_id: str = ""
    name: str = ""
    parts: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """What one arm answered. `tokens`: of its prompt and answer together, as the model's server counted them."""

    message: Message
    truncated: bool
    refused: bool
    failed: bool
    tokens: int

    @property
    def empty(self) -> bool:
        return not self.message.calls and not self.message.text.strip()


@dataclass(frozen=True, slots=True)
class Example:
    """`good`: the answer to imitate. `bad`: the one to avoid, None where nobody says that the other answer is worse.

    `max_tokens`: how much the student can read and write at once, where that is known.
    """

    record: PairRecord
    verdict: Verdict
    prompt: tuple[Message, ...]
    tools: tuple[Json, ...]
    parallel_tool_calls: bool | None
    good: Reply
    bad: Reply | None
    max_tokens: int | None = None

    @property
    def tool_names(self) -> frozenset[str]:
        return frozenset(str(tool["function"]["name"]) for tool in self.tools)


class Unusable(Exception):
    """A record that no training file can hold; `reason` is counted and stands in the manifest."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
