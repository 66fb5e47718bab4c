"""What the student keeps of the teacher, how sure that is, and what the comparisons behind it say."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard
from grafana_foundation_sdk.models.units import PercentUnit, Short

from deploy.grafana.panels import ROUTE, Panel, Query, Row, board, figure, gained, lines, rows

ALL = f'{ROUTE},slice="all"'
AGREED = f'{ROUTE},verdict="agree"'
COMPARED = f'{ROUTE},verdict=~"agree|disagree"'


def dashboard() -> Dashboard:
    """The dashboard "Quality"."""
    text = "Retention and route loss with intervals that hold at every look, and what audits found."
    content = (_now(), _over_time(), _slices(), _comparisons(), _audits())
    return board("distill-router: quality", "distill-router-quality", text, content, tenants=False)


def _now() -> Row:
    return Row(
        "Now",
        (
            figure(
                "Retention, at least",
                "Share of the student's answers that are no loss, lower bound; the worst of the routes.",
                PercentUnit,
                f"min({_best('student_retention_lower_bound', ALL)})",
            ),
            figure(
                "Route loss, at most",
                "Share of all requests that the student answered harmfully, upper bound; the worst of the routes.",
                PercentUnit,
                f"max({_best('route_loss_upper_bound', ALL)})",
            ),
            figure(
                "Over the teacher's own",
                "Retention over what the teacher keeps of itself when it is asked twice; the worst of the routes.",
                PercentUnit,
                f"min({_best('student_retention_normalised', ROUTE)})",
            ),
            figure(
                "Pairs",
                "Behind the figures, in their window of days.",
                Short,
                f"sum(max by (route) (distill_router_retention_pairs{{{ALL}}}))",
            ),
            figure(
                "Disagreements",
                "In the time range.",
                Short,
                gained("disagreements_total", ROUTE),
            ),
            figure(
                "Student wrong",
                "Disagreements in the time range that are the student's mistake: what it can be trained on.",
                Short,
                gained("triage_total", f'{ROUTE},label="student_wrong"'),
            ),
        ),
    )


def _over_time() -> Row:
    return Row(
        "What the student keeps",
        (
            _interval(
                "Student retention",
                "Share of the student's answers that are no loss: estimate and interval, at every look.",
                "student_retention",
            ),
            _interval(
                "Route loss",
                "Share of all requests that the student answered harmfully: estimate and interval, at every look.",
                "route_loss",
            ),
            lines(
                "Retention over the teacher's own",
                "Over how often the teacher agrees with itself; at most 1.",
                PercentUnit,
                Query(_best("student_retention_normalised", ROUTE), "{{route}}"),
                Query(_best("student_retention_normalised_lower_bound", ROUTE), "{{route}} at least"),
            ),
            lines(
                "Teacher's noise",
                "How often a second answer of the teacher would have been harmful beside the first.",
                PercentUnit,
                Query(_best("teacher_noise", ROUTE), "{{route}}"),
            ),
        ),
    )


def _slices() -> Row:
    return Row(
        "Slices",
        (
            rows(
                "By slice",
                "What was asked for and how long the prompt is. No figure: too few pairs.",
                PercentUnit,
                *(
                    Query(f"max by (route, slice) (distill_router_{name}{{{ROUTE}}})", head)
                    for name, head in (
                        ("student_retention", "retention"),
                        ("student_retention_lower_bound", "at least"),
                        ("student_retention_upper_bound", "at most"),
                        ("route_loss", "route loss"),
                    )
                ),
                width=14,
            ),
            rows(
                "Evidence by slice",
                "Pairs, and how many equally weighted ones would say as much (Kish).",
                Short,
                Query(f"max by (route, slice) (distill_router_retention_pairs{{{ROUTE}}})", "pairs"),
                Query(f"max by (route, slice) (distill_router_retention_effective_pairs{{{ROUTE}}})", "effective"),
                width=10,
            ),
        ),
    )


def _comparisons() -> Row:
    return Row(
        "Comparisons",
        (
            _hourly("Comparisons by verdict", "In an hour.", "comparisons_total", "route,verdict", width=8),
            _hourly("Disagreements by kind", "In an hour.", "disagreements_total", "kind", width=8),
            _hourly(
                "Whose mistake",
                "In an hour. ambiguous: the two answers alone, or a teacher that contradicts itself, do not tell.",
                "triage_total",
                "label",
                width=8,
            ),
            figure(
                "Agreement",
                "Of the compared pairs in the time range; not weighted, for a first look only.",
                PercentUnit,
                f"{gained('comparisons_total', AGREED)} / {gained('comparisons_total', COMPARED)}",
                width=24,
            ),
        ),
    )


def _audits() -> Row:
    return Row(
        "Audits",
        (
            _hourly(
                "Audits by result",
                "In an hour. pair: compared; misfit: the student could never have answered; budget: no money was left.",
                "audits_total",
                "result",
            ),
            _hourly("Audits by sample", "In an hour: why a request was compared.", "audits_total", "sample"),
            lines(
                "Share of the audits kept",
                "Below 1 fewer are drawn than configured: places or money are scarce. The figures stay right.",
                PercentUnit,
                Query(f"min by (route) (distill_router_audit_keep_probability{{{ROUTE}}})", "{{route}}"),
                width=8,
            ),
            lines(
                "Requests that count for no figure",
                "In an hour: forced, no-store, or without a whole answer.",
                Short,
                Query(
                    f"sum by (reason) (increase(distill_router_retention_excluded_total{{{ROUTE}}}[1h]))", "{{reason}}"
                ),
                width=8,
            ),
            lines(
                "Judges",
                "In an hour. inconsistent: another verdict when the answers changed places.",
                Short,
                Query("sum by (result) (increase(distill_router_judge_calls_total[1h]))", "{{result}}"),
                width=8,
            ),
        ),
    )


def _interval(title: str, text: str, name: str) -> Panel:
    return lines(
        title,
        text,
        PercentUnit,
        Query(_best(name, ALL), "{{route}}"),
        Query(_best(f"{name}_lower_bound", ALL), "{{route}} at least"),
        Query(_best(f"{name}_upper_bound", ALL), "{{route}} at most"),
        floor=None,
    )


def _best(name: str, labels: str) -> str:
    """Every gateway shows the same sums; one that has none yet shows nothing."""
    return f"max by (route) (distill_router_{name}{{{labels}}})"


def _hourly(title: str, text: str, metric: str, by: str, width: int = 12) -> Panel:
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(","))
    query = Query(f"sum by ({by}) (increase(distill_router_{metric}{{{ROUTE}}}[1h]))", legend)
    return lines(title, text, Short, query, stacked=True, width=width)
