"""Helm, where `make test-deploy` has put it; without it nothing here is collected."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.deploy.chart import Chart

HELM_VARIABLE = "DISTILL_ROUTER_TEST_HELM"
ROOT = Path(__file__).parents[2]

collect_ignore_glob = [] if HELM_VARIABLE in os.environ else ["test_*.py"]


@pytest.fixture(scope="session")
def chart() -> Chart:
    return Chart(helm=ROOT / os.environ[HELM_VARIABLE], path=ROOT / "helm" / "distill-router")
