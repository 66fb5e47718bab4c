"""What a policy's block asks of the controllers."""

from __future__ import annotations

from policies.base import Controls
from policies.control.settings import ControlledConfig


def test_the_pace_and_the_floor_of_any_controlled_block_are_run() -> None:
    config = ControlledConfig.model_validate({"kind": "mine", "pace": "daily", "floor": {"alpha": 0.02}})
    assert config.floor is not None
    assert config.controls() == Controls(None, "daily", config.floor)
