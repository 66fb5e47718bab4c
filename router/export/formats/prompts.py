"""Prompts alone, `{"prompt": [...], "tools": [...]}`: for a trainer that asks the student itself (GRPO, distillation).

Source: https://huggingface.co/docs/trl/dataset_formats#prompt-only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from router.export.example import Example
from router.export.formats.base import JsonLines, Row
from router.export.formats.trl_chat import trl_prompt, trl_tools
from router.export.lint import Rules


class Prompts(JsonLines):
    name: ClassVar[str] = "prompts"
    rules: ClassVar[Rules] = Rules(needs="prompt")

    def rows(self, example: Example) -> Iterator[Row]:
        yield {"prompt": trl_prompt(example), **trl_tools(example)}
