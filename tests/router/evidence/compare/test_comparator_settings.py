"""The comparators of the configuration: what is refused, where, and what is said about it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from router.comparator_settings import BUILT_IN, KINDS, Use, comparator_problems
from router.evidence.compare.registry import Comparators, UnknownComparator
from tests.router.evidence.compare.asking import SETTINGS, configured

MODELS = ("big", "small", "third")
NEEDED: dict[str, dict[str, Any]] = {"judge": {"model": "third"}, "command": {"argv": ["true"]}}
JUDGE = {"kind": "judge", "model": "third"}


def problems(use: str = "auto", arms: tuple[str, ...] = ("big", "small"), **comparators: Any) -> list[str]:
    settings = {name: SETTINGS.validate_python(each) for name, each in comparators.items()}
    return comparator_problems(settings, MODELS, [Use("routes.auto.audit.comparator", use, frozenset(arms))])


def test_a_usable_configuration_has_no_problem() -> None:
    careful = {"kind": "prose", "judge": "referee"}
    mine = {"kind": "auto", "prose": "careful", "json": "json", "code": "referee"}
    assert problems("mine", referee=JUDGE, careful=careful, mine=mine) == []
    assert all(problems(name) == [] for name in BUILT_IN)


@pytest.mark.parametrize(
    ("use", "comparators", "problem"),
    [
        ("vibes", {}, "routes.auto.audit.comparator: unknown comparator 'vibes'; known: exact, label, number"),
        ("judge", {}, "unknown comparator 'judge'"),
        ("r", {"r": {"kind": "judge", "model": "fourth"}}, "comparators.r.model: unknown model 'fourth'; known: big"),
        (
            "auto",
            {"p": {"kind": "prose", "judge": "json"}},
            "comparators.p.judge: 'json' is no comparator of kind judge",
        ),
        (
            "auto",
            {"m": {"kind": "auto", "label": "labl"}},
            "comparators.m.label: 'labl' cannot stand here; possible: exact",
        ),
        ("auto", {"m": {"kind": "auto", "prose": "m"}}, "comparators.m.prose: 'm' cannot stand here"),
        ("auto", {"m": {"kind": "auto", "prose": "auto"}}, "comparators.m.prose: 'auto' cannot stand here"),
        ("auto", {"json": {"kind": "json"}}, "comparators.json: a built-in comparator has this name"),
    ],
)
def test_a_name_that_means_nothing_is_refused_with_its_path(
    use: str, comparators: dict[str, Any], problem: str
) -> None:
    found = problems(use, **comparators)
    assert len(found) == 1 and problem in found[0]


@pytest.mark.parametrize("use", ["referee", "careful", "mine"])
def test_a_judge_that_is_an_arm_of_the_route_is_refused_however_it_is_reached(use: str) -> None:
    comparators: dict[str, Any] = {
        "referee": JUDGE,
        "careful": {"kind": "prose", "judge": "referee"},
        "mine": {"kind": "auto", "prose": "careful"},
    }
    found = problems(use, ("third", "small"), **comparators)
    assert len(found) == 1 and "whose model 'third' is an arm of this route" in found[0]
    assert problems(use, **comparators) == []


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"kind": "vibes"}, "vibes"),
        ({"kind": "command"}, "argv"),
        ({"kind": "command", "argv": []}, "argv"),
        ({"kind": "command", "argv": [""]}, "argv"),
        ({"kind": "json", "rules": {"a.b": "ignore"}}, "'a.b' is no path"),
        ({"kind": "json", "rules": {"$.a": "fuzzy"}}, "'exact', 'ignore', 'unordered' or 'text'"),
        ({"kind": "json", "rules": {"$.a": {"tolerance_abs": -1}}}, "greater than or equal to 0"),
        ({"kind": "label", "aliases": {"yes": ["ok"], "no": ["OK"]}}, "'OK' is an alias of both 'yes' and 'no'"),
        ({"kind": "code", "test": []}, "test"),
        ({"kind": "code", "file": "../answer.py"}, "file"),
        ({"kind": "judge", "model": "third", "prompt": "x"}, "prompt"),
        ({"kind": "number", "tolerance_rel": float("nan")}, "tolerance_rel"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as refused:
        SETTINGS.validate_python(settings)
    assert problem in str(refused.value)


def test_every_kind_can_be_configured_and_is_found_by_its_name() -> None:
    by = configured(**{f"my-{kind}": {"kind": kind, **NEEDED.get(kind, {})} for kind in KINDS})
    assert by.names == (*BUILT_IN, *(f"my-{kind}" for kind in KINDS))
    assert [by.get(f"my-{kind}").name for kind in KINDS] == [f"my-{kind}" for kind in KINDS]


def test_settings_are_written_as_they_are_read() -> None:
    for kind in KINDS:
        settings = SETTINGS.validate_python({"kind": kind, **NEEDED.get(kind, {})})
        assert SETTINGS.validate_python(settings.model_dump(mode="json")) == settings


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownComparator, match=r"unknown comparator 'x'; known: exact, .*, auto, referee"):
        configured(referee=JUDGE).get("x")


def test_no_settings_are_the_built_in_comparators() -> None:
    assert Comparators().names == BUILT_IN
