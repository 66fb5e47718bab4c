"""Run by the Python that has TRL: files of an export through TRL's trainers, as JSON on standard output.

    python training_files.py FOLDER CHECKPOINT

FOLDER has trl-sft.jsonl, trl-dpo.jsonl, trl-kto.jsonl and prompts.jsonl; CHECKPOINT a tokenizer with a chat template.
Each trainer reads its file with `load_dataset`, prepares it and takes one step with a tiny Llama. What comes out are
the texts that it would learn, decoded from its own tokens, once with the checkpoint's chat template and once
with ChatML.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped]  # no types in the package
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import (  # type: ignore[import-not-found]  # installed beside vLLM alone
    DPOConfig,
    DPOTrainer,
    KTOConfig,
    KTOTrainer,
    SFTConfig,
    SFTTrainer,
    is_conversational,
)
from trl.data_utils import maybe_apply_chat_template  # type: ignore[import-not-found]  # installed beside vLLM alone

# As Qwen's: tool calls in <tool_call>, whose arguments are dumped, so that a string would come out quoted twice.
CHATML = """
{%- if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

COMMON: dict[str, Any] = {
    "max_steps": 1,
    "per_device_train_batch_size": 2,
    "use_cpu": True,
    "bf16": False,
    "report_to": [],
    "save_strategy": "no",
    "disable_tqdm": True,
    "max_length": 4096,
    "gradient_checkpointing": False,
}


def main(folder: Path, checkpoint: Path) -> None:
    datasets.disable_progress_bars()
    read = {name: load(folder, name) for name in ("trl-sft", "trl-dpo", "trl-kto", "prompts")}
    result: dict[str, Any] = {
        "conversational": {name: [is_conversational(row) for row in rows] for name, rows in read.items()}
    }
    for name, template in (("checkpoint", None), ("chatml", CHATML)):
        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        tokenizer.chat_template = template or tokenizer.chat_template
        result[name] = {
            "formatted": {kind: formatted(rows, tokenizer) for kind, rows in read.items()},
            "sft": sft(read["trl-sft"], tokenizer, folder),
            "dpo": dpo(read["trl-dpo"], tokenizer, folder),
            "kto": kto(read["trl-kto"], tokenizer, folder),
        }
    json.dump(result, sys.stdout)


def load(folder: Path, name: str) -> datasets.Dataset:
    path = str(folder / f"{name}.jsonl")
    return datasets.load_dataset("json", data_files=path, split="train", cache_dir=str(folder / "cache"))


def formatted(rows: datasets.Dataset, tokenizer: Any) -> list[dict[str, Any]]:
    return [maybe_apply_chat_template(row, tokenizer, tools=row.get("tools")) for row in rows]


def tiny(tokenizer: Any) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def sft(rows: datasets.Dataset, tokenizer: Any, folder: Path) -> list[str]:
    config = SFTConfig(str(folder / "out"), **COMMON)
    trainer = SFTTrainer(tiny(tokenizer), config, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    return [
        tokenizer.decode([token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label >= 0])
        for row in trainer.train_dataset
    ]


def dpo(rows: datasets.Dataset, tokenizer: Any, folder: Path) -> list[list[str]]:
    config = DPOConfig(str(folder / "out"), **COMMON)
    trainer = DPOTrainer(tiny(tokenizer), tiny(tokenizer), config, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    return [
        [tokenizer.decode(row["chosen_ids"]), tokenizer.decode(row["rejected_ids"])] for row in trainer.train_dataset
    ]


def kto(rows: datasets.Dataset, tokenizer: Any, folder: Path) -> list[tuple[str, bool]]:
    config = KTOConfig(str(folder / "out"), **COMMON)
    trainer = KTOTrainer(tiny(tokenizer), tiny(tokenizer), config, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    return [(tokenizer.decode(row["completion_ids"]), bool(row["label"])) for row in trainer.train_dataset]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
