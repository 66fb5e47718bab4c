"""A folder that cannot be served faithfully is refused with the file and the fix."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.embedded.checkpoint import LlamaConfig, load_checkpoint
from serving.embedded.errors import CheckpointError
from serving.embedded.server import DEMO_CHECKPOINTS, create_app, resolve_model
from tests.serving.embedded.tiny import CONFIG, random_weights, write_checkpoint, write_weights


def edit_json(name: str, **changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        file = folder / name
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return edit


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def truncate_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def rewrite_weights(**changes: Any) -> Callable[[Path], None]:
    """Set tensors of the checkpoint, or take them out (None)."""

    def rewrite(folder: Path) -> None:
        weights = random_weights(LlamaConfig.model_validate(CONFIG))
        for name, value in changes.items():
            weights.pop(name, None)
            if value is not None:
                weights[name] = value
        write_weights(folder / "model.safetensors", weights)

    return rewrite


def store_doubles(folder: Path) -> None:
    write_weights(folder / "model.safetensors", random_weights(LlamaConfig.model_validate(CONFIG)), "F64")


def shrink_vocabulary(folder: Path) -> None:
    write_checkpoint(folder, vocab_size=200)


def write_text(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)


NOT_FINITE = np.full(32, np.nan, np.float32)
BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (remove("config.json"), r"config\.json is missing; save"),
    "config is a list": (lambda folder: write_text(folder, "config.json", "[]"), r"config\.json holds a list"),
    "config is no JSON": (lambda folder: write_text(folder, "config.json", "{"), r"config\.json is not JSON"),
    "other architecture": (edit_json("config.json", architectures=["MistralForCausalLM"]), "LlamaForCausalLM only"),
    "scaled rope": (
        edit_json("config.json", rope_scaling={"rope_type": "llama3", "factor": 8}),
        "llama3.*default RoPE",
    ),
    "scaled rope, new key": (edit_json("config.json", rope_parameters={"rope_type": "yarn"}), "yarn.*default RoPE"),
    "bias": (edit_json("config.json", attention_bias=True), "no bias"),
    "other activation": (edit_json("config.json", hidden_act="gelu"), "silu only"),
    "uneven heads": (edit_json("config.json", num_key_value_heads=3), "cannot share"),
    "odd heads": (edit_json("config.json", head_dim=7), "must be even"),
    "no size": (edit_json("config.json", hidden_size=0), "hidden_size"),
    "no weights": (remove("model.safetensors"), r"model\.safetensors is missing; save"),
    "truncated weights": (truncate_weights, "not a whole safetensors file"),
    "other shape": (edit_json("config.json", intermediate_size=64), "has the shape"),
    "missing tensor": (rewrite_weights(**{"model.norm.weight": None}), r"lacks the tensor model\.norm\.weight"),
    "adapter": (rewrite_weights(**{"lora_A.weight": np.zeros((1, 1), np.float32)}), "merge adapters first"),
    "diverged": (rewrite_weights(**{"model.norm.weight": NOT_FINITE}), "not finite"),
    "doubles": (store_doubles, "stored as F64"),
    "no tokenizer": (remove("tokenizer.json"), r"tokenizer\.json is missing"),
    "broken tokenizer": (lambda folder: write_text(folder, "tokenizer.json", "{}"), "cannot be read"),
    "other tokenizer": (edit_json("tokenizer.json", decoder={"type": "Fuse"}), "byte-level tokenizers"),
    "small vocabulary": (shrink_vocabulary, "do not belong together"),
    "broken template": (lambda folder: write_text(folder, "chat_template.jinja", "{% if %}"), "does not compile"),
    "template of no text": (edit_json("tokenizer_config.json", chat_template=7), "not a string"),
    "hot defaults": (edit_json("generation_config.json", repetition_penalty=0), r"generation_config\.json.*penalty"),
}


@pytest.mark.parametrize(("break_it", "complaint"), BROKEN.values(), ids=BROKEN.keys())
def test_a_checkpoint_that_cannot_be_used_is_refused_with_its_file(
    tmp_path: Path, break_it: Callable[[Path], None], complaint: str
) -> None:
    break_it(write_checkpoint(tmp_path / "model"))
    with pytest.raises(CheckpointError, match=complaint) as refusal:
        create_app(tmp_path / "model")
    assert str(tmp_path / "model") in str(refusal.value)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a folder"):
        create_app(tmp_path / "nowhere")


def test_optional_files_may_be_missing(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    (folder / "generation_config.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    create_app(folder)


def test_the_rope_base_is_found_in_both_its_places(tmp_path: Path) -> None:
    old = load_checkpoint(write_checkpoint(tmp_path / "old", rope_theta=7.0))
    parameters = {"rope_type": "default", "rope_theta": 7.0}
    new = load_checkpoint(write_checkpoint(tmp_path / "new", rope_theta=1.0, rope_parameters=parameters))
    assert old.config.theta == new.config.theta == 7.0


def test_the_template_file_wins_over_the_tokenizer_configuration(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    (folder / "chat_template.jinja").write_text("own file")
    assert load_checkpoint(folder).chat_template == "own file"


def test_of_several_templates_the_default_is_taken(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    templates = [{"name": "rag", "template": "x"}, {"name": "default", "template": "y"}]
    edit_json("tokenizer_config.json", chat_template=templates)(folder)
    assert load_checkpoint(folder).chat_template == "y"


def test_demo_names_are_folders_of_the_demo_and_others_are_paths(tmp_path: Path) -> None:
    assert resolve_model("teacher") == DEMO_CHECKPOINTS / "teacher"
    assert resolve_model(str(tmp_path)) == tmp_path


def test_importing_the_server_leaves_numpy_to_be_imported_after_its_threads_are_set() -> None:
    program = "import sys, serving.embedded.server; sys.exit('numpy' in sys.modules)"
    root = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", program], cwd=root, env=dict(os.environ), check=True)
