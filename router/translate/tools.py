"""The tools of a Responses request as chat-completions tools. Only functions cross: hosted tools run at OpenAI."""

from __future__ import annotations

from typing import Any

from router.errors import BadRequest
from router.translate.fields import Json, expect, one_of, optional, required


def tool_fields(body: Json) -> Json:
    """`tools`, `tool_choice` and `parallel_tool_calls` of the chat request; nothing where the request has no tools,
    because chat servers refuse the other two without them."""
    tools = [_chat_tool(tool, f"tools[{index}]") for index, tool in enumerate(body.get("tools") or ())]
    choice, allowed = _choice(body.get("tool_choice"), {tool["function"]["name"] for tool in tools})
    if not tools:
        return {}
    fields: Json = {"tools": [tool for tool in tools if allowed is None or tool["function"]["name"] in allowed]}
    if choice is not None:
        fields["tool_choice"] = choice
    if body.get("parallel_tool_calls") is not None:
        fields["parallel_tool_calls"] = body["parallel_tool_calls"]
    return fields


def _chat_tool(tool: Any, path: str) -> Json:
    kind = required(expect(tool, dict, path), "type", str, path)
    if kind != "function":
        raise _no_such_tool(kind, f"{path}.type")
    required(tool, "name", str, path)
    optional(tool, "description", str, path)
    optional(tool, "parameters", dict, path)
    optional(tool, "strict", bool, path)
    return {
        "type": "function",
        "function": {key: value for key, value in tool.items() if key != "type" and value is not None},
    }


def _choice(choice: Any, names: set[str]) -> tuple[Any, set[str] | None]:
    """The chat `tool_choice`, and the tools that it leaves (None: all). `allowed_tools` becomes a shorter tool list,
    because few chat servers know it."""
    if choice is None or isinstance(choice, str):
        return _mode(choice, names), None
    kind = required(expect(choice, dict, "tool_choice"), "type", str, "tool_choice")
    if kind == "function":
        name = _known(required(choice, "name", str, "tool_choice"), names, "tool_choice.name")
        return {"type": "function", "function": {"name": name}}, None
    if kind == "allowed_tools":
        mode = one_of(required(choice, "mode", str, "tool_choice"), ("auto", "required"), "tool_choice.mode")
        return mode, _allowed(required(choice, "tools", list, "tool_choice"), names)
    raise _no_such_tool(kind, "tool_choice.type")


def _mode(choice: str | None, names: set[str]) -> str | None:
    if choice is None:
        return None
    if one_of(choice, ("auto", "none", "required"), "tool_choice") == "required" and not names:
        raise BadRequest("tool_choice is 'required' but there are no tools.", param="tool_choice")
    return choice


def _allowed(entries: list[Any], names: set[str]) -> set[str]:
    allowed = set()
    for index, entry in enumerate(entries):
        path = f"tool_choice.tools[{index}]"
        kind = required(expect(entry, dict, path), "type", str, path)
        if kind != "function":
            raise _no_such_tool(kind, f"{path}.type")
        allowed.add(_known(required(entry, "name", str, path), names, f"{path}.name"))
    if not allowed:
        raise BadRequest("tool_choice.tools names no tool.", param="tool_choice.tools")
    return allowed


def _known(name: str, names: set[str], param: str) -> str:
    if name not in names:
        known = ", ".join(sorted(names)) or "none"
        raise BadRequest(f"{param} is {name!r}, which is not among the tools; known: {known}.", param=param)
    return name


def _no_such_tool(kind: str, param: str) -> BadRequest:
    message = f"{param} is {kind!r}; this gateway translates to chat completions, which have only 'function' tools."
    return BadRequest(f"{message} Declare a function and run it on your side.", param=param, code="unsupported_tool")
