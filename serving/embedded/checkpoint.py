"""Reads a Hugging Face Llama checkpoint folder into memory and refuses what the engine could not run faithfully.

It knows files and shapes; the arithmetic is in `model`, the tokenizer in `tokenizer`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError, model_validator
from safetensors import SafetensorError, deserialize

from serving.embedded.errors import CheckpointError

Array = NDArray[np.float32]
File = TypeVar("File", bound=BaseModel)

_STORED_TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}


class LlamaConfig(BaseModel):
    """The keys of config.json that decide the arithmetic."""

    model_config = ConfigDict(frozen=True)

    architectures: list[str]
    vocab_size: PositiveInt
    hidden_size: PositiveInt
    intermediate_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    num_key_value_heads: PositiveInt | None = None
    head_dim: PositiveInt | None = None
    max_position_embeddings: PositiveInt
    rms_norm_eps: PositiveFloat = 1e-6
    rope_theta: PositiveFloat = 10_000.0
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    hidden_act: str = "silu"
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = False
    eos_token_id: int | list[int] | None = None

    @model_validator(mode="after")
    def _must_be_runnable(self) -> LlamaConfig:
        if "LlamaForCausalLM" not in self.architectures:
            raise ValueError(f"architectures is {self.architectures}; this engine runs LlamaForCausalLM only")
        if self.hidden_act != "silu":
            raise ValueError(f"hidden_act is {self.hidden_act!r}; this engine knows silu only")
        if self.attention_bias or self.mlp_bias:
            raise ValueError("attention_bias and mlp_bias must be false: this engine has no bias terms")
        for rope in (self.rope_scaling, self.rope_parameters):
            kind = (rope or {}).get("rope_type", (rope or {}).get("type", "default"))
            if kind != "default":
                raise ValueError(f"rope type {kind!r} is unknown here; this engine knows the default RoPE only")
        if self.num_attention_heads % self.kv_heads:
            raise ValueError(f"{self.num_attention_heads} heads cannot share {self.kv_heads} key-value heads")
        if self.head_size % 2:
            raise ValueError(f"head_dim is {self.head_size}; RoPE rotates pairs, so it must be even")
        return self

    @property
    def kv_heads(self) -> int:
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_size(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def theta(self) -> float:
        """The RoPE base; transformers 5 moved it into `rope_parameters`."""
        return float((self.rope_parameters or {}).get("rope_theta", self.rope_theta))


class GenerationDefaults(BaseModel):
    """The keys of generation_config.json that vLLM takes as defaults for sampling; `do_sample` is not one of them."""

    model_config = ConfigDict(frozen=True)

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: PositiveFloat | None = None
    max_new_tokens: PositiveInt | None = None
    eos_token_id: NonNegativeInt | list[NonNegativeInt] | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that passed every check. `weights` has Hugging Face's names and shapes, in float32."""

    directory: Path
    config: LlamaConfig
    defaults: GenerationDefaults
    tokenizer_config: dict[str, Any]
    chat_template: str | None
    weights: dict[str, Array]

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """The ids that end an answer, from both configuration files as in vLLM."""
        ids: set[int] = set()
        for value in (self.config.eos_token_id, self.defaults.eos_token_id):
            ids.update([value] if isinstance(value, int) else value or [])
        return frozenset(ids)


def load_checkpoint(directory: Path) -> Checkpoint:
    """Read the folder. Raises CheckpointError with the file and the fix."""
    if not directory.is_dir():
        raise CheckpointError(
            f"{directory} is not a folder; give one with config.json, model.safetensors, tokenizer.json"
        )
    config = _parse(LlamaConfig, directory / "config.json", _read_json(directory / "config.json"))
    generation_file = directory / "generation_config.json"
    generation = _read_json(generation_file) if generation_file.exists() else {}
    tokenizer_file = directory / "tokenizer_config.json"
    tokenizer_config = _read_json(tokenizer_file) if tokenizer_file.exists() else {}
    return Checkpoint(
        directory=directory,
        config=config,
        defaults=_parse(GenerationDefaults, generation_file, generation),
        tokenizer_config=tokenizer_config,
        chat_template=_chat_template(directory, tokenizer_config),
        weights=_load_weights(directory / "model.safetensors", config),
    )


