"""LLaMA-Factory: rows as in `sharegpt`, and the file's entry in `dataset_info.json` beside it, under the file's name.

`dataset: NAME` and `dataset_dir: FOLDER` then train on it; set `mask_history: true` for the loss on the answer alone.
Source: https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from router.export.example import Json
from router.export.formats.sharegpt import ShareGpt

INFO = "dataset_info.json"


class LlamaFactory(ShareGpt):
    name: ClassVar[str] = "llamafactory"

    def registration(self, out: Path) -> dict[str, Json]:
        entry = {
            "file_name": out.name,
            "formatting": "sharegpt",
            "columns": {"messages": "conversations", "system": "system", "tools": "tools"},
            "tags": {
                "role_tag": "from",
                "content_tag": "value",
                "user_tag": "human",
                "assistant_tag": "gpt",
                "observation_tag": "observation",
                "function_tag": "function_call",
            },
        }
        return {INFO: {out.stem: entry}}
