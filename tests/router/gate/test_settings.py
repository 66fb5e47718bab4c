"""What a gate names in a configuration is there, and fit for it."""

from __future__ import annotations

from typing import Any

import pytest

from policies.cascade import CascadeConfig
from router.gate.settings import gate_problems

MODELS = ("teacher", "student", "third")


def problems(**block: Any) -> list[str]:
    asks = CascadeConfig(kind="cascade", **block).asks()
    return list(gate_problems("routes.auto.policy", asks, MODELS, teacher="teacher", student="student"))


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ({"agreement": {"model": "nobody"}}, "agreement.model: unknown model 'nobody'; known: teacher, student, third"),
        ({"agreement": {"model": "student"}}, "agreement.model: 'student' is the student itself"),
        ({"agreement": {"model": "teacher"}}, "agreement.model: 'teacher' is the teacher"),
        ({"checks": {"a": {"kind": "judge", "model": "nobody"}}}, "checks.a.model: unknown model 'nobody'"),
        ({"checks": {"a": {"kind": "judge", "model": "student"}}}, "checks.a.model: 'student' is the student"),
        ({"checks": {"a": {"kind": "json_schema", "schema": {"type": "objekt"}}}}, "checks.a.schema: is no JSON"),
    ],
    ids=str,
)
def test_a_name_that_means_nothing_is_told_with_its_path(block: dict[str, Any], told: str) -> None:
    (problem,) = problems(**block)
    assert problem.startswith(f"routes.auto.policy.{told}")


@pytest.mark.parametrize(
    "block",
    [
        {},
        {"agreement": {"samples": 1, "model": "third"}},
        {"checks": {"a": {"kind": "judge", "model": "third"}, "b": {"kind": "judge", "model": "teacher"}}},
        {"checks": {"a": {"kind": "json_schema", "schema": {"type": "object"}}, "b": {"kind": "json_schema"}}},
    ],
    ids=str,
)
def test_what_is_there_is_no_problem(block: dict[str, Any]) -> None:
    assert problems(**block) == []
