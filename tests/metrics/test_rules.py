"""The rules are sound for promtool, and each of them has a test with numbers, or of firing and keeping quiet."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from router.record.metrics import Metrics
from tests.metrics.expressions import ALERTS, DOCUMENTATION, PROMETHEUS, RULES, alerts, recorded, rules_of
from tests.metrics.prometheus import Promtool

RULE_TESTS, ALERT_TESTS = PROMETHEUS / "rules_test.yml", PROMETHEUS / "alerts_test.yml"


def checks() -> list[dict[str, Any]]:
    tests = [test for path in (RULE_TESTS, ALERT_TESTS) for test in yaml.safe_load(path.read_text())["tests"]]
    return [check for test in tests for check in test["promql_expr_test"]]


def test_promtool_accepts_rules_and_the_example_configuration(promtool: Promtool) -> None:
    assert "SUCCESS" in promtool.run("check", "rules", RULES, ALERTS)
    assert "SUCCESS" in promtool.run("check", "config", "prometheus.yml", cwd=PROMETHEUS)


@pytest.mark.parametrize("path", [RULE_TESTS, ALERT_TESTS], ids=lambda path: path.name)
def test_rules_and_alerts_do_what_their_tests_say(promtool: Promtool, path: Any) -> None:
    assert "SUCCESS" in promtool.run("test", "rules", path)


def test_promtool_finds_nothing_wrong_with_the_names_and_types(promtool: Promtool) -> None:
    metrics = Metrics()
    metrics.configured(["teacher", "student"], {"auto": ("teacher", "student")}, {"day": ("refuse",)})
    metrics.count("auto", "acme", "teacher", "ok", "cascade")
    metrics.cost("auto", "acme", "teacher", "serve", 0.1)
    assert promtool.run("check", "metrics", stdin=metrics.exposition().decode()) == ""


def test_every_recording_rule_has_a_test_with_numbers() -> None:
    checked = {
        name
        for check in checks()
        for name in re.findall(r"[a-z_]+:distill_router_\w+:\w+", check["expr"])
        if check["exp_samples"]
    }
    assert {rule.where for rule in recorded()} <= checked


@pytest.mark.parametrize("alert", [alert.where for alert in alerts()])
def test_an_alert_has_a_test_of_firing_and_one_of_keeping_quiet(alert: str) -> None:
    about = [check for check in checks() if f'alertname="{alert}"' in check["expr"]]
    assert any(check["exp_samples"] and "firing" in check["expr"] for check in about)
    assert any(not check["exp_samples"] for check in about)


@pytest.mark.parametrize("rule", rules_of(ALERTS), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_happened_what_it_means_and_where_to_look(rule: dict[str, Any]) -> None:
    documentation = DOCUMENTATION.read_text()
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    section = re.match(r"docs/metrics\.md#([a-z-]+): ", rule["annotations"]["runbook"])
    assert section and f"\n## {section[1].capitalize().replace('-', ' ')}\n" in documentation
    assert f"`{rule['alert']}`" in documentation
