"""The committed dashboards are what the code builds, and nothing is measured that nobody reads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prometheus_client import Counter, Gauge, Histogram

from deploy.grafana.build import DASHBOARDS, render
from router.control.metrics import ControlSeries
from router.record.metrics import PREFIX, Metrics
from router.trained.metrics import TrainedMetrics
from tests.metrics.expressions import DOCUMENTATION, GRAFANA, Expression, alerts, boards, panels, recorded

SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def every_series() -> tuple[Metrics, ControlSeries, TrainedMetrics]:
    """All that a gateway registers."""
    metrics = Metrics()
    return metrics, ControlSeries(metrics.registry), TrainedMetrics(metrics.registry)


def exposed() -> dict[str, set[str]]:
    """The names of the series of every metric that a gateway can expose."""
    families = every_series()[0].registry.collect()
    return {family.name: {family.name + suffix for suffix in SUFFIXES[family.type]} for family in families}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_committed_dashboard_is_what_the_code_builds(name: str) -> None:
    assert (GRAFANA / name).read_text() == render()[name], "run: make dashboards"


def test_every_metric_is_read_by_a_panel_a_rule_or_an_alert() -> None:
    read = {name for expression in (*panels(), *recorded(), *alerts()) for name in expression.names}
    assert [name for name, series in exposed().items() if not series & read] == []


def test_every_metric_is_explained_with_its_labels() -> None:
    holders = [vars(holder).values() for holder in every_series()]
    metrics = [value for values in holders for value in values if isinstance(value, Counter | Gauge | Histogram)]
    documentation = DOCUMENTATION.read_text()
    for metric in metrics:
        (family,) = metric.describe()
        name = family.name.removeprefix(PREFIX) + ("_total" if family.type == "counter" else "")
        labels = "{" + ",".join(metric._labelnames) + "}" if metric._labelnames else ""
        assert f"`{name}{labels}`" in documentation


def test_every_recorded_series_is_read() -> None:
    expressions = (*panels(), *recorded(), *alerts())
    read = {name for expression in expressions for name in expression.names if name != expression.where}
    assert [rule.where for rule in recorded() if rule.where not in read] == []


@pytest.mark.parametrize("expression", (*panels(), *recorded(), *alerts()), ids=lambda expression: expression.where)
def test_an_expression_reads_only_what_exists(expression: Expression) -> None:
    known = set().union(*exposed().values(), (rule.where for rule in recorded()))
    assert expression.names and expression.names <= known


@pytest.mark.parametrize("board", boards().values(), ids=boards())
def test_a_panel_says_what_it_shows_in_which_unit_and_from_the_chosen_source(board: dict[str, Any]) -> None:
    content = [panel for panel in board["panels"] if panel["type"] != "row"]
    for panel in content:
        assert panel["description"] and panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("board", boards().values(), ids=boards())
def test_panels_do_not_overlap_and_fill_their_lines(board: dict[str, Any]) -> None:
    covered: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & covered and place["x"] + place["w"] <= 24
        covered |= cells
    bottom = max(y for _, y in covered) + 1
    assert len(covered) == 24 * bottom


@pytest.mark.parametrize("board", boards().values(), ids=boards())
def test_a_variable_that_a_query_names_is_there(board: dict[str, Any]) -> None:
    variables = {variable["name"] for variable in board["templating"]["list"]}
    text = json.dumps(board["panels"])
    assert "datasource" in variables
    assert all(f"${name}" in text or f"${{{name}}}" in text for name in variables)
    assert all(name in variables for name in ("route", "tenant") if f"${name}" in text)
