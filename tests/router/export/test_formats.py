"""Every format of the registry: its golden file, written by hand, and what holds for all of them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionMessageParam
from pydantic import ConfigDict, TypeAdapter, with_config
from typing_extensions import TypedDict

from router.export.example import Example
from router.export.formats.base import Format, new_forms_first
from router.export.formats.llamafactory import LlamaFactory
from router.export.formats.parquet import Parquet
from router.export.formats.registry import FORMATS
from router.export.lint import problem
from tests.router.export.cases import AGREES, ALL, GOLDEN, OTHER_TOOL, PLAIN, RESPONSES, TALK, TOOLS, example, made

GOLDEN_FILES = Path(__file__).parent / "golden"
JSON_LINES = [name for name, one in FORMATS.items() if one.suffix == ".jsonl"]


@pytest.fixture(params=FORMATS)
def target(request: pytest.FixtureRequest) -> Format:
    return FORMATS[request.param]


def written(target: Format, examples: list[Example]) -> bytes:
    file = io.BytesIO()
    target.write([row for one in examples for row in target.rows(one)], file)
    return file.getvalue()


def lines(name: str, examples: list[Example]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written(FORMATS[name], examples).splitlines()]


@pytest.mark.parametrize("name", JSON_LINES)
def test_rows_are_what_was_written_down_by_hand(name: str) -> None:
    golden = [json.loads(line) for line in (GOLDEN_FILES / f"{name}.jsonl").read_text().splitlines()]
    assert [row for record in GOLDEN for row in FORMATS[name].rows(example(record))] == golden


def test_a_parquet_file_has_the_whole_records_and_what_counted_as_the_verdict() -> None:
    rows = pyarrow.parquet.read_table(io.BytesIO(written(Parquet(), [example(record) for record in ALL]))).to_pylist()
    assert [row["id"] for row in rows] == [record.id for record in ALL]
    assert [row["label"] for row in rows] == ["student_wrong"] * 5 + ["agree", "student_wrong"]
    assert json.loads(rows[2]["request"]) == TOOLS.request
    assert json.loads(rows[0]["teacher"])["text"] == "Paris."


def test_a_format_is_found_by_its_name_and_says_how_its_files_end(target: Format) -> None:
    assert FORMATS[target.name] is target
    assert target.suffix in (".jsonl", ".parquet")


def test_a_format_writes_every_example_that_its_rules_let_through(target: Format) -> None:
    fit = [one for one in map(example, ALL) if problem(one, target.rules) is None]
    assert fit
    for one in fit:
        rows = list(target.rows(one))
        assert 1 <= len(rows) <= 2
        assert json.loads(json.dumps(rows)) == rows


def test_a_format_writes_the_same_bytes_for_the_same_examples(target: Format) -> None:
    fit = [one for one in map(example, ALL) if problem(one, target.rules) is None]
    assert written(target, fit) == written(target, fit)


@pytest.mark.parametrize("name", ["openai-dpo", "trl-dpo"])
def test_a_teacher_that_was_wrong_is_the_answer_to_avoid(name: str) -> None:
    (row,) = lines(name, [example(PLAIN, "teacher_wrong")])
    good, bad = (row.get("preferred_output") or row["chosen"]), (row.get("non_preferred_output") or row["rejected"])
    assert (good[0]["content"], bad[0]["content"]) == ("Lyon.", "Paris.")


def test_kto_has_one_row_for_a_pair_that_agrees_and_none_for_a_cut_answer_of_the_student() -> None:
    assert [row["label"] for row in lines("trl-kto", [example(AGREES)])] == [True]
    cut = PLAIN.model_copy(update={"student": PLAIN.student.model_copy(update={"finish_reason": "length"})})
    assert [row["label"] for row in lines("trl-kto", [example(cut)])] == [True]


def test_rows_of_a_new_form_come_first_and_the_others_keep_their_order() -> None:
    plain, tools = lines("trl-sft", [example(PLAIN)]), lines("trl-sft", [example(OTHER_TOOL)])
    rows = [*plain * 3, *tools]
    assert new_forms_first(rows) == [plain[0], tools[0], plain[0], plain[0]]


def test_messages_of_one_side_in_a_row_are_joined_for_sharegpt() -> None:
    record = made(1, {"messages": [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]}, "a", "b")
    (row,) = lines("sharegpt", [example(record)])
    assert row["conversations"][0] == {"from": "human", "value": "one\n\ntwo"}


def test_llamafactory_gets_an_entry_for_its_list_of_data_sets() -> None:
    (entry,) = LlamaFactory().registration(Path("/somewhere/week.jsonl")).values()
    assert list(entry) == ["week"]
    assert entry["week"]["file_name"] == "week.jsonl"
    assert entry["week"]["columns"] == {"messages": "conversations", "system": "system", "tools": "tools"}


@with_config(ConfigDict(extra="forbid"))
class _Input(TypedDict, total=False):
    messages: list[ChatCompletionMessageParam]
    tools: list[ChatCompletionFunctionToolParam]
    parallel_tool_calls: bool


MESSAGES = TypeAdapter(list[ChatCompletionMessageParam])
INPUT = TypeAdapter(_Input)


@pytest.mark.parametrize("record", [PLAIN, TALK, TOOLS, RESPONSES, OTHER_TOOL], ids=lambda record: record.id[-1])
class TestOpenAi:
    """The rules of OpenAI's fine-tuning guides, and the types of its own package."""

    def test_supervised_rows_are_chats_that_end_with_the_assistant(self, record: Any) -> None:
        (row,) = lines("openai-sft", [example(record)])
        assert set(row) <= {"messages", "tools", "parallel_tool_calls"}
        weights = [message.pop("weight", None) for message in row["messages"]]
        INPUT.validate_python(row)
        assert row["messages"][-1]["role"] == "assistant" and weights[-1] is None
        roles = [message["role"] for message in row["messages"][:-1]]
        assert [weight == 0 for weight in weights[:-1]] == [role == "assistant" for role in roles]

    def test_preference_rows_have_one_assistant_message_on_each_side(self, record: Any) -> None:
        (row,) = lines("openai-dpo", [example(record)])
        assert set(row) == {"input", "preferred_output", "non_preferred_output"}
        INPUT.validate_python(row["input"])
        for side in (row["preferred_output"], row["non_preferred_output"]):
            MESSAGES.validate_python(side)
            assert [message["role"] for message in side] == ["assistant"]
        assert row["preferred_output"] != row["non_preferred_output"]
        assert row["input"]["messages"][-1]["role"] in ("user", "tool")

    def test_arguments_are_text_and_parallel_calls_are_only_said_with_tools(self, record: Any) -> None:
        (row,) = lines("openai-sft", [example(record)])
        calls = [call for message in row["messages"] for call in message.get("tool_calls", ())]
        assert all(isinstance(json.loads(call["function"]["arguments"]), dict) for call in calls)
        assert "tools" in row or "parallel_tool_calls" not in row
