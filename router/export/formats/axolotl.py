"""Axolotl, `type: chat_template`: `{"messages": [...], "tools": [...]}`; a call's arguments are a string of JSON.

Axolotl reads both forms of arguments and recommends the string where arguments of one name have different types.

    datasets: [{path: FILE, ds_type: json, type: chat_template, roles_to_train: [], message_field_training: train}]

With that the loss is on the answer alone (`train: true`), else on every turn of the assistant.
Source: https://docs.axolotl.ai/docs/dataset-formats/conversation.html (tool use, fine-grained control).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from router.export.example import Example, Json, Message
from router.export.formats.base import JsonLines, Row
from router.export.formats.openai_chat import openai_call
from router.export.lint import Rules


class Axolotl(JsonLines):
    name: ClassVar[str] = "axolotl"
    rules: ClassVar[Rules] = Rules()

    def rows(self, example: Example) -> Iterator[Row]:
        messages = [_message(message, train=False) for message in example.prompt]
        tools = {"tools": list(example.tools)} if example.tools else {}
        yield {"messages": [*messages, _message(example.good.message, train=True)], **tools}


def _message(message: Message, *, train: bool) -> Json:
    row: Json = {"role": message.role, "content": message.text, "train": train}
    if message.role == "tool":
        row |= {"tool_call_id": message.call_id} | ({"name": message.name} if message.name else {})
    if message.calls:
        row["tool_calls"] = [openai_call(call) for call in message.calls]
    return row