def weight_shapes(config: LlamaConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor of the architecture with its shape, as Hugging Face names and stores it."""
    hidden, inner = config.hidden_size, config.intermediate_size
    query, key = config.num_attention_heads * config.head_size, config.kv_heads * config.head_size
    yield "model.embed_tokens.weight", (config.vocab_size, hidden)
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", (hidden,)
        yield f"{prefix}.self_attn.q_proj.weight", (query, hidden)
        yield f"{prefix}.self_attn.k_proj.weight", (key, hidden)
        yield f"{prefix}.self_attn.v_proj.weight", (key, hidden)
        yield f"{prefix}.self_attn.o_proj.weight", (hidden, query)
        yield f"{prefix}.post_attention_layernorm.weight", (hidden,)
        yield f"{prefix}.mlp.gate_proj.weight", (inner, hidden)
        yield f"{prefix}.mlp.up_proj.weight", (inner, hidden)
        yield f"{prefix}.mlp.down_proj.weight", (hidden, inner)
    yield "model.norm.weight", (hidden,)
    if not config.tie_word_embeddings:
        yield "lm_head.weight", (config.vocab_size, hidden)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing; save the model with save_pretrained into this folder") from None
    except ValueError as error:
        raise CheckpointError(f"{file} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds a {type(content).__name__}; a JSON object is expected")
    return content


def _parse(kind: type[File], file: Path, content: dict[str, Any]) -> File:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(".".join(map(str, p["loc"])) + f" {p['msg']}".rstrip() for p in error.errors())
        raise CheckpointError(f"{file} cannot be used: {problems.strip()}") from None


def _chat_template(directory: Path, tokenizer_config: dict[str, Any]) -> str | None:
    """The template as transformers finds it: its own file first, then tokenizer_config.json, of several the default."""
    file = directory / "chat_template.jinja"
    if file.exists():
        return file.read_text(encoding="utf-8")
    template = tokenizer_config.get("chat_template")
    if isinstance(template, list):
        template = next((entry.get("template") for entry in template if entry.get("name") == "default"), None)
    if template is not None and not isinstance(template, str):
        raise CheckpointError(f"{directory / 'tokenizer_config.json'}: chat_template is not a string")
    return template


def _load_weights(file: Path, config: LlamaConfig) -> dict[str, Array]:
    stored = _read_tensors(file)
    weights: dict[str, Array] = {}
    for name, shape in weight_shapes(config):
        if name not in stored:
            raise CheckpointError(f"{file} lacks the tensor {name}; config.json and the weights do not belong together")
        tensor = stored.pop(name)
        if tuple(tensor["shape"]) != shape:
            raise CheckpointError(f"{file}: {name} has the shape {tensor['shape']}, config.json asks for {list(shape)}")
        weights[name] = _as_float32(file, name, tensor)
    unknown = sorted(name for name in stored if name != "lm_head.weight" and not name.endswith("rotary_emb.inv_freq"))
    if unknown:
        raise CheckpointError(f"{file} holds {unknown[0]}, which a plain Llama does not have; merge adapters first")
    return weights


def _read_tensors(file: Path) -> dict[str, dict[str, Any]]:
    try:
        tensors = deserialize(file.read_bytes())  # type: ignore[no-untyped-call]  # has no annotations
        return dict(tensors)
    except FileNotFoundError:
        fix = "save the model unsharded with save_pretrained(safe_serialization=True)"
        raise CheckpointError(f"{file} is missing; {fix}") from None
    except SafetensorError as error:
        raise CheckpointError(f"{file} is not a whole safetensors file: {error}") from None


def _as_float32(file: Path, name: str, tensor: dict[str, Any]) -> Array:
    stored_type = _STORED_TYPES.get(tensor["dtype"])
    if stored_type is None:
        known = ", ".join(_STORED_TYPES)
        raise CheckpointError(f"{file}: {name} is stored as {tensor['dtype']}; this engine reads {known}")
    values: NDArray[Any] = np.frombuffer(tensor["data"], stored_type).reshape(tensor["shape"])
    if tensor["dtype"] == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)  # bfloat16 is the upper half of a float32
    weights: Array = values.astype(np.float32)
    if not np.isfinite(weights).all():
        raise CheckpointError(f"{file}: {name} holds values that are not finite; the training diverged")
    return weights
