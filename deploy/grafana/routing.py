"""Who answers, why, and what did not go as decided."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard
from grafana_foundation_sdk.models.units import PercentUnit, RequestsPerSecond, Short

from deploy.grafana.panels import FILTER, ROUTE, STAT_HEIGHT, Query, Row, board, figure, gained, lines, rate, rows

SHARE = "route:distill_router_teacher_share:ratio_rate5m"


def dashboard() -> Dashboard:
    """The dashboard "Routing"."""
    content = (_totals(), _decisions(), _failures())
    text = "Shares, decisions, escalations, fallbacks, failures."
    return board("distill-router: routing", "distill-router-routing", text, content)


def _totals() -> Row:
    ok = f'{FILTER},route!="",outcome="ok"'
    by_teacher = (
        f"sum(sum by (route, model) (increase(distill_router_requests_total{{{ok}}}[$__range])) "
        'and on (route, model) label_replace(distill_router_route_info, "model", "$1", "teacher", "(.*)"))'
    )
    return Row(
        "In the time range",
        (
            figure("Requests", "Of all outcomes.", Short, gained("requests_total", FILTER)),
            figure(
                "Teacher's share",
                "Of the requests that routes answered whole.",
                PercentUnit,
                f"({by_teacher} or vector(0)) / {gained('requests_total', ok)}",
            ),
            rows(
                "Routes",
                "As configured.",
                Short,
                Query("max by (route, teacher, student) (distill_router_route_info)"),
                width=16,
                height=STAT_HEIGHT,
            ),
        ),
    )


def _decisions() -> Row:
    return Row(
        "Decisions",
        (
            lines(
                "Teacher's share",
                "Of the requests that the route answered whole.",
                PercentUnit,
                Query(f"{SHARE}{{{ROUTE}}}", "{{route}}"),
            ),
            lines(
                "Requests by model",
                "A second.",
                RequestsPerSecond,
                Query(rate("requests_total", FILTER, "model"), "{{model}}"),
                stacked=True,
            ),
            lines(
                "Decisions by reason",
                "A second. guard: does not fit the student; escalated: the gate refused its answer; down, fallback: a "
                "model was away; budget: there was no money for the teacher.",
                RequestsPerSecond,
                Query(rate("decisions_total", ROUTE, "reason"), "{{reason}}"),
                stacked=True,
            ),
            lines(
                "Share of decisions by route and reason",
                "Of each route's decisions.",
                PercentUnit,
                Query(
                    f"{rate('decisions_total', ROUTE, 'route,reason')} / on (route) group_left () "
                    f"({rate('decisions_total', ROUTE, 'route')} > 0)",
                    "{{route}} {{reason}}",
                ),
            ),
        ),
    )


def _failures() -> Row:
    return Row(
        "What did not go as decided",
        (
            lines(
                "Requests by outcome",
                "A second.",
                RequestsPerSecond,
                Query(rate("requests_total", FILTER, "outcome"), "{{outcome}}"),
                stacked=True,
            ),
            lines(
                "Failures",
                "Share of a route's requests that failed or broke off.",
                PercentUnit,
                Query(f"route:distill_router_failures:ratio_rate5m{{{ROUTE}}}", "{{route}}"),
            ),
            lines(
                "Fallbacks and retries",
                "A second: answers of the other arm after a failure, and failed tries before an answer.",
                RequestsPerSecond,
                Query(rate("fallbacks_total", ROUTE, "route,model"), "{{route}} fell back on {{model}}"),
                Query(rate("upstream_retries_total", "", "model"), "{{model}} retries"),
            ),
            lines(
                "Refused by a rate limit",
                "A second, by tenant and kind of limit.",
                RequestsPerSecond,
                Query(rate("rate_limited_total", 'tenant=~"$tenant"', "tenant,kind"), "{{tenant}} {{kind}}"),
            ),
        ),
    )
