"""From which pairs a floor may start: those of the models that its route serves now."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import yaml

from policies.learn.artifact import CalibrationSet
from router.runtime import Runtime, Standing
from router.settings import parse
from tests.support.gateway import two_models
from tests.support.policy_parts import Estimator

POLICY = {"kind": "difficulty", "threshold": 0.5, "file": "/none/trained"}
PAIRS = CalibrationSet(*[np.array([0.5])] * 4)


@pytest.mark.parametrize(
    ("models", "starts"),
    [
        ({"teacher": ["now"], "student": ["now"]}, True),
        ({"teacher": ["now"], "student": ["before"]}, False),
        ({"teacher": ["before"], "student": ["now"]}, False),
        ({"teacher": ["before", "now"], "student": ["now"]}, False),
        ({}, False),
        (None, False),
    ],
)
async def test_a_floor_starts_from_pairs_of_the_models_that_serve(
    models: dict[str, list[str]] | None, starts: bool
) -> None:
    config = two_models("http://t/v1", "http://s/v1", policy=POLICY)
    standing = Standing()
    runtime = Runtime(parse(yaml.safe_dump(config), {}), standing)
    route = runtime.routes["auto"]
    assert route.live.calibration() is None
    versions = {"teacher": route.teacher.version, "student": route.student.version}
    report: dict[str, Any] = {}
    if models is not None:
        report["models"] = {
            arm: [versions[arm] if each == "now" else each for each in found] for arm, found in models.items()
        }
    (slot,) = standing.slots
    slot.current = Estimator(kind="difficulty", version="00000001", report=report, calibration_set=PAIRS)
    assert route.live.calibration() is (PAIRS if starts else None)
    await runtime.close()
