"""What a request says, live or from its record: its texts by who said them, and what estimators look at."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from policies.query import Query
from router.texts import texts

PROMPT_FIELD: Mapping[str, str] = {
    "chat": "messages",
    "completions": "prompt",
    "responses": "input",
    "embeddings": "input",
}
INSTRUCTING = frozenset({"system", "developer"})
OUTPUT_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
TOOL_FIELDS = ("tools", "functions")
MAX_OPENING_CHARACTERS = 4096
LARGEST = 2**53  # integer that a client may send: beyond it a float is no longer exact


@dataclass(frozen=True, slots=True)
class Prompt:
    """`system`: every instruction beside the conversation; `last`: the last user message; `whole`: all texts.

    `said`: the conversation's texts without instructions; `turns`: how many messages are the user's.
    """

    system: str
    last: str
    whole: str
    said: str
    turns: int


def said_of(request: Mapping[str, Any], endpoint: str) -> Any:
    """What an endpoint reads as the conversation; None where it is missing, whatever else the request holds."""
    return request.get(PROMPT_FIELD.get(endpoint, ""))


def read_prompt(request: Mapping[str, Any], endpoint: str) -> Prompt:
    """Of a chat, completion, Responses or embedding request; what is not text is left out."""
    said = said_of(request, endpoint)
    instructions = [request["instructions"]] if isinstance(request.get("instructions"), str) else []
    messages = [(message.get("role"), "\n".join(texts(dict(message)))) for message in _messages(said)]
    whole = "\n".join(texts(said))
    if not messages:
        return Prompt("\n".join(instructions), whole, whole, whole, 1)
    users = [text for role, text in messages if role == "user"]
    system = instructions + [text for role, text in messages if role in INSTRUCTING]
    spoken = "\n".join(text for role, text in messages if role not in INSTRUCTING)
    return Prompt("\n".join(system), users[-1] if users else "", whole, spoken, len(users))


def query_of(
    request: Mapping[str, Any], endpoint: str, *, needs: Collection[str], tenant: str, key: str, route: str
) -> Query:
    """What an estimator looks at of a decoded request; a field of a wrong type counts as left out."""
    prompt = read_prompt(request, endpoint)
    limits = [limit for name in OUTPUT_LIMITS if isinstance(limit := request.get(name), int) and limit <= LARGEST]
    return Query(
        system=prompt.system,
        last=prompt.last,
        whole=prompt.said,
        turns=prompt.turns,
        tools=sum(len(offered) for name in TOOL_FIELDS if isinstance(offered := request.get(name), list)),
        needs=frozenset(needs),
        output_tokens=limits[0] if limits else None,
        tenant=tenant,
        key=key,
        route=route,
    )


def opening(said: Any) -> Any:
    """The messages up to the first one of the user; of anything else all."""
    if not isinstance(said, list):
        return said
    for number, message in enumerate(said):
        if isinstance(message, dict) and message.get("role") == "user":
            return said[: number + 1]
    return said


def opening_text(said: Any, most: int = MAX_OPENING_CHARACTERS) -> str:
    """What stays the same over the turns of a conversation, bounded as by `bounded`."""
    return bounded("\n".join(texts(opening(said))), most)


def bounded(text: str, most: int = MAX_OPENING_CHARACTERS) -> str:
    """The text, or of one above `most` characters its start and a digest of all of it: a template with which all begin
    or end must not make all of them one."""
    if len(text) <= most:
        return text
    return text[:most] + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _messages(said: Any) -> Iterator[Mapping[str, Any]]:
    for item in said if isinstance(said, list) else ():
        if isinstance(item, Mapping) and "role" in item:
            yield item
