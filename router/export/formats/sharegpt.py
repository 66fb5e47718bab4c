"""ShareGPT as LLaMA-Factory reads it: `{"conversations": [{"from", "value"}], "system": "...", "tools": "[...]"}`.

`human` and `observation` stand at odd places, `gpt` and `function_call` at even ones; messages of the same side in a
row are joined. A call is `{"name", "arguments"}` with an object, several calls of one turn are a list of them, and
their results a list as well. `system` and `tools` (a string of JSON) are always there, empty where there is none.
Source: https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md (sharegpt format) and its
src/llamafactory/data/converter.py (SharegptDatasetConverter).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import ClassVar

from router.export.example import Example, Json, Message
from router.export.formats.base import JsonLines, Row, arguments
from router.export.json_text import dump
from router.export.lint import Rules


class ShareGpt(JsonLines):
    name: ClassVar[str] = "sharegpt"
    rules: ClassVar[Rules] = Rules(alternates=True, text_beside_calls=False)

    def rows(self, example: Example) -> Iterator[Row]:
        spoken = [message for message in example.prompt if message.role != "system"]
        system = [message.text for message in example.prompt if message.role == "system"]
        yield {
            "conversations": [*turns([*spoken, example.good.message])],
            "system": "".join(system),
            "tools": dump([tool["function"] for tool in example.tools]) if example.tools else "",
        }


def turns(messages: list[Message]) -> Iterator[Json]:
    for role, group in groupby(messages, key=lambda message: message.role):
        said = list(group)
        if role == "user":
            yield {"from": "human", "value": "\n\n".join(message.text for message in said)}
        elif role == "tool":
            results = [message.text for message in said]
            yield {"from": "observation", "value": results[0] if len(results) == 1 else dump(results)}
        else:
            yield _answer(said[0])


def _answer(message: Message) -> Json:
    if not message.calls:
        return {"from": "gpt", "value": message.text}
    calls = [{"name": call.name, "arguments": arguments(call.arguments)} for call in message.calls]
    return {"from": "function_call", "value": dump(calls[0] if len(calls) == 1 else calls)}
