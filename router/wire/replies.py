"""Reading a complete answer (JSON): its usage, what comparisons and gates need of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from policies.gate.tokens import Token
from router.errors import UpstreamFailed
from router.evidence.compare.base import Answer, ToolCall
from router.ledger.pricing import Usage
from router.wire.body import Dialect
from router.wire.logprobs import tokens_of
from router.wire.usage import read_usage

MAIN_FIELD: Mapping[Dialect, str] = {
    "chat": "choices",
    "completions": "choices",
    "responses": "output",
    "embeddings": "data",
}
MISSING = msgspec.Raw()


class _Head(msgspec.Struct):
    usage: msgspec.Raw = MISSING
    choices: msgspec.Raw = MISSING
    output: msgspec.Raw = MISSING
    data: msgspec.Raw = MISSING


_head = msgspec.json.Decoder(_Head)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Said(NamedTuple):
    """One answer, and its tokens where the upstream reported log-probabilities."""

    answer: Answer
    tokens: list[Token]


class Completed:
    """A complete answer in `dialect`; `usage` None where the upstream reported none worth believing."""

    __slots__ = ("_decoded", "body", "dialect", "usage")

    def __init__(self, dialect: Dialect, body: bytes, usage: Usage | None) -> None:
        self.dialect = dialect
        self.body = body
        self.usage = usage
        self._decoded: dict[str, Any] | None = None

    def decoded(self) -> dict[str, Any]:
        """The whole answer, read once and not to be changed. Raises UpstreamFailed when it cannot be read."""
        if self._decoded is None:
            try:
                value = msgspec.json.decode(self.body)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
                raise UpstreamFailed(f"the upstream's answer cannot be read: {error}") from None
            self._decoded = value if isinstance(value, dict) else {}
        return self._decoded

    def answer(self) -> Answer:
        """The first choice, as comparators see it."""
        return answer_of(self.decoded(), self.dialect)

    def choices(self, tokens: int) -> list[Said]:
        """Every answer, with its first `tokens` tokens; one for a Response."""
        decoded = self.decoded()
        choices = decoded.get("choices")
        if self.dialect == "responses" or not isinstance(choices, list):
            return [Said(answer_of(decoded, self.dialect), [])]
        return [
            Said(Answer.from_choice(choice), tokens_of(choice.get("logprobs"), tokens))
            for choice in choices
            if isinstance(choice, dict)
        ]

    def without_logprobs(self) -> bytes:
        """The body with `logprobs: null` in every choice."""
        fields: dict[str, Any] = dict(_fields.decode(self.body))
        choices = self.decoded().get("choices")
        if isinstance(choices, list):
            fields["choices"] = [c | {"logprobs": None} if isinstance(c, dict) else c for c in choices]
        return msgspec.json.encode(fields)


def read_reply(dialect: Dialect, body: bytes) -> Completed:
    """Check that a 200 is an answer of `dialect` and find its usage. Raises UpstreamFailed where it is not."""
    try:
        head = _head.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise UpstreamFailed("the upstream answered 200 with something that is not a JSON object") from None
    field = MAIN_FIELD[dialect]
    if not bytes(getattr(head, field)).startswith(b"["):
        raise UpstreamFailed(f"the upstream answered 200 without an array '{field}'")
    return Completed(dialect, body, read_usage(head.usage))


def answer_of(decoded: Mapping[str, Any], dialect: Dialect) -> Answer:
    """The first choice (the output items of a Response) as an `Answer`; an empty one where there is none."""
    if dialect == "responses":
        return _answer_of_items(decoded)
    choices = decoded.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else {}
    return Answer.from_choice(first if isinstance(first, dict) else {})


def _answer_of_items(response: Mapping[str, Any]) -> Answer:
    items = [item for item in response.get("output") or [] if isinstance(item, dict)]
    parts = [
        part
        for item in items
        if item.get("type") == "message"
        for part in item.get("content") or []
        if isinstance(part, dict)
    ]
    calls = tuple(
        ToolCall(str(item.get("name", "")), str(item.get("arguments", "")))
        for item in items
        if item.get("type") == "function_call"
    )
    cut = response.get("status") == "incomplete"
    return Answer(
        text="".join(str(part.get("text", "")) for part in parts if part.get("type") == "output_text"),
        tool_calls=calls,
        finish_reason="length" if cut else "tool_calls" if calls else "stop",
        refusal="".join(str(part.get("refusal", "")) for part in parts if part.get("type") == "refusal") or None,
    )
