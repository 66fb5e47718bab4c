"""`policy score` and `policy evaluate` as a person or a script runs them, on small tables and with odd ones."""

from __future__ import annotations

import csv
import json
import random
import stat
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from router.cli import app
from tests.support.router_process import cli

QUESTIONS = {
    "easy": "Say hello to {} in one word, please.",
    "hard": "Prove that the {} theorem holds for every integer n > {} and state the bound.",
}


def run(command: str, *arguments: Any) -> Result:
    return CliRunner().invoke(app, ["policy", command, *map(str, arguments)], env={"COLUMNS": "200"})


def judged(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """The student fails on most hard questions, and its answer shows it."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        kind = rng.choice(["easy", "hard"])
        right = rng.random() < (0.95 if kind == "easy" else 0.3)
        rows.append(
            {
                "id": f"q-{number}",
                "dataset": "demo",
                "prompt": QUESTIONS[kind].format(f"{rng.randrange(1000)}", rng.randrange(9)),
                "strong_score": float(rng.random() < 0.95),
                "weak_score": float(right),
                "weak_response": "2 + 2 = 4, so the answer is 4." if right else "I am not sure, sorry: 2 + 2 = 5.",
            }
        )
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("policy") / "train.jsonl", judged(90))


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def score(train: Path, data: Path, out: Path, *more: Any) -> Result:
    return run("score", "--train", train, "--data", data, "--scores-out", out, *more)


@pytest.mark.parametrize("policy", ["difficulty", "cascade"])
def test_scores_are_in_the_order_of_the_rows_and_higher_where_the_student_fails(
    policy: str, train: Path, tmp_path: Path
) -> None:
    rows = judged(40, seed=1)
    wanted = ("id", "dataset", "prompt", "weak_response") if policy == "cascade" else ("id", "dataset", "prompt")
    data = write(tmp_path / "data.jsonl", [{name: row[name] for name in wanted} for row in rows])
    done = score(train, data, tmp_path / "scores.jsonl", "--policy", policy)
    assert (done.exit_code, done.stdout) == (0, ""), done.stderr
    found = read(tmp_path / "scores.jsonl")
    assert [set(row) for row in found] == [{"id", "score"}] * 40
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    good, bad = (
        [got["score"] for got, row in zip(found, rows, strict=True) if row["weak_score"] == of] for of in (1, 0)
    )
    assert sum(bad) / len(bad) > sum(good) / len(good)


def test_labels_of_the_data_change_no_score(train: Path, tmp_path: Path) -> None:
    rows = judged(20, seed=2)
    plain = write(tmp_path / "plain.jsonl", [{name: row[name] for name in ("id", "dataset", "prompt")} for row in rows])
    odd = {"strong_score": "none of your business", "weak_score": [], "strong_usd": -1, "weak_response": None}
    labelled = write(tmp_path / "labelled.jsonl", [row | odd for row in rows])
    for data in (plain, labelled):
        assert score(train, data, data.with_suffix(".out")).exit_code == 0
    assert plain.with_suffix(".out").read_bytes() == labelled.with_suffix(".out").read_bytes()


def test_odd_rows_are_scored_as_they_are(train: Path, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": 1, "dataset": "demo", "prompt": ""},
        {"id": 1, "dataset": "demo", "prompt": " \n\t"},
        {"id": 2.5, "dataset": None, "prompt": "ünïcödé 漢字 🤖 \u0000 \ud83d"},
        {"id": "", "prompt": "a word " * 20_000},
        {"id": "x" * 300, "dataset": 7, "prompt": "2+2=?", "extra": {"deep": [1]}},
        {"id": "𝕏\u2028", "dataset": "demo", "prompt": "a\u2028b\u0085c\r\nd"},
    ]
    data = tmp_path / "data.jsonl"
    data.write_bytes(b"\xef\xbb\xbf\r\n" + b"\r\n\r\n".join(json.dumps(row).encode() for row in rows))
    done = score(train, data, tmp_path / "new" / "scores.jsonl")
    assert done.exit_code == 0, done.stderr
    found = read(tmp_path / "new" / "scores.jsonl")
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    assert all(isinstance(row["score"], float) for row in found)


def test_the_same_call_gives_the_same_bytes_and_overwrites(train: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    out.write_text("old\n" * 1000)
    assert score(train, train, out).exit_code == 0
    first = out.read_bytes()
    assert score(train, train, out).exit_code == 0
    assert out.read_bytes() == first
    assert stat.S_IMODE(out.stat().st_mode) & stat.S_IRUSR


def test_as_a_process_it_says_on_standard_error_what_it_did(train: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    done = cli("policy", "score", "--policy", "difficulty", "--train", train, "--data", train, "--scores-out", out)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr == f"difficulty learned from 90 rows; 90 scores are in {out}\n"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"weak_score": 2}, "line 3: weak_score must be a number from 0 to 1, not 2"),
        ({"prompt": None}, "line 3: prompt must be a text, not None"),
        ({"id": None}, "line 3: id must be a text or a number, not None"),
    ],
)
def test_a_bad_row_ends_with_its_line_and_status_2_and_leaves_no_scores(
    change: dict[str, Any], problem: str, train: Path, tmp_path: Path
) -> None:
    rows = judged(40)
    bad = write(tmp_path / "bad.jsonl", [*rows[:2], rows[2] | change, *rows[3:]])
    done = score(bad, train, tmp_path / "scores.jsonl")
    assert (done.exit_code, done.stderr) == (2, f"{bad}: {problem}\n")
    assert not (tmp_path / "scores.jsonl").exists()


def test_too_few_labels_are_refused_with_status_3(tmp_path: Path) -> None:
    rows = judged(20)
    few = write(tmp_path / "few.jsonl", rows)
    agreeing = write(tmp_path / "one.jsonl", [row | {"strong_score": 1, "weak_score": 1} for row in judged(60)])
    for data in (few, agreeing):
        done = score(data, few, tmp_path / "scores.jsonl")
        assert done.exit_code == 3
        assert "harm" in done.stderr


def test_options_that_cannot_be_met_are_named(train: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    unknown = score(train, train, out, "--policy", "oracle")
    assert (unknown.exit_code, unknown.stderr) == (2, "--policy oracle: unknown; known: difficulty, cascade\n")
    absent = score(train, tmp_path / "absent.jsonl", out)
    assert (absent.exit_code, absent.stderr) == (2, f"{tmp_path}/absent.jsonl: No such file or directory\n")
    folder = score(train, train, tmp_path)
    assert (folder.exit_code, folder.stderr) == (2, f"{tmp_path}: Is a directory\n")
    half = run("evaluate", "--data", train, "--teacher-usd", 1)
    assert (half.exit_code, half.stderr) == (2, "savings need both --teacher-usd, above 0, and --student-usd\n")
    few = run("evaluate", "--data", train, "--folds", 200)
    assert (few.exit_code, few.stderr) == (2, "200 folds need as many different prompts, and there are 90\n")


def test_what_is_read_is_never_written_over(train: Path, tmp_path: Path) -> None:
    before = train.read_bytes()
    link, folder = tmp_path / "link.jsonl", tmp_path / "folder"
    link.symlink_to(train)
    folder.mkdir()
    write(folder / "rows.jsonl", judged(40))
    for done in (
        score(train, train, train),
        score(folder / "rows.jsonl", train, link),
        score(train, folder, folder / "scores.jsonl"),
        run("evaluate", "--data", train, "--plot", train),
    ):
        assert (done.exit_code, done.stderr.partition(" ")[2]) == (
            2,
            "is also read, or in a folder that is: name another file\n",
        )
    assert train.read_bytes() == before
    assert [each.name for each in folder.iterdir()] == ["rows.jsonl"]


def test_an_evaluation_compares_policies_and_draws_them(train: Path, tmp_path: Path) -> None:
    plot = tmp_path / "curve.svg"
    options = ("--policy", "difficulty", "--policy", "cascade", "--folds", 2, "--teacher-usd", 10, "--student-usd", 1)
    done = run("evaluate", "--data", train, *options, "--plot", plot)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("90 rows; 2 folds, mean of 1 seed.\nMean score: teacher 0.9")
    for words in (
        "APGR",
        "CPT(80)",
        "saved at 95% of its score",
        "student alone",
        "difficulty has",
        "The curves are in",
    ):
        assert words in done.stdout
    assert xml.etree.ElementTree.parse(plot).getroot().tag.endswith("svg")


def test_an_evaluation_as_json_learns_from_so_many_rows_only(train: Path) -> None:
    done = run("evaluate", "--data", train, "--folds", 2, "--seeds", 2, "--train-limit", 40, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["rows"], found["folds"], found["seeds"], found["train_limit"]) == (90, 2, 2, 40)
    assert found["data"] == [str(train)]
    apgr = found["policies"]["difficulty"]["apgr"]
    assert apgr["value"] > 0.5
    assert apgr["low"] < apgr["value"] < apgr["high"]
    assert apgr["spread"] >= 0


def test_routellms_files_are_evaluated(tmp_path: Path) -> None:
    responses = tmp_path / "responses"
    responses.mkdir()
    for seed, subject in enumerate(("anatomy", "college_biology")):
        with (responses / f"mmlu_{subject}.csv").open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file)
            lines.writerow(["prompt", "mixtral-8x7b-instruct-v0.1", "gpt-4-1106-preview"])
            lines.writerows(
                [row["prompt"], row["weak_score"] == 1, row["strong_score"] == 1] for row in judged(60, seed)
            )
    done = run("evaluate", "--data", responses, "--folds", 2, "--format", "routellm", "--json")
    assert done.exit_code == 0, done.stderr
    assert (json.loads(done.stdout)["rows"], json.loads(done.stdout)["datasets"]) == (120, 2)
