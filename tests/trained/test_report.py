"""Training reports: what a person reads of them, and where they may be written."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from router.errors import ConfigError
from router.trained import reliability
from router.trained.record import VersionRecord
from router.trained.report import as_html, as_svg, as_text, require_form, write_report

REPORT: dict[str, Any] = {
    "examples": 1200,
    "groups": 800,
    "effective_examples": 640.4,
    "harm_rate": 0.123,
    "heads": ["harm"],
    "tried": [{"head": "harm", "log_loss": {"30": 0.31, "3": 0.3212}}],
    "calibrations": {"none": 0.31, "platt": 0.309},
    "log_loss": 0.309,
    "brier": 0.09,
    "auc": 0.81,
    "calibration_error": 0.012,
    "reliability": [
        {"predicted": 0.4, "observed": 0.5, "count": 100, "weight": 90.0},
        {"predicted": 0.05, "observed": 0.02, "count": 400, "weight": 500.0},
    ],
    "something_new": 3.14159,
}
RECORD = VersionRecord(
    kind="difficulty",
    version="1a2b3c4d",
    created=1_790_000_000.0,
    origin="retrain",
    until=1_789_990_000.0,
    data={"from": ["redis"], "pairs": 1200, "rows": 0, "left_out": {"held back": 133}},
    trial={"pairs": 210, "gain": 0.0123, "against": "version 00000001", "evidence": 25.3, "needed": 20.0},
)


def test_the_text_says_what_was_learned_from_what_and_how_well() -> None:
    text = " ".join(as_text("auto:difficulty@3", RECORD, REPORT).split())
    for said in (
        "auto:difficulty@3",
        "version 1a2b3c4d, on schedule",
        "1,200 pairs until 2026-09-21 11:26 UTC (redis); left out: held back 133",
        "1,200 in 800 conversations, worth 640 of equal weight; harm in 12.3%",
        "log-loss 0.3090, Brier score 0.0900, AUC 0.810, calibration error 1.20%",
        "something new 3.142",
        "tried harm, log loss 30 0.31, 3 0.3212",
        "squared error +0.0123 better than version 00000001",
    ):
        assert said in text, said


def test_reliability_lines_come_by_rising_expectation_with_an_interval_around_what_was_observed() -> None:
    bins = reliability.bins_of(REPORT["reliability"])
    assert [each.predicted for each in bins] == [0.05, 0.4]
    for each in bins:
        assert each.interval.low < each.observed < each.interval.high
    lines = reliability.as_text(bins)
    assert lines[1].split()[:2] == ["5.0%", "2.0%"] and lines[2].split()[:2] == ["40.0%", "50.0%"]
    assert lines[2].count("█") > lines[1].count("█")


def test_the_figure_is_well_formed_shows_every_bin_and_stays_in_its_frame() -> None:
    root = ElementTree.fromstring(as_svg("a <name> & more", REPORT))
    circles = [each for each in root.iter() if each.tag.endswith("circle")]
    assert len(circles) == 2
    side = float(root.attrib["width"])
    assert all(0 < float(each.attrib[axis]) < side for each in circles for axis in ("cx", "cy"))
    assert root[0].text == "a <name> & more"


def test_the_page_escapes_what_it_shows() -> None:
    page = as_html("<b>auto</b>", RECORD, {**REPORT, "remark": "<script>"})
    assert "<b>auto" not in page and "<script>" not in page and "&lt;script&gt;" in page
    assert page.count("<circle") == 2


def test_a_report_without_bins_has_a_page_and_no_figure(tmp_path: Path) -> None:
    assert "<svg" not in as_html("auto", RECORD, {"examples": 3})
    with pytest.raises(ConfigError, match="no reliability bins"):
        write_report(tmp_path / "a.svg", "auto", RECORD, {"examples": 3})


@pytest.mark.parametrize("name", ["a.html", "a.svg"])
def test_a_report_replaces_an_earlier_one_and_nothing_else(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for title in ("first", "second"):
        write_report(path, title, RECORD, REPORT)
    assert "second" in path.read_text() and "first" not in path.read_text()
    assert [each.name for each in tmp_path.iterdir()] == [name]
    path.write_text("mine")
    with pytest.raises(ConfigError, match="is no training report"):
        write_report(path, "third", RECORD, REPORT)
    assert path.read_text() == "mine"


def test_a_report_is_a_page_or_a_figure_in_a_folder_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends in \.html or \.svg"):
        require_form(tmp_path / "a.pdf")
    with pytest.raises(ConfigError, match="there is no folder"):
        require_form(tmp_path / "none" / "a.html")
