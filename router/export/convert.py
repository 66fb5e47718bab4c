"""A pair record as an `Example`: chat, text completions and Responses requests all become messages.

A text completion's prompt becomes one user message. The older names of the chat API (`functions`, `function_call`, the
role `function`) become today's. `developer` becomes `system`, which every chat template has. System messages at the
start become one. Reasoning, names of models and everything else that is no text, tool or call stays out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.errors import BadRequest
from router.evidence.compare.base import Answer
from router.evidence.compare.outcomes import is_refusal
from router.evidence.records import ArmAnswer, PairRecord
from router.export.example import Call, Example, Json, Message, Reply, Role, Unusable, Verdict
from router.export.json_text import dump
from router.texts import texts
from router.translate import chat_request

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_TEXT_PARTS = ("text", "refusal")
_LEGACY_ID = "call_of_function"  # the older API has no ids: an answer belongs to the call before it


def example_of(
    record: PairRecord, verdict: Verdict, *, system_prompt: str | None = None, max_tokens: int | None = None
) -> Example:
    """`system_prompt`: what the student gets in place of the client's system messages. Raises Unusable."""
    chat = _chat(record)
    prompt = _with_system(_merged(_messages(chat.get("messages"))), system_prompt)
    taken = {call.id for message in prompt for call in message.calls}
    teacher, student = _reply(record.teacher, taken), _reply(record.student, taken)
    good, bad = (student, teacher) if verdict == "teacher_wrong" else (teacher, student)
    parallel = chat.get("parallel_tool_calls")
    return Example(
        record=record,
        verdict=verdict,
        prompt=prompt,
        tools=tuple(_tools(chat)),
        parallel_tool_calls=parallel if isinstance(parallel, bool) else None,
        good=good,
        bad=bad if verdict in ("student_wrong", "teacher_wrong") else None,
        max_tokens=max_tokens,
    )


def _chat(record: PairRecord) -> Json:
    request = record.request
    if record.endpoint == "chat":
        return request
    if record.endpoint == "completions":
        return {"messages": [{"role": "user", "content": _prompt(request)}]}
    if record.endpoint == "responses":
        try:
            return chat_request(request)
        except BadRequest as error:
            raise Unusable("unknown_items") from error
    raise Unusable("no_conversation")


def _prompt(request: Json) -> str:
    prompt = request.get("prompt")
    if request.get("suffix"):
        raise Unusable("suffix")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if isinstance(prompt, list):
        raise Unusable("several_prompts" if any(isinstance(one, str) for one in prompt) else "token_ids")
    if not isinstance(prompt, str):
        raise Unusable("unreadable_message")
    return prompt


def _messages(items: Any) -> list[Message]:
    if not isinstance(items, list) or not items:
        raise Unusable("unreadable_message")
    messages: list[Message] = []
    for item in items:
        role = _ROLES.get(str(item.get("role"))) if isinstance(item, dict) else None
        if role is None:
            raise Unusable("unreadable_message")
        messages.append(_message(item, role))
    return messages


def _message(item: Json, role: Role) -> Message:
    content = item.get("content")
    if content is not None and not isinstance(content, str | list):
        raise Unusable("unreadable_message")
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    plain = all(part.get("type") in _TEXT_PARTS for part in parts)
    call_id = item.get("tool_call_id") or (_LEGACY_ID if item.get("role") == "function" else "")
    return Message(
        role=role,
        text=_text(item),
        calls=tuple(_calls(item)) if role == "assistant" else (),
        call_id=str(call_id) if role == "tool" else "",
        name=str(item.get("name") or "") if role == "tool" else "",
        parts=() if plain else tuple(parts),
    )


def _text(item: Json) -> str:
    """Of its content; a refusal stands there as a part, or beside it where there is no content."""
    content = item.get("content") or item.get("refusal")
    parts = content if isinstance(content, list) else [content]
    return "\n".join(text for part in parts for text in texts(_unrefused(part)))


def _unrefused(part: Any) -> Any:
    return part.get("refusal") if isinstance(part, dict) and part.get("type") == "refusal" else part


def _calls(item: Json) -> list[Call]:
    calls = item.get("tool_calls")
    found = [_call(call) for call in calls] if isinstance(calls, list) else []
    legacy = item.get("function_call")
    if not found and isinstance(legacy, dict):
        found = [_call({"id": _LEGACY_ID, "function": legacy})]
    return found


def _call(call: Any) -> Call:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise Unusable("custom_tool" if isinstance(call, dict) and "custom" in call else "unreadable_message")
    arguments = function.get("arguments", "")
    return Call(
        id=str(call.get("id") or ""),
        name=str(function.get("name") or ""),
        arguments=arguments if isinstance(arguments, str) else dump(arguments),
    )


def _tools(chat: Json) -> list[Json]:
    """Function definitions with what trainers know of them: name, description, parameters, strict."""
    tools = chat.get("tools") or [{"type": "function", "function": one} for one in chat.get("functions") or ()]
    return [_tool(tool) for tool in tools] if isinstance(tools, list) else []


def _tool(tool: Any) -> Json:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Unusable("custom_tool")
    kept = {key: function[key] for key in ("description", "strict") if function.get(key) is not None}
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    return {"type": "function", "function": {"name": function["name"], **kept, "parameters": parameters}}


def _merged(messages: list[Message]) -> list[Message]:
    """System messages at the start as one: most chat templates take a single one."""
    leading = [message for message in messages[: _leading(messages)] if message.text.strip()]
    rest = messages[_leading(messages) :]
    if not leading:
        return rest
    return [Message("system", "\n\n".join(message.text for message in leading)), *rest]


def _leading(messages: list[Message]) -> int:
    return next((n for n, message in enumerate(messages) if message.role != "system"), len(messages))


def _with_system(messages: list[Message], system_prompt: str | None) -> tuple[Message, ...]:
    if system_prompt is None:
        return tuple(messages)
    return (Message("system", system_prompt), *(message for message in messages if message.role != "system"))


def _reply(answer: ArmAnswer, taken: set[str]) -> Reply:
    free = (name for n in range(1, len(taken) + len(answer.tool_calls) + 1) if (name := f"call_{n}") not in taken)
    calls = tuple(
        Call(id=call_id, name=call["name"], arguments=call["arguments"])
        for call, call_id in zip(answer.tool_calls, free, strict=False)
    )
    said = Answer.from_choice(
        {"message": {"content": answer.text, "refusal": answer.refusal}, "finish_reason": answer.finish_reason}
    )
    return Reply(
        message=Message("assistant", answer.text, calls),
        truncated=answer.finish_reason == "length",
        refused=not calls and is_refusal(said),
        failed=answer.error is not None,
        tokens=answer.tokens.input + answer.tokens.output,
    )


def bare_example(record: PairRecord, verdict: Verdict) -> Example:
    """For formats that keep the record as it is: the request's text stands for a prompt that cannot be told."""
    prompt = (Message("user", "\n".join(texts(record.request.get("prompt") or record.request.get("input")))),)
    good, bad = _reply(record.teacher, set()), _reply(record.student, set())
    return Example(record, verdict, prompt, (), None, good, bad)
