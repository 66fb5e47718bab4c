"""TRL, `DPOTrainer`: conversational preference, `{"prompt": [...], "chosen": [...], "rejected": [...]}` and `tools`.

Source: https://huggingface.co/docs/trl/dataset_formats#preference and https://huggingface.co/docs/trl/dpo_trainer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from router.export.example import Example
from router.export.formats.base import JsonLines, Row
from router.export.formats.trl_chat import trl_message, trl_prompt, trl_tools
from router.export.lint import Rules


class TrlDpo(JsonLines):
    name: ClassVar[str] = "trl-dpo"
    rules: ClassVar[Rules] = Rules(needs="pair")

    def rows(self, example: Example) -> Iterator[Row]:
        assert example.bad is not None
        yield {
            "prompt": trl_prompt(example),
            "chosen": [trl_message(example.good.message)],
            "rejected": [trl_message(example.bad.message)],
            **trl_tools(example),
        }
