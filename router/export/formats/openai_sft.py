"""OpenAI, supervised: `{"messages": [..., assistant], "tools": [...], "parallel_tool_calls": true}`.

The answer is the last message. Earlier turns of the assistant get `weight: 0`: they are what the client sent, not the
answer that was compared. A user's images stay, as URLs. At most 65,536 tokens an example and 128 tools.
Source: https://platform.openai.com/docs/guides/supervised-fine-tuning,
https://platform.openai.com/docs/guides/vision-fine-tuning, https://platform.openai.com/docs/guides/fine-tuning-best-practices
and FineTuneChatRequestInput of https://github.com/openai/openai-openapi.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from router.export.example import Example, Json, Message
from router.export.formats.base import JsonLines, Row
from router.export.formats.openai_chat import openai_message, openai_tools
from router.export.lint import Rules

MAX_TOKENS = 65_536
MAX_TOOLS = 128


class OpenAiSft(JsonLines):
    name: ClassVar[str] = "openai-sft"
    rules: ClassVar[Rules] = Rules(
        parts=frozenset({"image_url"}), late_system=True, max_tokens=MAX_TOKENS, max_tools=MAX_TOOLS
    )

    def rows(self, example: Example) -> Iterator[Row]:
        messages = [_weighed(message) for message in example.prompt]
        yield {"messages": [*messages, openai_message(example.good.message)], **openai_tools(example)}


def _weighed(message: Message) -> Json:
    return openai_message(message) | ({"weight": 0} if message.role == "assistant" else {})
