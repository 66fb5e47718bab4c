"""The comparators against the labelled pairs: what `docs/comparators.md` reports does not get worse unseen.

The floors are the figures of `python bench/comparators.py --half HALF` on 2026-11-22. A change that lifts one lifts the
floor with it; one that lowers a figure says why, here and in the document.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.comparator_pairs.measure import FOLDER, HALVES, KINDS, OUTCOMES, Half, figures, judge, load

BENCH = Path(__file__).parents[3] / "bench" / "comparators.py"

FEWEST = {kind: 8 if kind in OUTCOMES else 40 for kind in KINDS}
# (precision, recall) of the harm flag by half and kind, rounded down.
FLOORS: dict[tuple[Half, str], tuple[float, float]] = {
    ("development", "label"): (0.666, 1.0),
    ("development", "number"): (0.7, 1.0),
    ("development", "json"): (0.636, 1.0),
    ("development", "tool_calls"): (0.736, 1.0),
    ("development", "code"): (0.515, 1.0),
    ("development", "prose"): (0.488, 1.0),
    ("development", "refusal"): (0.714, 1.0),
    ("development", "truncated"): (0.833, 1.0),
    ("development", "empty"): (1.0, 1.0),
    ("development", "error"): (1.0, 1.0),
    ("held-out", "label"): (0.666, 1.0),
    ("held-out", "number"): (0.625, 1.0),
    ("held-out", "json"): (0.633, 1.0),
    ("held-out", "tool_calls"): (0.709, 1.0),
    ("held-out", "code"): (0.47, 1.0),
    ("held-out", "prose"): (0.431, 1.0),
    ("held-out", "refusal"): (0.8, 1.0),
    ("held-out", "truncated"): (0.75, 1.0),
    ("held-out", "empty"): (1.0, 1.0),
    ("held-out", "error"): (1.0, 1.0),
}


def test_the_files_are_those_that_were_labelled() -> None:
    recorded = re.findall(r"^([0-9a-f]{64})  (\S+)$", (FOLDER / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FOLDER.glob("*.jsonl")}
    assert {name: digest for digest, name in recorded} == found


def test_there_are_enough_pairs_of_every_kind() -> None:
    counts = {kind: len(load(kind)) for kind in KINDS}
    assert sum(counts.values()) >= 360
    assert {kind for kind in KINDS if counts[kind] < FEWEST[kind]} == set()


def test_about_half_of_the_pairs_are_harmful() -> None:
    harmful = [pair.harm for kind in KINDS for pair in load(kind)]
    assert 0.4 < sum(harmful) / len(harmful) < 0.55


def test_every_pair_has_its_own_id_the_kind_of_its_file_and_a_reason() -> None:
    pairs = [(kind, pair) for kind in KINDS for pair in load(kind)]
    assert len({pair.id for _, pair in pairs}) == len(pairs)
    assert [pair.id for kind, pair in pairs if pair.kind != kind or not pair.why] == []


def test_every_answer_is_a_choice_or_an_error() -> None:
    shapes = {frozenset(answer) for kind in KINDS for pair in load(kind) for answer in (pair.teacher, pair.student)}
    assert shapes == {frozenset({"message", "finish_reason"}), frozenset({"error"})}


def test_every_pair_is_in_one_half_and_the_halves_are_about_equal() -> None:
    halves = {half: [pair.id for kind in KINDS for pair in load(kind, half)] for half in HALVES}
    assert sorted(halves["development"] + halves["held-out"]) == sorted(halves["all"])
    assert 0.9 < len(halves["development"]) / len(halves["held-out"]) < 1.1


@pytest.mark.parametrize(("half", "kind"), FLOORS)
async def test_the_harm_flag_is_as_precise_and_as_complete_as_it_was(half: Half, kind: str) -> None:
    found = figures(await judge(load(kind, half)))
    precision, recall = FLOORS[half, kind]
    assert found.precision is not None
    assert found.recall is not None
    assert found.precision >= precision
    assert found.recall >= recall


def test_no_single_pair_of_the_held_out_half_is_listed() -> None:
    asked = [sys.executable, str(BENCH), "--half", "held-out", "--errors"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(BENCH.parents[1])})
    assert done.returncode == 2 and done.stdout == ""
    assert "--errors needs --half development" in done.stderr


@pytest.mark.parametrize("kind", KINDS)
async def test_the_same_pair_always_gets_the_same_verdict(kind: str) -> None:
    pairs = load(kind)
    assert await judge(pairs) == await judge(pairs)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "error"])
async def test_an_answer_is_never_harmful_in_place_of_itself(kind: str) -> None:
    """A failed call is left out: with it nothing is compared."""
    twins = [replace(pair, student=pair.teacher) for pair in load(kind)]
    assert [each.pair.id for each in await judge(twins) if each.verdict.harm or not each.verdict.same] == []
