"""What a policy may be trained from, each told by what it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.errors import ConfigError
from router.settings import Settings, parse
from router.trained.sources import read_material
from tests.support.gateway import two_models
from tests.support.pairs import pair, spool_pairs

ROW = {"id": 7, "dataset": "sums", "prompt": "2+2?", "strong_score": 1.0, "weak_score": 0.25, "weak_response": "5"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    url = "http://127.0.0.1/v1"
    return parse(yaml.safe_dump(two_models(url, url, evidence={"spool_dir": str(tmp_path / "spool")})), {})


def lines(path: Path, *records: Any) -> str:
    path.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in records))
    return str(path)


def pair_lines(path: Path, *numbers: int) -> str:
    return lines(path, *(pair(number, harm=number % 2 == 0).model_dump_json() for number in numbers))


def test_pairs_and_judged_requests_are_told_apart_and_may_be_mixed(tmp_path: Path, settings: Settings) -> None:
    named = [pair_lines(tmp_path / "pairs", 1, 2, 3), lines(tmp_path / "rows.jsonl", ROW)]
    material = read_material(settings, named, "auto", "difficulty", "30d")
    assert [example.harm for example in material.examples] == [0.0, 1.0, 0.0, 0.75]
    assert material.examples[-1].query.route == "sums"
    assert (material.data["pairs"], material.data["rows"], material.until) == (3, 1, pair(3).time)


def test_redis_stands_for_everything_that_the_gateway_wrote(tmp_path: Path, settings: Settings) -> None:
    spool_pairs(tmp_path / "spool", [pair(1), pair(2, harm=True)])
    material = read_material(settings, ["redis"], "auto", "difficulty", "2023-11-01")
    assert len(material.examples) == 2
    assert read_material(settings, ["redis"], "auto", "difficulty", "1d").examples == []


def test_judged_requests_need_no_configuration_and_pairs_do(tmp_path: Path) -> None:
    rows = lines(tmp_path / "rows.jsonl", ROW)
    assert len(read_material(None, [rows], "auto", "difficulty", "30d").examples) == 1
    for named in ("redis", pair_lines(tmp_path / "pairs", 1)):
        with pytest.raises(ConfigError, match="give --config FILE"):
            read_material(None, [named], "auto", "difficulty", "30d")


def test_a_gate_learns_from_the_answers_in_rows(tmp_path: Path) -> None:
    rows = lines(tmp_path / "rows.jsonl", ROW)
    (example,) = read_material(None, [rows], "auto", "cascade", "30d").examples
    assert example.answer is not None and example.answer.text == "5"
    without = lines(tmp_path / "bare.jsonl", {name: ROW[name] for name in ROW if name != "weak_response"})
    with pytest.raises(ConfigError, match=r"bare\.jsonl: line 1: weak_response is missing"):
        read_material(None, [without], "auto", "cascade", "30d")


def test_what_cannot_be_read_is_named(tmp_path: Path, settings: Settings) -> None:
    for named, why in (
        (str(tmp_path / "none"), "No such file or directory"),
        (lines(tmp_path / "bad.jsonl", ROW, "{"), "line 2: not JSON"),
        (lines(tmp_path / "pairs.jsonl", pair(1).model_dump_json(), "{}"), "line 2: no pair record: audit_probability"),
    ):
        with pytest.raises(ConfigError, match=why):
            read_material(settings, [named], "auto", "difficulty", "30d")
    with pytest.raises(ConfigError, match="unknown route 'other'; known: auto"):
        read_material(settings, ["redis"], "other", "difficulty", "30d")


def test_an_archive_is_read_with_what_redis_holds_each_pair_once(tmp_path: Path, settings: Settings) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(ConfigError, match="nothing is there"):
        read_material(settings, [f"file://{tmp_path}/none"], "auto", "difficulty", "30d")
