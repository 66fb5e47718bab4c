"""Messages as OpenAI's chat API and fine-tuning files have them: a call's arguments are a string of JSON.

Source: https://platform.openai.com/docs/api-reference/chat/create (messages, tools, parallel_tool_calls), and the
schemas FineTuneChatRequestInput and FineTunePreferenceRequestInput of https://github.com/openai/openai-openapi.
"""

from __future__ import annotations

from router.export.example import Call, Example, Json, Message


def openai_message(message: Message) -> Json:
    """Without `content` where there are only calls, as OpenAI's examples of tool calls are."""
    row: Json = {"role": message.role}
    if message.role == "tool":
        row["tool_call_id"] = message.call_id
    if message.parts:
        row["content"] = list(message.parts)
    elif message.text or not message.calls:
        row["content"] = message.text
    if message.calls:
        row["tool_calls"] = [openai_call(call) for call in message.calls]
    return row


def openai_call(call: Call) -> Json:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def openai_tools(example: Example) -> Json:
    """`tools` and `parallel_tool_calls`; nothing without tools, where OpenAI refuses the other."""
    if not example.tools:
        return {}
    parallel = {} if example.parallel_tool_calls is None else {"parallel_tool_calls": example.parallel_tool_calls}
    return {"tools": list(example.tools), **parallel}
