"""A random-initialised Llama checkpoint of a few kilobytes, written as Hugging Face would: for tests of mechanics."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from serving.embedded.checkpoint import LlamaConfig, weight_shapes

CONTEXT_TOKENS = 4096
END = "<|im_end|>"
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 260,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT_TOKENS,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500.0,
    "hidden_act": "silu",
    "eos_token_id": 257,
}
CHAT_TEMPLATE = """\
{%- if tools %}
    {{- tools | tojson }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'function' %}
        {{- raise_exception('no function role here') }}
    {%- endif %}
    {{- '<|' + message.role + '|>' + (message.content or '') }}
    {%- for call in message.tool_calls or [] %}
        {{- call.function.arguments | tojson }}
    {%- endfor %}
    {{- eos_token }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>' }}
{%- endif %}
"""


def write_checkpoint(folder: Path, *, stored_as: str = "BF16", **config: Any) -> Path:
    """A checkpoint with seeded random weights; keys of config.json may be overridden."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {**CONFIG, **config}
    _write_json(folder / "config.json", content)
    _write_json(folder / "generation_config.json", {"eos_token_id": 257})
    _write_json(
        folder / "tokenizer_config.json",
        {"eos_token": {"content": END}, "bos_token": None, "chat_template": CHAT_TEMPLATE},
    )
    _tokenizer().save(str(folder / "tokenizer.json"))
    write_weights(folder / "model.safetensors", random_weights(LlamaConfig.model_validate(content)), stored_as)
    return folder


def random_weights(config: LlamaConfig) -> dict[str, NDArray[np.float32]]:
    """Large enough for answers that vary, small enough for probabilities that are not all 0 or 1."""
    rng = np.random.default_rng(0)
    weights = {}
    for name, shape in weight_shapes(config):
        noise = rng.standard_normal(shape)
        weights[name] = (1 + noise / 10 if len(shape) == 1 else noise / 4).astype(np.float32)
    return weights


def write_weights(file: Path, weights: dict[str, NDArray[np.float32]], stored_as: str = "F32") -> None:
    """The safetensors format: the header's size, the header, the data."""
    header: dict[str, Any] = {}
    data = b""
    for name, weight in weights.items():
        stored = _stored(weight, stored_as)
        header[name] = {
            "dtype": stored_as,
            "shape": list(weight.shape),
            "data_offsets": [len(data), len(data) + len(stored)],
        }
        data += stored
    encoded = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)


def _stored(weight: NDArray[np.float32], stored_as: str) -> bytes:
    if stored_as == "BF16":  # cut the lower half
        return (weight.view(np.uint32) >> 16).astype("<u2").tobytes()
    return weight.astype({"F32": "<f4", "F16": "<f2", "F64": "<f8"}[stored_as]).tobytes()


def _tokenizer() -> Tokenizer:
    symbols = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(sorted(symbols))}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in ("<|pad|>", END)])
    tokenizer.add_tokens(
        [AddedToken(token, special=False, normalized=False) for token in ("<tool_call>", "</tool_call>")]
    )
    return tokenizer


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")
