"""TRL, `SFTTrainer`: conversational prompt-completion, `{"prompt": [...], "completion": [assistant], "tools": [...]}`.

With a completion of its own the loss is on the answer alone, which is what was compared.
Source: https://huggingface.co/docs/trl/dataset_formats#prompt-completion and https://huggingface.co/docs/trl/sft_trainer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from router.export.example import Example
from router.export.formats.base import JsonLines, Row
from router.export.formats.trl_chat import trl_message, trl_prompt, trl_tools
from router.export.lint import Rules


class TrlSft(JsonLines):
    name: ClassVar[str] = "trl-sft"
    rules: ClassVar[Rules] = Rules()

    def rows(self, example: Example) -> Iterator[Row]:
        yield {
            "prompt": trl_prompt(example),
            "completion": [trl_message(example.good.message)],
            **trl_tools(example),
        }
