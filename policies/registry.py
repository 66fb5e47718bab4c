"""Every kind of policy, one line each."""

from __future__ import annotations

from policies.base import PolicyConfig
from policies.cascade import CascadeConfig
from policies.fixed import FixedConfig
from policies.rules import RulesConfig
from policies.split import SplitConfig

CONFIGS: tuple[type[PolicyConfig], ...] = (
    FixedConfig,
    SplitConfig,
    RulesConfig,
    CascadeConfig,
)
