"""The formats by their names. A new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from router.export.formats.axolotl import Axolotl
from router.export.formats.base import Format
from router.export.formats.llamafactory import LlamaFactory
from router.export.formats.openai_dpo import OpenAiDpo
from router.export.formats.openai_sft import OpenAiSft
from router.export.formats.parquet import Parquet
from router.export.formats.prompts import Prompts
from router.export.formats.sharegpt import ShareGpt
from router.export.formats.trl_dpo import TrlDpo
from router.export.formats.trl_kto import TrlKto
from router.export.formats.trl_sft import TrlSft

_ALL: tuple[Format, ...] = (
    OpenAiSft(),
    OpenAiDpo(),
    TrlSft(),
    TrlDpo(),
    TrlKto(),
    ShareGpt(),
    LlamaFactory(),
    Axolotl(),
    Prompts(),
    Parquet(),
)
FORMATS: Mapping[str, Format] = {one.name: one for one in _ALL}
