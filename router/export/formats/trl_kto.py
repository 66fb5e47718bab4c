"""TRL, `KTOTrainer`: conversational unpaired preference, `{"prompt", "completion", "label": true}` and `tools`.

A disagreement gives two rows: the answer to imitate (true) and the one to avoid (false), the latter where there is a
whole one that differs. A pair that agrees gives the first row alone.
Source: https://huggingface.co/docs/trl/dataset_formats#unpaired-preference and https://huggingface.co/docs/trl/kto_trainer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from router.export.example import Example, Reply
from router.export.formats.base import JsonLines, Row
from router.export.formats.trl_chat import trl_message, trl_prompt, trl_tools
from router.export.json_text import parsed_object
from router.export.lint import Rules, same


class TrlKto(JsonLines):
    name: ClassVar[str] = "trl-kto"
    rules: ClassVar[Rules] = Rules(needs="labels")

    def rows(self, example: Example) -> Iterator[Row]:
        yield _row(example, example.good, label=True)
        if example.bad is not None and _whole(example.bad) and not same(example.good, example.bad):
            yield _row(example, example.bad, label=False)


def _row(example: Example, reply: Reply, *, label: bool) -> Row:
    return {
        "prompt": trl_prompt(example),
        "completion": [trl_message(reply.message)],
        "label": label,
        **trl_tools(example),
    }


def _whole(reply: Reply) -> bool:
    readable = all(parsed_object(call.arguments) is not None for call in reply.message.calls)
    return readable and not (reply.failed or reply.truncated or reply.empty)
