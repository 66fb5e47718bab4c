"""OpenAI, preference: `{"input": {"messages", "tools"}, "preferred_output": […], "non_preferred_output": […]}`.

Each output is a list of one assistant message. Text only. The preferred output is the better answer of the pair.
Source: https://developers.openai.com/api/docs/guides/direct-preference-optimization and FineTunePreferenceRequestInput
of https://github.com/openai/openai-openapi.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from router.export.example import Example
from router.export.formats.base import JsonLines, Row
from router.export.formats.openai_chat import openai_message, openai_tools
from router.export.formats.openai_sft import MAX_TOKENS, MAX_TOOLS
from router.export.lint import Rules


class OpenAiDpo(JsonLines):
    name: ClassVar[str] = "openai-dpo"
    rules: ClassVar[Rules] = Rules(needs="pair", late_system=True, max_tokens=MAX_TOKENS, max_tools=MAX_TOOLS)

    def rows(self, example: Example) -> Iterator[Row]:
        assert example.bad is not None
        messages = [openai_message(message) for message in example.prompt]
        yield {
            "input": {"messages": messages, **openai_tools(example)},
            "preferred_output": [openai_message(example.good.message)],
            "non_preferred_output": [openai_message(example.bad.message)],
        }
