"""The Llama forward pass in numpy, over a batch of chunks from many sequences at once.

Linear layers run on all tokens of a step together; attention runs per sequence against its own key-value cache. It
knows arrays only: no text, no sampling, no requests. Shapes: n tokens of a step, t positions of a sequence, H query
heads, K key-value heads, G = H / K, D numbers a head.

Two exact rewritings make it fast. The weight of an RMSNorm and the 1/sqrt(D) of attention are folded into the matrix
that follows. The two halves that RoPE rotates against each other (Hugging Face's `rotate_half`) are interleaved in the
query and key rows, so that the rotation is one complex product; scores do not change as both are permuted alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.embedded.checkpoint import Array, LlamaConfig


@dataclass(frozen=True)
class Layer:
    """One decoder layer, input dimension first: `qkv` [hidden, (H + 2K) D], `gate_up` [hidden, 2 inner]."""

    qkv: Array
    attention_out: Array
    gate_up: Array
    down: Array


class KVCache:
    """Keys and values of one sequence; `entries` is [layers, 2K, capacity, D] with the keys before the values."""

    def __init__(self, entries: Array) -> None:
        self.entries = entries
        self.length = 0


@dataclass(frozen=True)
class Chunk:
    """The next tokens of one sequence: they follow the `cache.length` tokens that the cache holds already."""

    token_ids: Sequence[int]
    cache: KVCache


class LlamaModel:
    """The weights in the layout that `forward` wants."""

    def __init__(self, config: LlamaConfig, weights: dict[str, Array]) -> None:
        self.config = config
        self.context_tokens = config.max_position_embeddings
        self._embedding = weights["model.embed_tokens.weight"]
        self._layers = [_prepare_layer(config, weights, layer) for layer in range(config.num_hidden_layers)]
        self._final_norm = weights["model.norm.weight"]
        head = self._embedding if config.tie_word_embeddings else weights["lm_head.weight"]
        self._head = np.ascontiguousarray(head.T)
        self._rotations = _rotations(config)

    def new_cache(self, capacity: int) -> KVCache:
        """An empty cache; the system gives its pages only as they are written."""
        config = self.config
        shape = (config.num_hidden_layers, 2 * config.kv_heads, capacity, config.head_size)
        return KVCache(np.empty(shape, np.float32))

    def forward(self, chunks: Sequence[Chunk]) -> Array:
        """Hidden states after the final norm, [n, hidden], chunk after chunk; the caches grow by their chunks.

        The caller keeps `cache.length + len(token_ids)` within the cache's capacity and the context.
        """
        config = self.config
        heads, kv_heads, size = config.num_attention_heads, config.kv_heads, config.head_size
        positions = np.concatenate([_positions(chunk) for chunk in chunks])
        rotations = self._rotations[positions, None]
        x = self._embedding[np.concatenate([chunk.token_ids for chunk in chunks])]
        with np.errstate(over="ignore"):  # exp(-gate) may reach infinity: the gate is then 0, as it should be
            for index, layer in enumerate(self._layers):
                qkv = (self._normed(x) @ layer.qkv).reshape(-1, heads + 2 * kv_heads, size)
                rotated = qkv[:, : heads + kv_heads].view(np.complex64)
                rotated *= rotations
                x = x + _attention(index, qkv, chunks, heads, kv_heads) @ layer.attention_out
                gate, up = np.split(self._normed(x) @ layer.gate_up, 2, axis=1)
                x = x + (gate / (1 + np.exp(-gate)) * up) @ layer.down
        for chunk in chunks:
            chunk.cache.length += len(chunk.token_ids)
        return self._normed(x) * self._final_norm

    def logits(self, hidden: Array) -> Array:
        """Next-token logits [n, vocabulary] of hidden states [n, hidden]."""
        logits: Array = hidden @ self._head
        return logits

    def _normed(self, x: Array) -> Array:
        """RMSNorm without its weight."""
        mean_square = np.einsum("nh,nh->n", x, x) / np.float32(x.shape[1])
        normed: Array = x / np.sqrt(mean_square + np.float32(self.config.rms_norm_eps))[:, None]
        return normed


def _positions(chunk: Chunk) -> NDArray[np.int64]:
    return np.arange(chunk.cache.length, chunk.cache.length + len(chunk.token_ids))


def _attention(layer: int, qkv: Array, chunks: Sequence[Chunk], heads: int, kv_heads: int) -> Array:
    """Causal attention of each chunk over its own sequence: [n, H D]. Writes the new keys and values to the caches."""
    size = qkv.shape[2]
    out = np.empty((len(qkv), heads, size), np.float32)
    single_rows: list[int] = []
    single_caches: list[KVCache] = []
    row = 0
    for chunk in chunks:
        count, start = len(chunk.token_ids), chunk.cache.length
        rows = qkv[row : row + count]
        chunk.cache.entries[layer, :, start : start + count] = rows[:, heads:].swapaxes(0, 1)
        if count == 1:
            single_rows.append(row)
            single_caches.append(chunk.cache)
        else:
            out[row : row + count] = _chunk_attention(layer, rows[:, :heads], chunk.cache, kv_heads)
        row += count
    if single_rows:
        queries = qkv[single_rows, :heads].reshape(-1, kv_heads, heads // kv_heads, size)
        out[single_rows] = _single_attention(layer, queries, single_caches).reshape(-1, heads, size)
    return out.reshape(len(qkv), heads * size)


def _chunk_attention(layer: int, queries: Array, cache: KVCache, kv_heads: int) -> Array:
    """Several new tokens of one sequence: queries [c, H, D] -> [c, H, D]."""
    count, heads, size = queries.shape
    total = cache.length + count
    keys, values = cache.entries[layer, :kv_heads, :total], cache.entries[layer, kv_heads:, :total]
    grouped = queries.swapaxes(0, 1).reshape(kv_heads, -1, size)
    scores = (grouped @ keys.swapaxes(1, 2)).reshape(heads, count, total)
    scores[:, np.arange(total) > np.arange(cache.length, total)[:, None]] = -np.inf
    mixed = _softmax(scores).reshape(kv_heads, -1, total) @ values
    return mixed.reshape(heads, count, size).swapaxes(0, 1)


def _single_attention(layer: int, queries: Array, caches: Sequence[KVCache]) -> Array:
    """One new token of each sequence: queries [b, K, G, D] -> [b, K, G, D].

    Scores go into one padded array, so that the softmax is paid once and not per sequence.
    """
    kv_heads = queries.shape[1]
    lengths = [cache.length + 1 for cache in caches]
    scores = np.full((*queries.shape[:3], max(lengths)), -np.inf, np.float32)
    for row, (cache, length) in enumerate(zip(caches, lengths, strict=True)):
        keys = cache.entries[layer, :kv_heads, :length]
        np.matmul(queries[row], keys.swapaxes(1, 2), out=scores[row, :, :, :length])
    weights = _softmax(scores)
    out = np.empty_like(queries)
    for row, (cache, length) in enumerate(zip(caches, lengths, strict=True)):
        np.matmul(weights[row, :, :, :length], cache.entries[layer, kv_heads:, :length], out=out[row])
    return out


def _softmax(scores: Array) -> Array:
    """Softmax over the last axis, in place."""
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def _prepare_layer(config: LlamaConfig, weights: dict[str, Array], layer: int) -> Layer:
    prefix = f"model.layers.{layer}"
    attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
    query = _interleave(weights[f"{attention}.q_proj.weight"], config.head_size) / np.sqrt(np.float32(config.head_size))
    key = _interleave(weights[f"{attention}.k_proj.weight"], config.head_size)
    qkv = np.concatenate([query, key, weights[f"{attention}.v_proj.weight"]])
    gate_up = np.concatenate([weights[f"{mlp}.gate_proj.weight"], weights[f"{mlp}.up_proj.weight"]])
    return Layer(
        qkv=np.ascontiguousarray((qkv * weights[f"{prefix}.input_layernorm.weight"]).T),
        attention_out=np.ascontiguousarray(weights[f"{attention}.o_proj.weight"].T),
        gate_up=np.ascontiguousarray((gate_up * weights[f"{prefix}.post_attention_layernorm.weight"]).T),
        down=np.ascontiguousarray(weights[f"{mlp}.down_proj.weight"].T),
    )


def _interleave(weight: Array, head_size: int) -> Array:
    """Reorder the rows of each head from (first half, second half) to pairs."""
    halves = weight.reshape(-1, 2, head_size // 2, weight.shape[1])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _rotations(config: LlamaConfig) -> NDArray[np.complex64]:
    """exp(i position / theta^(2j / D)) for every position and pair j: [context, D / 2]."""
    frequencies = config.theta ** (-np.arange(0, config.head_size, 2) / config.head_size)
    angles = np.outer(np.arange(config.max_position_embeddings), frequencies)
    rotations: NDArray[np.complex64] = np.exp(1j * angles).astype(np.complex64)
    return rotations
