"""How the panels of these dashboards look: a few kinds, one data source, two filters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models.dashboard import Dashboard as Board
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
FILTER = 'route=~"$route",tenant=~"$tenant"'
ROUTE = 'route=~"$route"'
TAG = "distill-router"
WIDTH = 24
HEIGHT = 8
STAT_HEIGHT = 4
RED, GREEN = "red", "green"

Panel = timeseries.Panel | stat.Panel | table.Panel | bargauge.Panel
P = TypeVar("P", timeseries.Panel, stat.Panel, table.Panel, bargauge.Panel)


@dataclass(frozen=True)
class Query:
    """A PromQL expression; `legend` names each series by its labels."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Row:
    """A headline and the panels under it."""

    title: str
    panels: Sequence[Panel]


def lines(
    title: str, text: str, unit: str, *queries: Query, width: int = 12, stacked: bool = False, floor: float | None = 0
) -> timeseries.Panel:
    """Series over time. `floor`: the least that the axis shows; None: signed."""
    panel = (
        timeseries.Panel().fill_opacity(30 if stacked else 8).span_nulls(True).show_points(kinds.VisibilityMode.NEVER)
    )
    legend = (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(kinds.LegendDisplayMode.TABLE)
        .placement(kinds.LegendPlacement.BOTTOM)
        .calcs(["mean", "last"])
    )
    panel = panel.legend(legend).tooltip(
        common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING)
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL))
    if floor is not None:
        panel = panel.axis_soft_min(floor)
    return _described(panel, title, text, unit, width, HEIGHT, queries, instant=False)


def figure(title: str, text: str, unit: str, query: str, *, width: int = 4, signed: bool = False) -> stat.Panel:
    """One number. `signed`: below nought is red."""
    panel = stat.Panel().reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel = panel.graph_mode(kinds.BigValueGraphMode.NONE).color_mode(kinds.BigValueColorMode.VALUE)
    steps = [Threshold(color=RED, value=None), Threshold(color=GREEN, value=0)] if signed else [_plain()]
    panel = panel.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    return _described(panel, title, text, unit, width, STAT_HEIGHT, (Query(query),), instant=True)


def bars(title: str, text: str, unit: str, *queries: Query, width: int = 12) -> bargauge.Panel:
    """A bar from 0 to 1 for each series, red from 90% on."""
    steps = [_plain(), Threshold(color="orange", value=0.75), Threshold(color=RED, value=0.9)]
    panel = bargauge.Panel().min(0).max(1).orientation(kinds.VizOrientation.HORIZONTAL)
    panel = panel.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return _described(panel, title, text, unit, width, HEIGHT, queries, instant=True)


def rows(title: str, text: str, unit: str, *columns: Query, width: int = 12, height: int = HEIGHT) -> table.Panel:
    """A table with a column for each query, whose legend heads it, and a line for each set of labels."""
    panel = _described(table.Panel(), title, text, unit, width, height, columns, instant=True)
    names = {f"Value #{_ref(number)}": column.legend for number, column in enumerate(columns)}
    hidden = {"Time": True} | ({"Value": True} if len(columns) == 1 else {})
    options = {"renameByName": names, "excludeByName": hidden}
    panel = panel.with_transformation(DataTransformerConfig(id_val="merge", options={}))
    return panel.with_transformation(DataTransformerConfig(id_val="organize", options=options))


def board(title: str, uid: str, text: str, content: Iterable[Row], *, tenants: bool = True) -> Board:
    """A dashboard with the data source and the filters on top, and links to the other ones."""
    build = dashboard.Dashboard(title).uid(uid).description(text).tags([TAG]).readonly().timezone("browser")
    build = build.time("now-6h", "now").refresh("30s").tooltip(DashboardCursorSync.CROSSHAIR)
    build = build.link(
        dashboard.DashboardLink("distill-router").type(DashboardLinkType.DASHBOARDS).tags([TAG]).keep_time(True)
    )
    build = build.with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    build = build.with_variable(_filter("route", "Route", "label_values(distill_router_route_info, route)"))
    if tenants:
        build = build.with_variable(_filter("tenant", "Tenant", "label_values(distill_router_requests_total, tenant)"))
    number = 0
    for row in content:
        number += 1
        build = build.with_row(dashboard.Row(row.title).id(number))
        for panel in row.panels:
            number += 1
            build = build.with_panel(panel.id(number))
    return build.build()


def rate(metric: str, labels: str, by: str) -> str:
    """What a counter gains a second."""
    return f"sum by ({by}) (rate(distill_router_{metric}{{{labels}}}[$__rate_interval]))"


def gained(metric: str, labels: str = "") -> str:
    """What a counter gained in the range of the dashboard."""
    return f"sum(increase(distill_router_{metric}{{{labels}}}[$__range]))"


def quantile(share: float, metric: str, labels: str, by: str) -> Query:
    """A quantile of a histogram."""
    names = " ".join(f"{{{{{label}}}}}" for label in by.split(","))
    buckets = f"sum by (le,{by}) (rate(distill_router_{metric}_bucket{{{labels}}}[$__rate_interval]))"
    return Query(f"histogram_quantile({share}, {buckets})", f"p{share * 100:g} {names}")


def _filter(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """All of them includes what has no such label: without keys there is no tenant."""
    variable = dashboard.QueryVariable(name).label(label).query(query).datasource(SOURCE)
    variable = variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)
    return variable.multi(True).include_all(True).all_value(".*")


def _described(
    panel: P, title: str, text: str, unit: str, width: int, height: int, queries: Sequence[Query], *, instant: bool
) -> P:
    panel = panel.title(title).description(text).unit(unit).span(width).height(height).datasource(SOURCE)
    for number, query in enumerate(queries):
        target = prometheus.Dataquery().ref_id(_ref(number)).datasource(SOURCE).expr(query.expr)
        target = target.instant() if instant else target.range()
        if isinstance(panel, table.Panel):
            target = target.format(PromQueryFormat.TABLE)
        panel = panel.with_target(target.legend_format(query.legend))
    return panel


def _ref(number: int) -> str:
    return chr(ord("A") + number)


def _plain() -> Threshold:
    return Threshold(color=GREEN, value=None)
