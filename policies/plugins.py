"""Policies of packages outside the tree: the entry-point group `distill_router.policies` names their configurations."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

from policies.base import PolicyConfig

GROUP = "distill_router.policies"


class PluginError(Exception):
    """A plug-in that cannot be used; says which, and what to do."""


def found() -> tuple[type[PolicyConfig], ...]:
    """The configuration classes of all installed plug-ins. Raises PluginError."""
    return loaded(entry_points(group=GROUP))


def loaded(points: Iterable[EntryPoint]) -> tuple[type[PolicyConfig], ...]:
    """In the order of their names. Raises PluginError for what is no policy's configuration."""
    return tuple(_load(point) for point in sorted(points, key=lambda point: point.name))


def _load(point: EntryPoint) -> type[PolicyConfig]:
    name = f"the policy plug-in '{point.name}' ({point.value})"
    try:
        config = point.load()
    except Exception as error:  # whatever a foreign module raises on import
        raise PluginError(f"{name} cannot be loaded: {error!r}; uninstall its package or mend it") from error
    if not (isinstance(config, type) and issubclass(config, PolicyConfig)):
        raise PluginError(f"{name} is no subclass of policies.base.PolicyConfig")
    return config
