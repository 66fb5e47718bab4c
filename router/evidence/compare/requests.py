"""What a client's request says about the answers that it wants: JSON and its schema, tools, the conversation.

Reads the decoded body of each endpoint: chat (`messages`, `response_format`, `tools`), completions (`prompt`) and
Responses (`input`, `instructions`, `text.format`, `tools`). A field of the wrong type counts as absent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

READ = 20_000  # characters of a request, from its end, in which wishes about the form are looked for
_EXACT_FORM = re.compile(
    r"\b(?:exact(?:ly)?|verbatim|character for character|format|pattern|regexp?|pars(?:e|er|ed|es)|scripts?|programs?"
    r"|machine|key|spell(?:ed|ing)?|digits?|(?:24|12)[- ]?h(?:ours?)?|(?:only|just|with|by) (?:the|a|one|its) letter"
    r"|letter only)\b|yyyy|dd[./-]mm|hh:",
    re.IGNORECASE,
)
_EXACT_VALUES = re.compile(
    r"\b(?:exact(?:ly)?|verbatim|as (?:is|written)|format(?:ted)?|pattern|regexp?|digits|spaces?|seconds|utc|e\.?164"
    r"|upper ?-?case|lower ?-?case|capital(?:s|i[sz]e\w*| letters)|decimals?|round(?:ed)?)\b|yyyy|hh:",
    re.IGNORECASE,
)
_ORDER = re.compile(
    r"\b(?:order(?! (?:does|is|of) (?:not|no|irrelevant|free)\b)(?:ed|ing)?|rank\w*|sort\w*|sequen\w*|steps?"
    r"|priorit\w*|chronolog\w*|alphabet\w*|ascend\w*|descend\w*|first|second|last|then|next|before|after|each|every"
    r"|respective\w*|oldest|newest|latest|earliest|largest|smallest|biggest|top|most|least|best|worst|winners?"
    r"|runners?[- ]up|route|path|itinerary|origin|destination|legs?|home|away|left|right|turns?|plan|schedule)\b"
    r"|^\s*(?:\d+|[a-j])[.)]\s",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """JSON was asked for; `schema` is the client's JSON Schema, None for plain JSON mode."""

    schema: Mapping[str, Any] | None = None


def json_format(request: Mapping[str, Any]) -> JsonFormat | None:
    """The JSON format of `response_format` (chat) or `text.format` (Responses); None where text was asked for."""
    wanted = _mapping(request.get("response_format")) or _mapping(_mapping(request.get("text")).get("format"))
    if wanted.get("type") == "json_object":
        return JsonFormat()
    if wanted.get("type") != "json_schema":
        return None
    holder = _mapping(wanted.get("json_schema")) or wanted
    schema = holder.get("schema")
    return JsonFormat(schema if isinstance(schema, Mapping) else None)


def tool_schemas(request: Mapping[str, Any]) -> dict[str, Mapping[str, Any] | None] | None:
    """The parameters' schema of each tool by name, {} where a function has none, None where a tool takes free text.

    None without a list of tools that have names.
    """
    tools, functions = request.get("tools"), request.get("functions")
    listed = [*(tools if isinstance(tools, list) else []), *(functions if isinstance(functions, list) else [])]
    found: dict[str, Mapping[str, Any] | None] = {}
    for tool in map(_mapping, listed):
        body = _mapping(tool.get("function")) or _mapping(tool.get("custom")) or tool
        name = body.get("name")
        if isinstance(name, str):
            found[name] = None if tool.get("type") == "custom" else _mapping(body.get("parameters"))
    return found or None


def conversation(request: Mapping[str, Any]) -> str:
    """The request as text for a reader, one `role: text` per message."""
    return "\n\n".join(f"{role}: {text}" for role, text in _turns(request) if text)


def wishes(request: Mapping[str, Any]) -> str:
    """The end of the conversation: where a client says what the answer must look like."""
    return conversation(request)[-READ:]


def wants_exact_form(request: Mapping[str, Any]) -> bool:
    """A program seems to read the answer: another notation of the same thing is then no answer."""
    return _EXACT_FORM.search(wishes(request)) is not None


def wants_exact_values(request: Mapping[str, Any]) -> bool:
    """The request says how a value inside JSON or a call is to be written: "YYYY-MM-DD", "without spaces"."""
    return _EXACT_VALUES.search(wishes(request)) is not None


def wants_order(request: Mapping[str, Any]) -> bool:
    """The request speaks of an order, or of several things to answer one by one."""
    return _ORDER.search(wishes(request)) is not None


def _turns(request: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if isinstance(request.get("instructions"), str):
        yield "system", request["instructions"]
    for name, role in (("prompt", "prompt"), ("input", "user"), ("messages", "user")):
        value = request.get(name)
        if isinstance(value, str):
            yield role, value
        for item in value if isinstance(value, list) else []:
            yield _turn(item, role)


def _turn(item: object, role: str) -> tuple[str, str]:
    if isinstance(item, str):
        return role, item
    message = _mapping(item)
    said = message.get("role") or message.get("type")
    calls = [message[name] for name in ("tool_calls", "arguments", "output") if message.get(name)]
    text = _text(message.get("content"))
    return str(said or role), "\n".join([*([text] if text else []), *(_text(call) or _json(call) for call in calls)])


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = [_mapping(part) for part in content] if isinstance(content, list) else []
    return "\n".join(part["text"] for part in parts if isinstance(part.get("text"), str))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
