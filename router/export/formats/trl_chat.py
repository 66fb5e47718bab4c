"""Messages as TRL and the chat templates of `transformers` want them: a call's arguments are an object.

`content` is always text: many templates add it to a string. `tools` is a list of JSON schemas and is left out where
there are none. Arguments of different tools need `datasets` 4.7 or later, which reads them as JSON; older versions fill
in each other's keys. TRL asks for that version.
Source: https://huggingface.co/docs/trl/dataset_formats (tool calling) and
https://huggingface.co/docs/transformers/chat_extras.
"""

from __future__ import annotations

from router.export.example import Example, Json, Message
from router.export.formats.base import arguments


def trl_message(message: Message) -> Json:
    row: Json = {"role": message.role, "content": message.text}
    if message.role == "tool":
        row |= {"tool_call_id": message.call_id} | ({"name": message.name} if message.name else {})
    if message.calls:
        row["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": arguments(call.arguments)},
            }
            for call in message.calls
        ]
    return row


def trl_prompt(example: Example) -> list[Json]:
    return [trl_message(message) for message in example.prompt]


def trl_tools(example: Example) -> Json:
    return {"tools": list(example.tools)} if example.tools else {}
