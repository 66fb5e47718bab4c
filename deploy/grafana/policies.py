"""What policies hold requests against: thresholds, floors and their certificates, paces, and what was learned."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard
from grafana_foundation_sdk.models.units import PercentUnit, RequestsPerSecond, Seconds, Short

from deploy.grafana.panels import ROUTE, STAT_HEIGHT, Query, Row, board, figure, gained, lines, rate, rows

CERTIFIED = f'{ROUTE},phase="certified"'


def dashboard() -> Dashboard:
    """The dashboard "Policies"."""
    text = "Thresholds, certified floors and their alarms, paces, trained versions."
    content = (_now(), _floor(), _pace(), _learned())
    return board("distill-router: policies", "distill-router-policies", text, content, tenants=False)


def _latest(metric: str, by: str, labels: str = ROUTE) -> str:
    """Of all gateways, which read the same states."""
    return f"max by ({by}) (distill_router_{metric}{{{labels}}})"


def _now() -> Row:
    return Row(
        "Now",
        (
            figure(
                "Floors that certify",
                "Routes whose floor lets the student serve; with the others the teacher serves.",
                Short,
                f"count({_latest('floor_phase', 'route', CERTIFIED)} == 1) or vector(0)",
            ),
            figure(
                "Alarms", "Of floors, so far.", Short, f"sum({_latest('floor_alarms', 'route,alarm')}) or vector(0)"
            ),
            figure(
                "Trainings",
                "Scheduled ones in the time range.",
                Short,
                f"{gained('policy_trainings_total')} or vector(0)",
            ),
            rows(
                "Trained versions",
                "Workers that decide by each version; while a promotion spreads there are two.",
                Short,
                Query("sum by (policy, version) (distill_router_trained_policy_workers) > 0"),
                width=12,
                height=STAT_HEIGHT,
            ),
        ),
    )


def _floor() -> Row:
    return Row(
        "Thresholds and floors",
        (
            lines(
                "Threshold",
                "The teacher answers from this expected loss on; a floor of 0 gives it everything.",
                Short,
                Query(_latest("threshold", "route,controller"), "{{route}} {{controller}}"),
            ),
            lines(
                "Phase of the floor",
                "1 for the phase that a floor is in.",
                Short,
                Query(_latest("floor_phase", "route,phase"), "{{route}} {{phase}}"),
            ),
            lines(
                "Loss over all traffic, under the floor",
                "Estimate and upper bound since the floor began.",
                PercentUnit,
                Query(_latest("floor_loss", "route"), "{{route}}"),
                Query(_latest("floor_loss_upper_bound", "route"), "{{route}} at most"),
            ),
            lines(
                "Student's share and audits, under the floor",
                "Shares of the floor's requests.",
                PercentUnit,
                Query(_latest("floor_student_share", "route"), "{{route}} student"),
                Query(_latest("floor_audit_rate", "route"), "{{route}} audited"),
            ),
            lines(
                "Audited pairs of the floor",
                "That it has seen.",
                Short,
                Query(_latest("floor_audits", "route"), "{{route}}"),
                width=8,
            ),
            lines(
                "Outside of the floor",
                "Requests that the student had because the teacher could not, or that no audit could tell of.",
                Short,
                Query(_latest("floor_uncovered", "route"), "{{route}}"),
                width=8,
            ),
            lines(
                "Alarms",
                "So far. scores: requests are not what they were; audits: they lose more than was certified; silence: "
                "no audit came back.",
                Short,
                Query(_latest("floor_alarms", "route,alarm"), "{{route}} {{alarm}}"),
                width=8,
            ),
        ),
    )


def _pace() -> Row:
    return Row(
        "Pace, and the state that workers share",
        (
            lines(
                "Price of the pace",
                "The expected loss that a USD for the teacher must save.",
                Short,
                Query(_latest("pace_price", "route"), "{{route}}"),
            ),
            lines(
                "Age of the shared state",
                "Since when nobody renewed it. A floor that is too old gives everything to the teacher.",
                Seconds,
                Query(_latest("control_state_age_seconds", "route"), "{{route}}"),
            ),
            lines(
                "Processes that run the controllers",
                "One, where something is controlled.",
                Short,
                Query("sum(distill_router_control_leader)", "leaders"),
            ),
            lines(
                "Counts that did not arrive",
                "A second. dropped: they waited for Redis for too long; lost: trimmed before anybody read them.",
                RequestsPerSecond,
                Query("sum(rate(distill_router_control_shipments_dropped_total[$__rate_interval]))", "dropped"),
                Query("sum(rate(distill_router_control_shipments_lost_total[$__rate_interval]))", "lost"),
                Query("sum(rate(distill_router_control_shipments_unreadable_total[$__rate_interval]))", "unreadable"),
            ),
        ),
    )


def _learned() -> Row:
    return Row(
        "Learned",
        (
            rows(
                "Policies",
                "What decides on each route, with its version: of its settings, and behind the + of what was trained.",
                Short,
                Query("max by (route, policy, version) (distill_router_policy_info)"),
                width=24,
                height=STAT_HEIGHT,
            ),
            lines(
                "Versions taken up",
                "A second, over the workers; bad: a version could not be used, the old one stays.",
                RequestsPerSecond,
                Query(rate("trained_policy_loads_total", "", "policy,result"), "{{policy}} {{result}}"),
                width=8,
            ),
            lines(
                "Policies that fail",
                "Requests a second that the teacher got because the policy or its gate raised an error.",
                RequestsPerSecond,
                Query(rate("policy_errors_total", ROUTE, "route"), "{{route}}"),
                width=8,
            ),
            lines(
                "Scheduled trainings",
                "A second. promoted: it won on pairs that nobody had learned from; candidate: it did not.",
                RequestsPerSecond,
                Query(rate("policy_trainings_total", "", "policy,result"), "{{policy}} {{result}}"),
                width=8,
            ),
        ),
    )
