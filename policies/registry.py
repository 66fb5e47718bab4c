"""Every kind of policy, one line each; then those of installed plug-ins."""

from __future__ import annotations

from policies import plugins
from policies.base import PolicyConfig
from policies.cascade import CascadeConfig
from policies.difficulty.policy import DifficultyConfig
from policies.fixed import FixedConfig
from policies.rules import RulesConfig
from policies.split import SplitConfig

CONFIGS: tuple[type[PolicyConfig], ...] = (
    FixedConfig,
    SplitConfig,
    RulesConfig,
    CascadeConfig,
    DifficultyConfig,
    *plugins.found(),
)
