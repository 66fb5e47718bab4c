"""The committed checkpoints: the files that engines need, sane shapes, a lossless tokenizer, a report of both."""

import json
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors import safe_open
from tokenizers import Tokenizer

import serving.demo
from serving.demo.tasks import TASKS
from serving.demo.tokenizer import (
    CHAT_TEMPLATE,
    END,
    END_ID,
    SPECIAL_TOKENS,
    TOOL_TOKENS,
    VOCAB_SIZE,
    build_tokenizer,
    tokenizer_config,
)

DEMO = Path(serving.demo.__file__).parent
FOLDERS = {name: DEMO / "checkpoints" / name for name in ("teacher", "student")}
FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json"}
TOKENIZER = Tokenizer.from_file(str(FOLDERS["teacher"] / "tokenizer.json"))

both_models = pytest.mark.parametrize("folder", FOLDERS.values(), ids=FOLDERS)


def read(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return content


def parameters(folder: Path) -> int:
    with safe_open(folder / "model.safetensors", framework="numpy") as weights:
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118 (not a dict)
    return sum(shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in shapes)


@both_models
def test_a_checkpoint_holds_just_the_files_that_engines_read(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == FILES


@both_models
def test_the_shape_suits_vllm_and_the_context_holds_a_conversation(folder: Path) -> None:
    config = read(folder, "config.json")
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["head_dim"] in (32, 64)
    assert config["hidden_size"] == config["num_attention_heads"] * config["head_dim"]
    assert config["hidden_size"] % 64 == 0
    assert config["num_attention_heads"] % config["num_key_value_heads"] == 0
    assert config["max_position_embeddings"] >= 256


@both_models
def test_weights_are_bfloat16_and_cover_every_layer(folder: Path) -> None:
    config = read(folder, "config.json")
    with safe_open(folder / "model.safetensors", framework="numpy") as weights:
        names = set(weights.keys())
        kinds = {weights.get_slice(name).get_dtype() for name in names}
        assert weights.get_slice("model.embed_tokens.weight").get_shape() == [VOCAB_SIZE, config["hidden_size"]]
    layers = {name.split(".")[2] for name in names if name.startswith("model.layers.")}
    assert kinds == {"BF16"}
    assert layers == {str(layer) for layer in range(config["num_hidden_layers"])}


@both_models
def test_vocabulary_and_end_token_agree_between_the_files(folder: Path) -> None:
    config, generation = read(folder, "config.json"), read(folder, "generation_config.json")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert config["vocab_size"] == tokenizer.get_vocab_size() == VOCAB_SIZE
    assert config["eos_token_id"] == generation["eos_token_id"] == tokenizer.token_to_id(END) == END_ID
    assert read(folder, "tokenizer_config.json") == tokenizer_config()


@both_models
def test_default_sampling_is_greedy(folder: Path) -> None:
    assert read(folder, "generation_config.json")["temperature"] == 0.0


def test_the_student_is_several_times_smaller_than_its_teacher() -> None:
    assert parameters(FOLDERS["student"]) * 4 < parameters(FOLDERS["teacher"])


def test_the_committed_tokenizer_is_the_one_in_the_code() -> None:
    assert json.loads(TOKENIZER.to_str()) == json.loads(build_tokenizer().to_str())


@given(st.text())
def test_any_text_becomes_its_bytes_and_comes_back(text: str) -> None:
    assume(not any(mark in text for mark in (*SPECIAL_TOKENS, *TOOL_TOKENS)))
    ids = TOKENIZER.encode(text, add_special_tokens=False).ids
    assert ids == list(text.encode())
    assert TOKENIZER.decode(ids) == text


def test_a_tool_call_is_text_to_the_client_though_its_marks_are_tokens() -> None:
    text = '<tool_call>\n{"name": "get_time"}\n</tool_call>'
    ids = TOKENIZER.encode(text, add_special_tokens=False).ids
    assert len(ids) < len(text)
    assert TOKENIZER.decode(ids, skip_special_tokens=True) == text


def rendered(messages: list[dict[str, Any]], **settings: Any) -> str:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(CHAT_TEMPLATE).render(messages=messages, **settings)


def test_a_question_costs_its_bytes_and_three_tokens() -> None:
    text = rendered([{"role": "user", "content": "upper cat"}], add_generation_prompt=True)
    assert text == "<|user|>upper cat<|im_end|><|assistant|>"
    assert len(TOKENIZER.encode(text, add_special_tokens=False).ids) == len("upper cat") + 3


def test_a_tool_conversation_renders_every_turn() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "get_time", "arguments": '{"city": "rome"}'}}
    tools = [{"type": "function", "function": {"name": "get_time", "parameters": {"properties": {"city": {}}}}}]
    messages: list[dict[str, Any]] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "time in rome"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "noon"},
    ]
    assert rendered(messages, tools=tools, add_generation_prompt=True) == (
        "<|system|>tools\nget_time(city)<|im_end|><|system|>Be brief.<|im_end|><|user|>time in rome<|im_end|>"
        '<|assistant|><tool_call>\n{"name": "get_time", "arguments": {"city": "rome"}}\n</tool_call><|im_end|>'
        "<|tool|>noon<|im_end|><|assistant|>"
    )


def test_a_tool_without_parameters_renders_with_an_empty_list() -> None:
    tools = [{"type": "function", "function": {"name": "ping"}}]
    assert rendered([], tools=tools) == "<|system|>tools\nping()<|im_end|>"


def test_the_report_covers_every_task_for_both_models() -> None:
    report = read(DEMO, "report.json")
    for name, folder in FOLDERS.items():
        assert report["models"][name]["parameters"] == parameters(folder)
        assert set(report["models"][name]["by_task"]) == set(TASKS)


def test_the_report_shows_models_fit_for_the_demo() -> None:
    teacher, student = (read(DEMO, "report.json")["models"][name] for name in FOLDERS)
    assert all(score["accuracy"] >= 0.98 for score in teacher["by_task"].values())
    assert min(model["upper_on_fresh_words"]["accuracy"] for model in (teacher, student)) >= 0.999
    assert student["by_task"]["add1"]["accuracy"] >= 0.99
    assert student["by_length"]["reverse"]["3"]["accuracy"] > 0.9 > student["by_length"]["reverse"]["8"]["accuracy"]
    assert all(student["by_task"][name]["accuracy"] < 0.5 for name in ("add2", "json", "tool_call"))
    assert student["confidence"]["auc"] > 0.9
