"""What it costs, what the teacher alone would have cost, what is left of the budgets."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard
from grafana_foundation_sdk.models.units import Dollars, PercentUnit, Seconds, Short

from deploy.grafana.panels import FILTER, ROUTE, Query, Row, bars, board, figure, gained, lines, rate, rows

ROUTED = f'{FILTER},route!=""'
MEASURED = f'{ROUTED},basis="measured"'
OK = f'{FILTER},outcome="ok"'
ESTIMATED = f'{ROUTED},basis="estimated"'
RATIO = "route:distill_router_pair_teacher_cost:ratio_increase1d"

# As in rules.yml, over the range of the dashboard.
TEACHER_ONLY = (
    f"{gained('teacher_only_cost_usd_total', MEASURED)} + "
    f"sum(sum by (route) (increase(distill_router_teacher_only_cost_usd_total{{{ESTIMATED}}}[$__range])) "
    f"* on (route) ({RATIO} or 1 + 0 * sum by (route) "
    f"(increase(distill_router_teacher_only_cost_usd_total{{{ESTIMATED}}}[$__range]))))"
)
SPENT = gained("cost_usd_total", ROUTED)
NET = f"({TEACHER_ONLY}) - ({SPENT} or vector(0))"
PER_HOUR = "3600 * "


def dashboard() -> Dashboard:
    """The dashboard "Cost"."""
    content = (_totals(), _savings(), _budgets(), _spend(), _machines())
    return board("distill-router: cost", "distill-router-cost", "Spend, savings and budgets.", content)


def _totals() -> Row:
    return Row(
        "In the time range",
        (
            figure("Spent", "Over all origins.", Dollars, gained("cost_usd_total", FILTER)),
            figure(
                "Teacher alone",
                "What it cost where it answered, and the estimate where the student did, corrected by audited pairs.",
                Dollars,
                TEACHER_ONLY,
            ),
            figure("Net savings", "Signed: teacher alone less everything spent on routes.", Dollars, NET, signed=True),
            figure("Share saved", "Of the teacher alone.", PercentUnit, f"({NET}) / ({TEACHER_ONLY})", signed=True),
            figure(
                "Net after idle GPUs",
                "Of all routes, with the idle time of models billed by the GPU-hour paid.",
                Dollars,
                "avg_over_time(all:distill_router_net_savings_after_idle_usd:rate5m[$__range]) * $__range_s",
                signed=True,
            ),
            figure(
                "Per 1,000 requests",
                "Everything spent, by requests that were answered whole.",
                Dollars,
                f"1000 * {gained('cost_usd_total', FILTER)} / {gained('requests_total', OK)}",
            ),
        ),
    )


def _savings() -> Row:
    return Row(
        "Savings",
        (
            lines(
                "Teacher alone and spent",
                "USD an hour on routes.",
                Dollars,
                Query(
                    f"{PER_HOUR}sum(route_tenant:distill_router_teacher_only_cost_usd:rate5m{{{FILTER}}})",
                    "teacher alone",
                ),
                Query(f"{PER_HOUR}sum(route_tenant:distill_router_cost_usd:rate5m{{{ROUTED}}})", "spent"),
            ),
            lines(
                "Net savings",
                "Signed, USD an hour, by route; after idle GPUs for all routes together.",
                Dollars,
                Query(
                    f"{PER_HOUR}sum by (route) (route_tenant:distill_router_net_savings_usd:rate5m{{{FILTER}}})",
                    "{{route}}",
                ),
                Query(f"{PER_HOUR}all:distill_router_net_savings_after_idle_usd:rate5m", "all, after idle GPUs"),
                floor=None,
            ),
            lines(
                "Share saved",
                "Net savings by what the teacher alone would cost.",
                PercentUnit,
                Query(f"route_tenant:distill_router_net_savings:ratio_rate5m{{{FILTER}}}", "{{route}} {{tenant}}"),
                floor=None,
            ),
            lines(
                "Cost per 1,000 requests",
                "By route and tenant.",
                Dollars,
                Query(
                    f"route_tenant:distill_router_cost_usd_per_1000_requests:rate5m{{{FILTER}}}", "{{route}} {{tenant}}"
                ),
            ),
            lines(
                "Teacher alone by basis",
                "USD an hour. Measured: the teacher answered. Estimated: the student's usage at the teacher's prices.",
                Dollars,
                Query(f"{PER_HOUR}{rate('teacher_only_cost_usd_total', ROUTED, 'basis')}", "{{basis}}"),
                width=8,
                stacked=True,
            ),
            lines(
                "Correction of the estimate",
                "Over a day of audited pairs: the teacher's real cost by what the student's usage costs at its prices.",
                Short,
                Query(f"{RATIO}{{{ROUTE}}}", "{{route}}"),
                width=8,
            ),
            lines(
                "Audited pairs",
                "USD that the correction rests on; little money is little certainty.",
                Dollars,
                Query(
                    f"sum by (route) (increase(distill_router_pair_teacher_cost_usd_total{{{ROUTE}}}[1d]))",
                    "{{route}} real",
                ),
                Query(
                    f"sum by (route) (increase(distill_router_pair_teacher_estimate_usd_total{{{ROUTE}}}[1d]))",
                    "{{route}} estimate",
                ),
                width=8,
            ),
        ),
    )


def _spend() -> Row:
    return Row(
        "Spend",
        (
            lines(
                "Spend by origin",
                "USD an hour: serve, escalation, gate, shadow (audits), judge, retry, cancelled.",
                Dollars,
                Query(f"{PER_HOUR}{rate('cost_usd_total', FILTER, 'origin')}", "{{origin}}"),
                stacked=True,
            ),
            lines(
                "Spend by model and origin",
                "USD an hour.",
                Dollars,
                Query(f"{PER_HOUR}{rate('cost_usd_total', FILTER, 'model,origin')}", "{{model}} {{origin}}"),
                stacked=True,
            ),
            lines(
                "Spend by route",
                "USD an hour; without a name: models asked for by their own name.",
                Dollars,
                Query(f"{PER_HOUR}{rate('cost_usd_total', FILTER, 'route')}", "{{route}}"),
                stacked=True,
            ),
            lines(
                "Spend by tenant",
                "USD an hour.",
                Dollars,
                Query(f"{PER_HOUR}{rate('cost_usd_total', FILTER, 'tenant')}", "{{tenant}}"),
                stacked=True,
            ),
            lines(
                "Tokens",
                "A second, of all calls. Cached input is part of input, reasoning of output.",
                Short,
                Query(rate("tokens_total", FILTER, "model,kind"), "{{model}} {{kind}}"),
            ),
            lines(
                "Answers without usage",
                "In an hour, of models that cost money: priced by an estimate.",
                Short,
                Query("sum by (model) (increase(distill_router_usage_missing_total[1h]))", "{{model}}"),
            ),
        ),
    )


def _budgets() -> Row:
    every = "max by (budget, member) (distill_router_budget_{}_usd)"
    return Row(
        "Budgets",
        (
            rows(
                "Budgets now",
                "The limit is hard, the target is for pacing. Reserved: leased by workers. Presumed: leased by workers "
                "that died, and charged until the window ends.",
                Dollars,
                *(
                    Query(every.format(name), name.replace("_", " "))
                    for name in ("limit", "target", "spent", "reserved", "presumed_spent")
                ),
                width=16,
            ),
            bars(
                "Used of the limit",
                "Spent and presumed spent.",
                PercentUnit,
                Query(
                    "budget_member:distill_router_budget_used_usd:max "
                    "/ (budget_member:distill_router_budget_limit_usd:max > 0)",
                    "{{budget}} {{member}}",
                ),
                width=8,
            ),
            lines(
                "Left",
                "Of the limit, in the current window.",
                Dollars,
                Query("budget_member:distill_router_budget_remaining_usd:max", "{{budget}} {{member}}"),
                width=8,
                floor=None,
            ),
            lines(
                "Burn rate",
                "1: the limit is used up exactly when the window ends.",
                Short,
                Query("budget_member:distill_router_budget_burn:rate5m", "{{budget}} {{member}} 5 min"),
                Query("budget_member:distill_router_budget_burn:rate1h", "{{budget}} {{member}} 1 h"),
                width=8,
            ),
            lines(
                "Time to exhaustion",
                "At the pace of the last 15 minutes, beside what is left of the window.",
                Seconds,
                Query("budget_member:distill_router_budget_exhaustion_seconds:deriv15m", "{{budget}} {{member}}"),
                Query(
                    "budget_member:distill_router_budget_window_left_seconds:max", "{{budget}} {{member}} window left"
                ),
                width=8,
            ),
            lines(
                "Calls that a budget did not pay for",
                "In five minutes, by what was done.",
                Short,
                Query(
                    "sum by (budget, action) (increase(distill_router_budget_exhausted_total[5m]))",
                    "{{budget}} {{action}}",
                ),
            ),
            lines(
                "Beyond the bound",
                "USD in an hour. Overshoot: more than could be bounded before the call. Waived: without a lease.",
                Dollars,
                Query(
                    "sum by (budget) (increase(distill_router_budget_overshoot_usd_total[1h]))", "{{budget}} overshoot"
                ),
                Query("sum by (budget) (increase(distill_router_budget_waived_usd_total[1h]))", "{{budget}} waived"),
            ),
        ),
    )


def _machines() -> Row:
    return Row(
        "Models billed by the GPU-hour",
        (
            lines(
                "Bill",
                "USD an hour while gateways run.",
                Dollars,
                Query(
                    f"{PER_HOUR}sum by (model) (rate(distill_router_gpu_bill_usd_total[$__rate_interval]))", "{{model}}"
                ),
                width=8,
            ),
            lines(
                "Idle",
                "USD an hour: the bill less what requests paid. Below 0 the model does more than its capacity says.",
                Dollars,
                Query(f"{PER_HOUR}model:distill_router_idle_cost_usd:rate5m", "{{model}}"),
                width=8,
                floor=None,
            ),
            lines(
                "Idle since the start",
                "USD, over all gateways since each of them started.",
                Dollars,
                Query("sum by (model) (distill_router_idle_cost_usd)", "{{model}}"),
                width=8,
                floor=None,
            ),
        ),
    )
