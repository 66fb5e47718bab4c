"""The shapes of the demo models, and their checkpoints in Hugging Face format with bfloat16 weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from transformers import LlamaConfig, LlamaForCausalLM

from serving.demo.tokenizer import CONTEXT_TOKENS, END_ID, PAD_ID, VOCAB_SIZE, save_tokenizer

HEAD_WIDTH = 32
"""The smallest head that vLLM's CPU attention runs."""


@dataclass(frozen=True)
class Shape:
    """The size of a Llama model."""

    hidden: int
    layers: int
    intermediate: int
    kv_heads: int

    @property
    def heads(self) -> int:
        return self.hidden // HEAD_WIDTH


TEACHER_SHAPE = Shape(hidden=128, layers=4, intermediate=384, kv_heads=2)
STUDENT_SHAPE = Shape(hidden=64, layers=2, intermediate=192, kv_heads=2)

# The defaults that engines take over (vLLM reads the temperature from here): greedy, so that demo answers repeat.
GENERATION_CONFIG = {"eos_token_id": END_ID, "pad_token_id": PAD_ID, "do_sample": False, "temperature": 0.0}


def config_of(shape: Shape) -> dict[str, Any]:
    """The content of config.json."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCAB_SIZE,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "intermediate_size": shape.intermediate,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": HEAD_WIDTH,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT_TOKENS,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": END_ID,
        "pad_token_id": PAD_ID,
        "torch_dtype": "bfloat16",
    }


def new_model(shape: Shape) -> Any:
    """A model with random float32 weights."""
    settings = {key: value for key, value in config_of(shape).items() if key not in ("model_type", "torch_dtype")}
    return LlamaForCausalLM(LlamaConfig(**settings)).train()


def parameters_of(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def save_checkpoint(model: Any, shape: Shape, folder: Path) -> None:
    """Write a checkpoint beside its place and rename it, so that nobody reads half of one."""
    staging, retired = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    for leftover in (staging, retired):
        shutil.rmtree(leftover, ignore_errors=True)
    staging.mkdir(parents=True)
    weights = {name: tensor.detach().to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    del weights["lm_head.weight"]  # tied to the embeddings
    (staging / "model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))
    for name, content in (("config.json", config_of(shape)), ("generation_config.json", GENERATION_CONFIG)):
        (staging / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    save_tokenizer(staging)
    if folder.exists():
        folder.rename(retired)
    staging.rename(folder)
    shutil.rmtree(retired, ignore_errors=True)


def load_checkpoint(folder: Path) -> Any:
    """The saved model: weights rounded to bfloat16, arithmetic in float32."""
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
