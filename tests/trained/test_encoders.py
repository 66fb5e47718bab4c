"""Texts as vectors, by a server that speaks `/v1/embeddings` and by an ONNX file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from router.errors import ConfigError
from router.settings import Settings, parse
from router.trained import encoders
from router.trained.encoders import EncodingFailed, encoder
from router.trained.settings import EmbeddingsSettings, OnnxSettings
from tests.support.gateway import two_models
from tests.trained.embedder import Embedder, serving


@pytest.fixture
def server() -> Iterator[Embedder]:
    """Gives each text [its length, 1]."""
    with serving(lambda text: [len(text), 1]) as server:
        yield server


@pytest.fixture
def settings(server: Embedder) -> Settings:
    config = two_models(server.url, server.url)
    config["models"]["teacher"] |= {"model": "small-embedder", "api_key_env": "KEY"}
    return parse(yaml.safe_dump(config), {"KEY": "sk-1"})


SERVED = EmbeddingsSettings(kind="embeddings", model="teacher")


def test_texts_become_vectors_of_length_one_in_their_order(server: Embedder, settings: Settings) -> None:
    encode = encoder(SERVED, settings)
    vectors = encode.encode(["", "four"])
    assert vectors == pytest.approx(np.array([[0, 1], [4 / 17**0.5, 1 / 17**0.5]]))
    assert (encode.name, encode.dimension) == ("embeddings:small-embedder", 2)
    assert server.asked[0]["model"] == "small-embedder" and server.keys == ["Bearer sk-1"]


def test_a_proxy_of_the_environment_is_not_asked_as_for_no_other_call_of_the_gateway(
    server: Embedder, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert encoder(SERVED, settings).encode(["four"]).shape == (1, 2)


def test_many_texts_are_asked_in_batches(server: Embedder, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "BATCH", 3)
    assert encoder(SERVED, settings).encode(["x" * n for n in range(7)]).shape == (7, 2)
    assert [len(asked["input"]) for asked in server.asked] == [3, 3, 1]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((429, b"slow down"), "answered 429: slow down"),
        ((200, b"hello"), "something else than embeddings"),
        ((200, b'{"data": []}'), "gave 0 embeddings for 2 texts"),
        ((200, b'{"data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [1, 2]}]}'), "several lengths"),
        ((200, b'{"data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [NaN]}]}'), "no finite number"),
    ],
)
def test_what_is_no_embedding_is_told(
    server: Embedder, settings: Settings, answer: tuple[int, bytes], why: str
) -> None:
    server.answer = answer
    with pytest.raises(EncodingFailed, match=why):
        encoder(SERVED, settings).encode(["a", "b"])


def test_a_server_that_is_away_is_told(settings: Settings) -> None:
    closed = two_models("http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1")
    with pytest.raises(EncodingFailed, match="does not answer"):
        encoder(SERVED, parse(yaml.safe_dump(closed), {})).encode(["a"])
    with pytest.raises(ConfigError, match="unknown model 'none'; known: student, teacher"):
        encoder(EmbeddingsSettings(kind="embeddings", model="none"), settings)


def test_an_onnx_file_needs_its_library_and_a_file_that_is_one(tmp_path: Path, settings: Settings) -> None:
    config = OnnxSettings(kind="onnx", model=tmp_path / "none.onnx", tokenizer=tmp_path / "tokenizer.json")
    with pytest.raises(ConfigError, match=r"pip install onnxruntime|cannot be used"):
        encoder(config, settings)


def test_an_onnx_model_pools_over_the_tokens_that_are_there(tmp_path: Path, settings: Settings) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    tokenizers = pytest.importorskip("tokenizers")
    table = np.array([[0, 0], [3, 0], [0, 4]], dtype=np.float32)
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    shape = ["batch", "length"]
    inputs = [helper.make_tensor_value_info(name, 7, shape) for name in ("input_ids", "attention_mask")]
    output = helper.make_tensor_value_info("hidden", 1, [*shape, 2])
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["hidden"])]
    graph = helper.make_graph(nodes, "g", inputs, [output], [numpy_helper.from_array(table, "table")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(tmp_path / "m.onnx"))
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[PAD]": 0, "a": 1, "b": 2}, unk_token="[PAD]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.save(str(tmp_path / "tokenizer.json"))
    config = OnnxSettings(kind="onnx", model=tmp_path / "m.onnx", tokenizer=tmp_path / "tokenizer.json")
    vectors = encoder(config, settings).encode(["a", "a b"])
    assert vectors == pytest.approx(np.array([[1, 0], [0.6, 0.8]]))
