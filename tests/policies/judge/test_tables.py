"""Tables as people have them: our JSON lines, RouteLLM's CSV, RouterBench's wide tables; and mistakes in them."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.judge.rows import Row, TableError, Wanted, text
from policies.judge.tables import read_table, read_tables
from policies.judge.wide import Pair

ROW = {"id": "a-1", "dataset": "d", "prompt": "p?", "strong_score": 1.0, "weak_score": 0.25}
STRONG, WEAK = "gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1"
QUESTION = "Which is prime?\nA. 4\nB. 5\nAnswer:"


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def table(path: Path, columns: list[str], *rows: list[Any]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def test_json_lines_give_rows_and_examples(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", ROW | {"strong_model": "unread"}, ROW | {"id": 7, "weak_score": True})
    first, second = read_table(path)
    assert first == Row("a-1", "d", "p?", 1.0, 0.25)
    assert (second.id, second.student) == (7, 1.0)
    example = first.example()
    assert (example.id, example.harm, example.teacher, example.student) == ("a-1", 0.75, 1.0, 0.25)
    assert (example.query.last, example.query.whole, example.query.route) == ("p?", "p?", "d")
    assert second.example().harm == 0.0


def test_a_student_that_beats_the_teacher_does_no_harm(tmp_path: Path) -> None:
    (row,) = read_table(jsonl(tmp_path / "rows.jsonl", ROW | {"strong_score": 0.0}))
    assert row.example().harm == 0.0


def test_prompts_that_differ_in_blanks_only_are_one_group(tmp_path: Path) -> None:
    rows = read_table(jsonl(tmp_path / "r.jsonl", ROW, ROW | {"id": "b", "prompt": " p?\n"}, ROW | {"prompt": "q"}))
    groups = [row.example().group for row in rows]
    assert groups[0] == groups[1] != groups[2]


def test_labels_that_are_not_wanted_are_not_looked_at(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", ROW | {"strong_score": "secret", "weak_score": None, "weak_response": 3})
    (row,) = read_table(path, wanted=Wanted(scores=False))
    assert row == Row("a-1", "d", "p?")
    with pytest.raises(TableError, match="has no scores to learn from"):
        row.example()


def test_odd_but_harmless_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [
        json.dumps(ROW | {"prompt": "", "id": 3.5}),
        "",
        "   ",
        json.dumps({"id": "ü", "prompt": "\ud83d ok\u0000"}),
    ]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    first, second = read_table(path, wanted=Wanted(scores=False))
    assert (first.id, first.prompt) == (3.5, "")
    assert (second.id, second.dataset, second.prompt) == ("ü", "", "\ufffd ok\u0000")


@settings(max_examples=50)
@given(st.lists(st.text(st.characters(exclude_categories=())), max_size=5))
def test_whatever_a_text_holds_it_can_be_encoded_and_good_texts_stay(prompts: list[str]) -> None:
    for prompt in prompts:
        cleaned = text(json.loads(json.dumps(prompt)))
        cleaned.encode()
        if not any("\ud800" <= sign <= "\udfff" for sign in prompt):
            assert cleaned == prompt


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON"),
        ("[1]", r"one JSON object on a line of its own, not \[1\]"),
        ("\u00ff", "not UTF-8 at byte 0"),
        (json.dumps({"prompt": "p"}), "id is missing; there are: prompt"),
        (json.dumps(ROW | {"id": None}), "id must be a text or a number, not None"),
        (json.dumps(ROW | {"id": True}), "id must be a text or a number, not True"),
        (json.dumps(ROW | {"prompt": ["p"]}), r"prompt must be a text, not \['p'\]"),
        (json.dumps(ROW | {"weak_score": 1.5}), "weak_score must be a number from 0 to 1, not 1.5"),
        (json.dumps(ROW | {"weak_score": float("nan")}), "weak_score must be a number from 0 to 1, not nan"),
        (json.dumps(ROW | {"weak_score": 10**400}), "weak_score must be a number from 0 to 1, not 1000"),
        (json.dumps(ROW | {"strong_score": None}), "strong_score must be a number from 0 to 1, not None"),
        (json.dumps(ROW | {"weak_usd": -1}), "weak_usd must be a cost in USD, 0 or more, not -1"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_line(line: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json.dumps(ROW).encode() + b"\n\n" + line.encode("latin-1"))
    with pytest.raises(TableError, match=rf"rows\.jsonl: line 3: .*{problem}"):
        read_table(path, "jsonl")


def test_an_answer_that_is_wanted_must_be_there(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", ROW | {"weak_response": ""}, ROW)
    with pytest.raises(TableError, match="line 2: weak_response is missing"):
        read_table(path, wanted=Wanted(answers=True))
    for nothing in ("", None):
        (row,) = read_table(jsonl(path, ROW | {"weak_response": nothing}), wanted=Wanted(answers=True))
        assert row.student_answer is not None
        assert row.student_answer.text == ""


def test_routellm_tells_the_teacher_by_its_scores_and_the_dataset_by_the_name(tmp_path: Path) -> None:
    columns = ["prompt", WEAK, STRONG, f"{WEAK}_response", f"{STRONG}_response"]
    path = table(
        tmp_path / "gsm8k_responses.csv", columns, [QUESTION, False, True, "4", "5"], ["q", "True", "true", "x", ""]
    )
    first, second = read_table(path, wanted=Wanted(answers=True))
    assert first == Row("gsm8k_responses-0", "gsm8k", QUESTION, 1.0, 0.0, "4")
    assert (second.id, second.teacher, second.student, second.answer) == ("gsm8k_responses-1", 1.0, 1.0, "x")
    (turned, _) = read_table(path, pair=Pair(teacher=WEAK), wanted=Wanted(answers=True))
    assert (turned.teacher, turned.student, turned.answer) == (0.0, 1.0, "5")


def test_a_folder_is_all_its_tables(tmp_path: Path) -> None:
    for subject in ("college_biology", "anatomy"):
        table(tmp_path / f"mmlu_{subject}.csv", ["prompt", WEAK, STRONG], [QUESTION, "False", "True"])
    assert [row.dataset for row in read_tables([tmp_path])] == ["mmlu/anatomy", "mmlu/college_biology"]


def test_an_index_that_pandas_left_is_no_model(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", ["Unnamed: 0", "prompt", WEAK, STRONG], [0, QUESTION, "0", "1.0"])
    assert read_table(path)[0].teacher == 1.0


ROUTERBENCH = {
    "sample_id": ["mmlu.val.1", "mtbench.2"],
    "prompt": ["['Please answer.\\nWhich?']", "['One turn', 'and another']"],
    "eval_name": ["mmlu-law", "mtbench"],
    "big": [1.0, 0.75],
    "small": [0.0, 0.5],
    "tiny": [0.0, 0.0],
    **{f"{model}|model_response": [f"['{model}']", "['a', 'b']"] for model in ("big", "small", "tiny")},
    **{f"{model}|total_cost": [cost, cost] for model, cost in (("big", 0.01), ("small", 0.001), ("tiny", 0.0))},
    "oracle_model_to_route_to": ["big", "big"],
}


@pytest.fixture(params=["parquet", "csv"])
def routerbench(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"routerbench.{request.param}"
    if request.param == "parquet":
        pyarrow.parquet.write_table(pyarrow.table(ROUTERBENCH), path)
        return path
    return table(path, list(ROUTERBENCH), *map(list, zip(*ROUTERBENCH.values(), strict=True)))


def test_routerbench_gives_the_pair_that_was_named_with_its_costs(routerbench: Path) -> None:
    first, second = read_table(routerbench, pair=Pair("big", "small"), wanted=Wanted(answers=True))
    assert first == Row("mmlu.val.1", "mmlu-law", "Please answer.\nWhich?", 1.0, 0.0, "small", 0.01, 0.001)
    assert (second.prompt, second.answer) == ("One turn\n\nand another", "a\n\nb")
    assert (second.teacher, second.student) == (0.75, 0.5)


@pytest.mark.parametrize(
    ("pair", "problem"),
    [
        (Pair(), "name the teacher and the student; models of this table: big, small, tiny"),
        (Pair(teacher="big"), "name the teacher and the student"),
        (Pair("big", "huge"), "no model 'huge'; there are: big, small, tiny"),
        (Pair("big", "big"), "a teacher and a student are needed"),
    ],
)
def test_of_many_models_the_pair_must_be_named(pair: Pair, problem: str, routerbench: Path) -> None:
    with pytest.raises(TableError, match=problem):
        read_table(routerbench, pair=pair)


def test_without_scores_the_student_whose_answers_are_wanted_must_be_named(tmp_path: Path) -> None:
    columns = ["prompt", WEAK, STRONG, f"{WEAK}_response", f"{STRONG}_response"]
    path = table(tmp_path / "a.csv", columns, ["p", "", "", "w", "s"])
    with pytest.raises(TableError, match="say which model is the student"):
        read_table(path, wanted=Wanted(scores=False, answers=True))
    (row,) = read_table(path, pair=Pair(student=STRONG), wanted=Wanted(scores=False, answers=True))
    assert row.answer == "s"
    assert read_table(path, wanted=Wanted(scores=False))[0].prompt == "p"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('prompt,a,b\n"one\ntwo",1,1\n"p",1\n', "line 4: 2 cells under 3 column names"),
        ("prompt,a,b\np,1,maybe\n", "line 2: b must be a number from 0 to 1, not 'maybe'"),
        ('prompt,a,b\np,1,""\n', "line 2: b must be a number from 0 to 1, not ''"),
        ('prompt,a,b\n"p,1,1\n', "line 2: not CSV"),
        ("question,a,b\nq,1,1\n", "column 'prompt' is missing; there are: question, a, b"),
        ("prompt,a\np,1\n", "a teacher and a student are needed; models of this table: a"),
        ("prompt,a,b\n", "no rows"),
        ("prompt,prompt,a,b\np,p,1,1\n", "the column 'prompt' is there twice"),
        (f"q{'?' * 60},a\x1b,{','.join('bcdefghijklm')}\n", r"there are: 'q\?{35}…, 'a\\x1b', b, .* k, …$"),
        ("prompt,a,b\np\0,1,1\n", "neither Parquet nor text in UTF-8"),
    ],
)
def test_a_mistake_in_a_csv_file_is_named(content: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(content)
    with pytest.raises(TableError, match=problem):
        read_table(path)


def test_a_pickle_is_refused_and_its_code_does_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    path = tmp_path / "routerbench_0shot.pkl"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(TableError, match="a pickle is not read, for reading one runs the code in it"):
        read_table(path)
    with pytest.raises(TableError, match="a pickle is not read"):
        read_table(path.rename(tmp_path / "renamed.csv"), "routerbench")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\x1f\x8b\x08", b"PAR1 broken", b"\xff\xfe"])
def test_a_file_without_rows_is_told_so(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(content)
    with pytest.raises(TableError, match=f"^{path}: "):
        read_table(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"absent\.jsonl: No such file"):
        read_table(tmp_path / "absent.jsonl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TableError, match="no file in this folder"):
        read_tables([tmp_path / "empty"])
