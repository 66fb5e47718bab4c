"""The series that savings are made of: what the teacher alone would cost, how right that estimate is, whose routes."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from router.budget_settings import Budget
from router.ledger.lease import Account, Standing
from router.ledger.pricing import NANO_PER_USD
from tests.support.gateway import RunningGateway, eventually, running_gateway, two_models
from tests.support.router_process import Router, until
from tests.support.scripted import Reply, ScriptedUpstream, Usage, failing
from tests.support.upstream_thread import UpstreamThread

# At USD 2 and 8 per million tokens for the teacher, 0.2 and 0.8 for the student.
TEACHER_OWN_USD = (10 * 2 + 3 * 8) / 1e6
STUDENT_AT_TEACHERS_PRICES_USD = (20 * 2 + 3 * 8) / 1e6
CASCADE = {"kind": "cascade", "escalate_at": 0.5}
AUDITED = {"audit": {"rate": 1.0, "comparator": "exact"}}


def by_basis(gateway: RunningGateway) -> dict[str, float]:
    return {
        basis: gateway.metric("teacher_only_cost_usd_total", route="auto", basis=basis)
        for basis in ("measured", "estimated")
    }


def pair_sums(gateway: RunningGateway) -> tuple[float, float]:
    return gateway.metric("pair_teacher_cost_usd_total"), gateway.metric("pair_teacher_estimate_usd_total")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("arm", "expected"),
    [
        ("teacher", {"measured": TEACHER_OWN_USD, "estimated": 0}),
        ("student", {"measured": 0, "estimated": STUDENT_AT_TEACHERS_PRICES_USD}),
    ],
)
async def test_the_teacher_alone_is_measured_where_it_served_and_else_estimated(
    arm: str, expected: dict[str, float], stream: bool, teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    async with running_gateway(two_models(teacher.url, student.url, policy={"kind": "fixed", "model": arm})) as gateway:
        await gateway.ask("chat", stream=stream)
        await gateway.idle()
        assert by_basis(gateway) == pytest.approx(expected)


async def test_an_escalated_request_is_measured_and_the_bases_add_up_to_the_rows(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    config = two_models(teacher.url, student.url, policy=CASCADE, models={"supports": ["logprobs"]})
    async with running_gateway(config) as gateway:
        for logprob in (-5.0, -0.01, -5.0):
            student.script(Reply("sure or not", usage=Usage(20, 3), token_logprob=logprob))
            await gateway.ask("chat")
        rows = await gateway.rows(3)
        bases = by_basis(gateway)
        assert bases["measured"] == pytest.approx(2 * TEACHER_OWN_USD)
        assert bases["estimated"] == pytest.approx(STUDENT_AT_TEACHERS_PRICES_USD)
        assert round(sum(bases.values()) * NANO_PER_USD) == sum(row.to for row in rows)


async def test_a_model_asked_for_by_name_has_no_counterfactual(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    async with running_gateway(two_models(teacher.url, student.url)) as gateway:
        await gateway.ask("chat", "teacher")
        await gateway.idle()
        assert gateway.metric("cost_usd_total") > 0
        assert gateway.metric("teacher_only_cost_usd_total") == 0


async def test_an_audited_pair_that_the_student_served_says_how_right_the_estimate_is(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    async with running_gateway(two_models(teacher.url, student.url, route=AUDITED)) as gateway:
        await gateway.ask("chat")
        await gateway.idle()
        assert pair_sums(gateway) == pytest.approx((TEACHER_OWN_USD, STUDENT_AT_TEACHERS_PRICES_USD))


@pytest.mark.parametrize("case", ["the teacher served", "the teacher failed", "its usage is missing"])
async def test_other_pairs_say_nothing_about_the_estimate(
    case: str, teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    arm = "teacher" if case == "the teacher served" else "student"
    if case == "the teacher failed":
        teacher.script(failing(500, "broken"))
    if case == "its usage is missing":
        teacher.script(Reply("no usage", usage=None))
    policy = {"kind": "fixed", "model": arm}
    async with running_gateway(two_models(teacher.url, student.url, policy=policy, route=AUDITED)) as gateway:
        await gateway.ask("chat")
        await gateway.idle()
        assert gateway.metric("comparisons_total") == 1
        assert pair_sums(gateway) == (0, 0)


async def test_what_alarms_by_its_first_increment_starts_at_zero(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str
) -> None:
    budget = {"window": "day", "limit_usd": 1, "counts": "teacher", "on_spent": "student"}
    models = {"context_tokens": 512}
    config = two_models(teacher.url, student.url, models=models, redis=redis_url, budgets={"daily": budget})
    async with running_gateway(config, redis_url=redis_url) as gateway:
        page = gateway.gateway.metrics.exposition().decode()
        for series in (
            'usage_missing_total{model="teacher"}',
            'fallbacks_total{model="teacher",route="auto"}',
            'pair_teacher_cost_usd_total{route="auto"}',
            'budget_overshoot_usd_total{budget="daily"}',
            'budget_waived_usd_total{budget="daily"}',
            'budget_exhausted_total{action="student",budget="daily"}',
        ):
            assert f"distill_router_{series} 0.0\n" in page


def budgeted(teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str) -> dict[str, Any]:
    """A calendar budget, and a rolling one."""
    budgets = {
        "daily": {"window": "day", "limit_usd": 1, "target_usd": 0.5},
        "rolling": {"window": "2h", "limit_usd": 1},
    }
    models = {"context_tokens": 512}
    return two_models(teacher.url, student.url, models=models, redis=redis_url, budgets=budgets)


@pytest.mark.parametrize("budget", ["daily", "rolling"])
async def test_a_budget_shows_what_was_settled_and_how_long_its_window_is(
    budget: str, teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str
) -> None:
    async with running_gateway(budgeted(teacher, student, redis_url), redis_url=redis_url) as gateway:
        assert (await gateway.ask("chat")).status_code == 200
        spent = pytest.approx((await gateway.row()).c["serve"] / NANO_PER_USD)
        await eventually(lambda: gateway.metric("budget_settled_usd_total", budget=budget) == spent, "the counter")
        await eventually(lambda: gateway.metric("budget_spent_usd", budget=budget) == spent, "the gauge")
        end = gateway.metric("budget_window_end_timestamp_seconds", budget=budget)
        assert gateway.metric("budget_window_seconds", budget=budget) == {"daily": 86_400, "rolling": 7_200}[budget]
        assert end > time.time() if budget == "daily" else end == 0


async def test_a_budget_that_is_gone_leaves_no_gauge_behind(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str, tmp_path: Path
) -> None:
    config, path = budgeted(teacher, student, redis_url), tmp_path / "router.yaml"
    path.write_text(json.dumps(config))
    async with running_gateway(config, redis_url=redis_url, config_path=path) as gateway:
        await eventually(lambda: gateway.metric("budget_limit_usd", budget="daily") == 1, "the gauge")
        path.write_text(json.dumps(config | {"budgets": {"rolling": config["budgets"]["rolling"]}}))
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: gateway.metric("config_reloads_total", result="ok") == 1, "the reload")
        gauges = [
            line for line in gateway.gateway.metrics.exposition().decode().splitlines() if 'budget="daily"' in line
        ]
        assert all("_total{" in line or "_created{" in line for line in gauges)


def test_what_redis_said_of_a_window_that_is_over_is_not_known_of_the_next() -> None:
    day, start = 86_400, 20_000 * 86_400
    calendar = Account("daily", "", Budget(window="day", limit_usd=1))
    rolling = Account("rolling", "", Budget(window="20h", limit_usd=1))
    for account in (calendar, rolling):
        account.standing = Standing(start, start, ceiling=9, spent=9)
        assert account.known(start + 60).spent == 9
    assert calendar.known(start + day).spent == 0
    assert rolling.known(start + 20 * 3600).spent == 9
    assert rolling.known(start + 22 * 3600).spent == 0


async def test_a_route_is_described_while_it_is_configured(
    teacher: ScriptedUpstream, student: ScriptedUpstream, tmp_path: Path
) -> None:
    config, path = two_models(teacher.url, student.url), tmp_path / "router.yaml"
    path.write_text(json.dumps(config))
    async with running_gateway(config, config_path=path) as gateway:
        assert gateway.metric("route_info", route="auto", teacher="teacher", student="student") == 1
        path.write_text(json.dumps(config | {"routes": {"other": config["routes"]["auto"]}}))
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: gateway.metric("route_info", route="other") == 1, "the new route")
        assert gateway.metric("route_info", route="auto") == 0


def test_several_workers_describe_a_route_once_and_forget_it_together(tmp_path: Path) -> None:
    with UpstreamThread() as upstream:
        config: dict[str, Any] = two_models(upstream.url, upstream.url)
        config |= {"evidence": {"spool_dir": str(tmp_path)}, "server": {"auth": "none", "reload": False}}
        with Router(tmp_path, config, "--workers", "2") as router:
            until(lambda: router.log.read_text().count("Application startup complete") == 2, "two workers")
            assert router.series("route_info") == [({"route": "auto", "teacher": "teacher", "student": "student"}, 1)]
            router.write(config | {"routes": {"other": config["routes"]["auto"]}})
            router.signal(signal.SIGHUP)
            until(lambda: router.metric("config_reloads_total", result="ok") == 2, "a reload in each worker")
            assert [labels["route"] for labels, _ in router.series("route_info")] == ["other"]
