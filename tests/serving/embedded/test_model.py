"""The forward pass against a plain one that follows the papers line by line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.embedded.checkpoint import LlamaConfig, load_checkpoint
from serving.embedded.model import Chunk, KVCache, LlamaModel
from tests.serving.embedded.tiny import CONFIG, random_weights, write_checkpoint

Array = NDArray[Any]
PROMPTS = [[1, 2, 3, 4, 5, 6, 7], [200], [9, 9, 8], list(range(40, 70))]
SHAPES: dict[str, dict[str, Any]] = {
    "grouped heads": {},
    "one key-value head": {"num_key_value_heads": 1},
    "full attention": {"num_key_value_heads": 4},
    "tied embeddings": {"tie_word_embeddings": True},
    "wide heads": {"head_dim": 16},
}


@pytest.fixture(params=list(SHAPES.values()), ids=list(SHAPES))
def config(request: pytest.FixtureRequest) -> LlamaConfig:
    return LlamaConfig.model_validate({**CONFIG, **request.param})


def reference_logits(config: LlamaConfig, weights: dict[str, Array], token_ids: list[int]) -> Array:
    """Llama in float64 with loops: no cache, no batch, no folded weights, Hugging Face's rotate_half."""
    w = {name: weight.astype(np.float64) for name, weight in weights.items()}
    x = w["model.embed_tokens.weight"][token_ids]
    for index in range(config.num_hidden_layers):
        layer = f"model.layers.{index}."
        normed = reference_norm(config, x, w[layer + "input_layernorm.weight"])
        x = x + reference_attention(config, w, layer + "self_attn.", normed)
        normed = reference_norm(config, x, w[layer + "post_attention_layernorm.weight"])
        gate = normed @ w[layer + "mlp.gate_proj.weight"].T
        up = normed @ w[layer + "mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[layer + "mlp.down_proj.weight"].T
    x = reference_norm(config, x, w["model.norm.weight"])
    head = "model.embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"
    logits: Array = x @ w[head].T
    return logits


def reference_norm(config: LlamaConfig, x: Array, weight: Array) -> Array:
    normed: Array = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + config.rms_norm_eps) * weight
    return normed


def reference_rope(config: LlamaConfig, x: Array) -> Array:
    """x [t, D] of one head."""
    size = config.head_size
    frequencies = 1 / config.rope_theta ** (np.arange(0, size, 2) / size)
    angles = np.outer(np.arange(len(x)), np.concatenate([frequencies, frequencies]))
    rotated_half = np.concatenate([-x[:, size // 2 :], x[:, : size // 2]], axis=1)
    rotated: Array = x * np.cos(angles) + rotated_half * np.sin(angles)
    return rotated


def reference_attention(config: LlamaConfig, w: dict[str, Array], prefix: str, x: Array) -> Array:
    size, group = config.head_size, config.num_attention_heads // config.kv_heads
    outputs = []
    for head in range(config.num_attention_heads):
        own, shared = slice(head * size, (head + 1) * size), slice(head // group * size, (head // group + 1) * size)
        query = reference_rope(config, x @ w[prefix + "q_proj.weight"][own].T)
        key = reference_rope(config, x @ w[prefix + "k_proj.weight"][shared].T)
        value = x @ w[prefix + "v_proj.weight"][shared].T
        scores = query @ key.T / np.sqrt(size)
        scores[np.triu_indices(len(x), 1)] = -np.inf
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        outputs.append(weights / weights.sum(axis=1, keepdims=True) @ value)
    return np.concatenate(outputs, axis=1) @ w[prefix + "o_proj.weight"].T


def logits_of(model: LlamaModel, token_ids: list[int], cache: KVCache) -> Array:
    return model.logits(model.forward([Chunk(token_ids, cache)]))


def test_logits_equal_those_of_the_plain_implementation(config: LlamaConfig) -> None:
    weights = random_weights(config)
    model = LlamaModel(config, weights)
    for prompt in PROMPTS:
        expected = reference_logits(config, weights, prompt)
        np.testing.assert_allclose(logits_of(model, prompt, model.new_cache(len(prompt))), expected, atol=2e-4)


def test_a_batch_of_unequal_chunks_gives_what_each_sequence_gives_alone(config: LlamaConfig) -> None:
    model = LlamaModel(config, random_weights(config))
    alone = [logits_of(model, prompt, model.new_cache(len(prompt))) for prompt in PROMPTS]
    together = model.logits(model.forward([Chunk(prompt, model.new_cache(len(prompt))) for prompt in PROMPTS]))
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-4)


@pytest.mark.parametrize("chunk_tokens", [1, 2, 7, 29])
def test_a_prompt_in_chunks_gives_what_the_whole_prompt_gives(config: LlamaConfig, chunk_tokens: int) -> None:
    model = LlamaModel(config, random_weights(config))
    prompt = PROMPTS[-1]
    cache = model.new_cache(len(prompt))
    pieces = [
        logits_of(model, prompt[start : start + chunk_tokens], cache) for start in range(0, len(prompt), chunk_tokens)
    ]
    np.testing.assert_allclose(
        np.concatenate(pieces), logits_of(model, prompt, model.new_cache(len(prompt))), atol=1e-4
    )


def test_sequences_of_different_age_decode_side_by_side(config: LlamaConfig) -> None:
    model = LlamaModel(config, random_weights(config))
    caches = [model.new_cache(64) for _ in PROMPTS]
    model.forward([Chunk(prompt, cache) for prompt, cache in zip(PROMPTS, caches, strict=True)])
    step = model.logits(model.forward([Chunk([77], cache) for cache in caches]))
    for prompt, row in zip(PROMPTS, step, strict=True):
        expected = logits_of(model, [*prompt, 77], model.new_cache(len(prompt) + 1))[-1]
        np.testing.assert_allclose(row, expected, atol=1e-4)


@pytest.mark.parametrize(("stored_as", "bits"), [("F32", 0.0), ("F16", 2**-11), ("BF16", 2**-7)])
def test_every_stored_type_is_read_to_its_precision(tmp_path: Path, stored_as: str, bits: float) -> None:
    checkpoint = load_checkpoint(write_checkpoint(tmp_path, stored_as=stored_as))
    for name, weight in random_weights(checkpoint.config).items():
        np.testing.assert_allclose(checkpoint.weights[name], weight, rtol=bits, atol=1e-6 if bits else 0)


def test_gates_that_overflow_are_closed_without_a_warning(config: LlamaConfig) -> None:
    weights = random_weights(config)
    weights["model.layers.0.mlp.gate_proj.weight"] = np.full_like(weights["model.layers.0.mlp.gate_proj.weight"], -1e4)
    model = LlamaModel(config, weights)
    assert np.isfinite(logits_of(model, [1, 2, 3], model.new_cache(3))).all()
