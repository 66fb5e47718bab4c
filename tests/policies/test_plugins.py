"""Policies of installed packages: found by their entry point, and a broken one is named."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from policies.fixed import FixedConfig
from policies.learn.trained import Slots
from policies.plugins import GROUP, PluginError, loaded
from tests.policies.test_policies import LIVE
from tests.support.policy_parts import Asked


def point(value: str, name: str = "mine") -> EntryPoint:
    return EntryPoint(name, value, GROUP)


def test_a_plug_in_is_the_class_that_its_entry_point_names() -> None:
    assert loaded([point("policies.fixed:FixedConfig")]) == (FixedConfig,)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("nowhere.at.all:Config", "'mine' .* cannot be loaded: ModuleNotFoundError"),
        ("policies.fixed:Nothing", "cannot be loaded: AttributeError"),
        ("policies.fixed:Fixed", "no subclass of policies.base.PolicyConfig"),
        ("json:loads", "no subclass"),
    ],
)
def test_a_plug_in_that_cannot_be_used_is_named(value: str, problem: str) -> None:
    with pytest.raises(PluginError, match=problem):
        loaded([point(value)])


async def test_the_policy_of_the_documentation_is_a_plug_in_that_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code
    (tmp_path / "curfew_of_the_docs.py").write_text(code[1])
    monkeypatch.syspath_prepend(tmp_path)
    config = loaded([point("curfew_of_the_docs:CurfewConfig", "curfew")])[0]
    policy = config.model_validate({"kind": "curfew", "max_prompt_bytes": 5}).build("auto", Slots())
    decision = await policy.decide(Asked(prompt_bytes=6), LIVE)
    assert decision.reason in ("curfew:night", "curfew:day") and policy.kind == "curfew"
    assert (await policy.decide(Asked(prompt_bytes=5), LIVE)).arm == "student"
