"""TRL's own code reads an export's files: `load_dataset`, the chat template, the trainers' preparation, one step."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from router.export.formats.registry import FORMATS
from router.export.lint import problem
from serving.embedded.server import DEMO_CHECKPOINTS
from tests.router.export.cases import GOLDEN, OTHER_TOOL, example
from tests.vllm.conftest import PYTHON_VARIABLE, ROOT

PROGRAM = Path(__file__).with_name("training_files.py")
FILES = ("trl-sft", "trl-dpo", "trl-kto", "prompts")
RECORDS = (*GOLDEN, OTHER_TOOL)
TIMEOUT_S = 300
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What TRL made of the files."""
    folder = tmp_path_factory.mktemp("training")
    for name in FILES:
        target = FORMATS[name]
        fit = [one for one in map(example, RECORDS) if problem(one, target.rules) is None]
        assert len(fit) == len(RECORDS)
        with (folder / f"{name}.jsonl").open("wb") as file:
            target.write([row for one in fit for row in target.rows(one)], file)
    python = ROOT / os.environ[PYTHON_VARIABLE]
    done = subprocess.run(
        [python, PROGRAM, folder, DEMO_CHECKPOINTS / "teacher"],
        env={**os.environ, **OFFLINE},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_every_row_is_a_conversation_to_trl(learned: dict[str, Any]) -> None:
    assert learned["conversational"] == {
        "trl-sft": [True] * 4,
        "trl-dpo": [True] * 4,
        "trl-kto": [True] * 8,
        "prompts": [True] * 4,
    }


def test_the_supervised_trainer_learns_the_teachers_answers_and_nothing_else(learned: dict[str, Any]) -> None:
    assert sorted(learned["checkpoint"]["sft"]) == sorted(
        [
            "Paris.<|im_end|>",
            "a b c<|im_end|>",
            '<tool_call>\n{"name": "set_timer", "arguments": {"minutes": 60}}\n</tool_call><|im_end|>',
            '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bonn"}}\n</tool_call><|im_end|>',
        ]
    )


def test_the_preference_trainer_prefers_the_teachers_answers(learned: dict[str, Any]) -> None:
    assert sorted(learned["checkpoint"]["dpo"]) == sorted(
        [
            ["Paris.<|im_end|>", "Lyon.<|im_end|>"],
            ["a b c<|im_end|>", "c a b<|im_end|>"],
            [
                '<tool_call>\n{"name": "set_timer", "arguments": {"minutes": 60}}\n</tool_call><|im_end|>',
                '<tool_call>\n{"name": "set_timer", "arguments": {"minutes": 1}}\n</tool_call><|im_end|>',
            ],
            [
                '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bonn"}}\n</tool_call><|im_end|>',
                "I do not know.<|im_end|>",
            ],
        ]
    )


def test_the_unpaired_trainer_has_the_same_answers_with_their_labels(learned: dict[str, Any]) -> None:
    for template in ("checkpoint", "chatml"):
        pairs = learned[template]["dpo"]
        labelled = [[text, label] for pair in pairs for text, label in zip(pair, (True, False), strict=True)]
        assert sorted(learned[template]["kto"]) == sorted(labelled)


def test_a_template_that_dumps_arguments_does_not_quote_them_twice(learned: dict[str, Any]) -> None:
    texts = "".join(learned["chatml"]["sft"])
    assert '"arguments": {"minutes": 60}' in texts and '"arguments": {"city": "Bonn"}' in texts


def test_the_tools_stand_in_the_prompts_of_the_rows_that_have_them(learned: dict[str, Any]) -> None:
    for name in FILES:
        prompts = [row["prompt"] for row in learned["chatml"]["formatted"][name]]
        for prompt in prompts:
            weather, timer = '"name": "get_weather"' in prompt, '"minimum": 1' in prompt
            assert (weather, timer) == ("Bonn" in prompt or "Wake me" in prompt, "Wake me" in prompt)
            assert "null" not in prompt and "None" not in prompt
