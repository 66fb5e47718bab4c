"""Prometheus and promtool, where `make test-metrics` has named them; otherwise only what needs neither."""

from __future__ import annotations

import os

import pytest

from tests.metrics.prometheus import PROMETHEUS_VARIABLE, PROMTOOL_VARIABLE, Promtool
from tests.router.conftest import embedded_models, redis_url, student, teacher

__all__ = ["embedded_models", "redis_url", "student", "teacher"]

NEEDS_THEM = ["test_rules.py", "test_real_prometheus.py"]
collect_ignore = [] if {PROMETHEUS_VARIABLE, PROMTOOL_VARIABLE} <= set(os.environ) else NEEDS_THEM


@pytest.fixture(scope="session")
def promtool() -> Promtool:
    return Promtool(os.environ[PROMTOOL_VARIABLE])
