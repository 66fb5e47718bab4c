"""The loss map of pairs made by hand: what counts, what it costs, how it is shown."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from router.errors import ConfigError
from router.evidence.records import Triage
from router.lossmap import show
from router.lossmap.examples import readable
from router.lossmap.html import as_html, write_html
from router.lossmap.lossmap import LossMap, build
from router.lossmap.outcome import is_ambiguous, is_excused, is_loss
from router.lossmap.title import title
from router.record.row import VERSION, DecisionRow, RowCharge
from tests.router.lossmap.made import STUDENT_NANO, TEACHER_NANO, answer, made, route_traffic
from tests.support.pairs import STUDENT_VERSION, pair

MODELS = ("teacher", "student")
DAY_S = 86_400
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e &amp; \"'\ud800"


def row(number: int, time: float | None = None, **more: Any) -> DecisionRow:
    """One of a hundred a day and more; the teacher served it for a thousandth of a dollar."""
    charge = [RowCharge("serve", "teacher", TEACHER_NANO)]
    usual: dict[str, Any] = {"rt": "auto", "a": "t", "m": "teacher", "ch": charge}
    moment = number * DAY_S / 100 if time is None else time
    return DecisionRow(VERSION, f"{number:022x}", moment, "chat", **(usual | more))


def rows(count: int = 101, **more: Any) -> list[DecisionRow]:
    return [row(number, **more) for number in range(count)]


def map_of(pairs: list[Any], found: list[DecisionRow] | None = None, min_pairs: int = 50) -> LossMap:
    return build("auto", MODELS, pairs, rows() if found is None else found, min_pairs)


def names(found: LossMap) -> list[str]:
    return [figures.name for figures in found.named]


@pytest.mark.parametrize(
    ("harm", "triage", "loss", "ambiguous", "excused"),
    [
        (True, None, True, False, False),
        (True, Triage(label="student_wrong", basis="judge"), True, False, False),
        (True, Triage(label="teacher_wrong", basis="second_draw"), False, False, True),
        (True, Triage(label="equivalent", basis="human"), False, False, True),
        (True, Triage(label="ambiguous", basis="none"), True, True, False),
        (True, Triage(label="ambiguous", basis="human"), True, True, False),
        (False, Triage(label="student_wrong", basis="human"), True, False, False),
        (False, Triage(label="student_wrong", basis="checks"), False, False, False),
        (False, None, False, False, False),
    ],
)
def test_what_counts_as_a_loss(harm: bool, triage: Triage | None, loss: bool, ambiguous: bool, excused: bool) -> None:
    record = pair(1, harm=harm).model_copy(update={"triage": triage})
    assert (is_loss(record), is_ambiguous(record), is_excused(record)) == (loss, ambiguous, excused)


def test_the_tasks_that_the_student_loses_are_named_and_priced() -> None:
    found = map_of(route_traffic())
    assert {"opening:sort", "opening:##+##"} <= set(names(found))
    assert not {"opening:upper", "opening:reverse"} & set(names(found))
    assert found.loss.value == pytest.approx(0.4)
    (sort,) = (figures for figures in found.named if figures.name == "opening:sort")
    assert sort.share.value == pytest.approx(0.2)
    assert sort.requests_per_day == pytest.approx(0.2 * 100)
    assert sort.loss.value == 1.0 and sort.served_loss.value == 0.0 and sort.teacher_share == 1.0
    each = (TEACHER_NANO - STUDENT_NANO) / 1e9
    assert sort.at_stake_usd_per_day.value == pytest.approx(0.2 * 100 * each)
    assert [step.name for step in found.steps] == ["opening:sort", "opening:##+##"]
    assert found.steps[-1].total_usd_per_day.value == pytest.approx(0.4 * 100 * each)
    assert found.steps[-1].loss_share == pytest.approx(1.0)


def test_what_the_student_serves_is_served_loss_and_no_money() -> None:
    found = map_of(route_traffic(served="student"))
    (sort,) = (figures for figures in found.named if figures.name == "opening:sort")
    assert sort.served_loss.value == 1.0 and sort.teacher_share == 0.0
    assert sort.at_stake_usd_per_day.value == 0 and sort.lost_usd_per_day > 0


def test_of_an_escalation_the_student_has_been_paid_already() -> None:
    escalated = [record.model_copy(update={"reason": "escalated"}) for record in route_traffic()]
    assert map_of(escalated).at_stake_usd_per_day.value == pytest.approx(100 * TEACHER_NANO / 1e9)


def test_pairs_that_say_nothing_of_the_student_are_left_out_and_counted() -> None:
    usual = route_traffic(60)
    failed = [made(1000 + n, teacher=answer(error="status 500"), student_version=STUDENT_VERSION) for n in range(3)]
    other = [made(2000 + n, student=answer().model_copy(update={"model": "another"})) for n in range(2)]
    older = [made(n, student_version="s0", time=1.0) for n in range(3000, 3004)]
    targeted = [
        made(n).model_copy(update={"audit_probability": 0.0, "sample": "escalation"}) for n in range(4000, 4005)
    ]
    found = map_of([*failed, *usual, *other, *older, *targeted])
    assert found.pairs == 60
    assert found.left_out == {
        "teacher failed": 3,
        "other models": 2,
        "other versions of the student": 4,
        "targeted while audit.rate was 0": 5,
    }
    assert {"3 pairs are left out: teacher failed."} <= set(show.head(found))


def test_a_student_that_failed_is_a_loss() -> None:
    usual = [made(number, "fine") for number in range(60)]
    down = pair(1, harm=True).student.model_copy(update={"error": "timeout", "text": ""})
    found = map_of([*usual, *(made(100 + n, "fine", harm=True, student=down) for n in range(30))])
    assert found.loss.value == pytest.approx(1 / 3)


def test_requests_that_do_not_fit_are_counted_by_rows_and_priced() -> None:
    tools = [row(1000 + number, g=["tools"], time=5.0) for number in range(50)]
    forced, shadow = [row(2000, fo=1, time=5.0)], [row(2001, o="shadow", time=5.0)]
    unseen = [row(2002, ns=1, time=5.0)]
    found = map_of(route_traffic(), [*rows(), *tools, *forced, *shadow, *unseen])
    a_day = 150 / 151  # 151 rows with 150 gaps in a day
    assert found.traffic.fitting_per_day == pytest.approx(101 * a_day)
    assert found.traffic.requests_per_day == pytest.approx(151 * a_day)
    assert found.traffic.unseen == 1
    (misfit,) = found.misfits
    assert misfit.name == "misfit:tools"
    assert misfit.teacher_usd_per_day == pytest.approx(50 * a_day * TEACHER_NANO / 1e9)
    assert misfit.at_stake_usd_per_day == pytest.approx(50 * a_day * (TEACHER_NANO - STUDENT_NANO) / 1e9)
    assert found.steps[0].name == "misfit:tools"
    assert "never asked: requests with tools" in show.as_text(found)


def test_without_rows_the_weights_say_how_much_traffic_there_is() -> None:
    found = map_of([record.model_copy(update={"time": 864.0 * n}) for n, record in enumerate(route_traffic(101))], [])
    assert found.traffic.fitting_per_day == pytest.approx(200)
    assert any("estimated from the pairs' weights" in line for line in show.notes(found))


@pytest.mark.parametrize("count", [20, 50, 1000])
def test_a_rate_is_the_same_however_long_it_was_looked_at(count: int) -> None:
    assert map_of(route_traffic(), rows(count)).traffic.requests_per_day == pytest.approx(100)


def test_hardly_any_rows_say_nothing_of_a_day() -> None:
    pairs = [record.model_copy(update={"time": 864.0 * n}) for n, record in enumerate(route_traffic(101))]
    found = map_of(pairs, rows(19))
    assert found.traffic.fitting_per_day == pytest.approx(200) and found.enough
    said = "Only 19 decision rows: requests a day are estimated from the pairs' weights."
    assert said in show.as_text(found)


def test_hardly_any_rows_and_pairs_give_no_figures_a_day() -> None:
    found = map_of(route_traffic(19), rows(19), min_pairs=5)
    assert not found.enough and not found.named
    text, data = show.as_text(found), json.loads(show.as_json(found))
    assert "nobody knows how many requests a day" in text and "$" not in text
    assert "no figures a day are given below 20" in text and "a map needs 20 requests or pairs" in text
    assert [data[name] for name in ("requests_per_day", "at_stake_usd_per_day")] == [None, None]
    assert data["traffic"]["fitting_per_day"] is None


def test_a_student_that_was_only_tried_does_not_hide_the_one_that_serves() -> None:
    usual = route_traffic(60)
    stray = [made(9000 + number, student_version="tried") for number in range(49)]
    found = map_of([*usual, *stray])
    assert (found.student_version, found.pairs, found.left_out) == (
        STUDENT_VERSION,
        60,
        {"other versions of the student": 49},
    )
    replaced = map_of([*usual, *stray, made(9999, student_version="tried")])
    assert (replaced.student_version, replaced.pairs) == ("tried", 50)
    neither = map_of([*usual, *stray], min_pairs=100)
    assert (neither.student_version, neither.enough) == ("tried", False)


@pytest.mark.parametrize(("count", "needed"), [(0, 50), (20, 30)])
def test_too_few_pairs_say_how_many_more(count: int, needed: int) -> None:
    found = map_of(route_traffic(count))
    assert not found.enough and not found.named and not found.others
    assert f"about {needed} more pairs are needed" in show.as_text(found)
    assert "more pairs are needed" in as_html(found)
    assert json.loads(show.as_json(found))["pairs_needed"] == needed


def test_where_no_slice_differs_it_says_so() -> None:
    even = [
        made(number, f"{'sort' if number % 2 else 'upper'} {number}", harm=number % 10 < 2) for number in range(200)
    ]
    found = map_of(even)
    assert not found.named and not found.steps
    assert "No slice can be told from the rest of the traffic. With about" in show.as_text(found)
    assert {"opening:sort", "opening:upper"} <= {figures.name for figures in found.others}


def test_labels_and_triage_change_the_map_and_are_told() -> None:
    equivalent = Triage(label="equivalent", basis="human")
    pairs = [
        record.model_copy(update={"triage": equivalent}) if "sort" in str(record.request) else record
        for record in route_traffic()
    ]
    found = map_of(pairs)
    assert "opening:sort" not in names(found) and "opening:##+##" in names(found)
    assert found.excused == 80
    assert any(line.startswith("80 harmful differences count as no loss") for line in show.notes(found))


def test_the_text_is_at_most_a_hundred_columns_wide() -> None:
    long = [made(n, f"{'x' * 60} {'y' * 70} {n}", harm=True) for n in range(1000, 1100)]
    text = show.as_text(map_of([*route_traffic(), *long]))
    assert max(map(len, text.splitlines())) <= show.WIDTH


def test_json_has_everything_with_titles() -> None:
    data = json.loads(show.as_json(map_of(route_traffic())))
    assert data["route"] == "auto" and data["enough"] and data["pairs"] == 400
    by_name = {line["name"]: line for line in data["named"]}
    assert by_name["opening:sort"]["title"] == "sort …"
    assert set(by_name["opening:sort"]["loss"]) == {"value", "low", "high"}
    assert data["examples"]["opening:sort"][0]["prompt"].startswith("sort ")
    assert data["steps"][0]["total_usd_per_day"]["low"] < data["steps"][0]["total_usd_per_day"]["value"]


class Page(HTMLParser):
    """Tags and what they load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [(name, value) for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in ("meta", "br", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "rect":
            assert self.open.pop() == tag


def test_the_report_is_one_file_that_loads_nothing_and_runs_nothing() -> None:
    page = Page(as_html(map_of(route_traffic(), [*rows(), *(row(500 + n, 5.0, g=["tools"]) for n in range(9))])))
    assert not page.open and not page.loaded
    assert "script" not in page.tags and "link" not in page.tags
    assert page.tags.count("svg") == 1 and page.tags.count("rect") >= 3
    text = as_html(map_of(route_traffic()))
    assert "prefers-color-scheme: dark" in text and "url(" not in text and "@import" not in text


def test_a_report_is_private_and_replaces_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    for count in (400, 200):
        write_html(map_of(route_traffic(count)), path)
        assert f"<p>{count} pairs" in path.read_text()
        assert path.stat().st_mode & 0o777 == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("text", ["keep", "", "<!doctype html>"])
def test_a_report_replaces_nothing_else(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.html"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"--html .*report.html: exists and is no loss map"):
        write_html(map_of(route_traffic()), path)
    assert path.read_text() == text and len(list(tmp_path.iterdir())) == 1


def test_texts_of_clients_and_models_cannot_break_out_of_the_report() -> None:
    student = answer(HOSTILE).model_copy(update={"model": "student"})
    hostile = [
        made(number, f"{HOSTILE} {number}", harm=True, teacher=answer(HOSTILE), student=student)
        for number in range(1000, 1060)
    ]
    found = map_of([*route_traffic(), *hostile])
    text = as_html(found)
    assert "script" not in Page(text).tags and "&lt;script&gt;" in text
    for shown in (text, show.as_text(found), show.as_json(found)):
        assert "\x1b" not in shown and "\u202e" not in shown and shown.encode()


def test_examples_are_clean_and_short() -> None:
    assert readable("a\x1b[0m\tb\r\u202e\n") == "a\ufffd[0m   b\ufffd\ufffd\n"
    assert len(readable("x" * 9999)) == 400
    pairs = [
        made(number, "sort the same" if number < 1300 else f"sort {number}", harm=True) for number in range(1298, 1302)
    ]
    examples = map_of([*route_traffic(), *pairs]).examples["opening:sort"]
    assert [example.prompt for example in examples] == ["sort 1301", "sort 1300", "sort the same"]
    assert examples[0].pair == pair(1301).id


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("opening:sort", "sort …"),
        ("opening:sort & under 9 characters", "sort …, under 9 characters"),
        ("under 9 characters", "under 9 characters"),
        ("length:under 100", "prompts of under 100 characters"),
        ("system:none", "no system prompt"),
        ("system:0a1b2c You are", "system prompt 0a1b2c “You are…”"),
        ("misfit:tools", "never asked: requests with tools"),
        ("tool:\x1b[1m", "calls \ufffd[1m"),
        ("topic:a, b", "topic: a, b"),
    ],
)
def test_names_become_titles(name: str, shown: str) -> None:
    assert title(name) == shown
