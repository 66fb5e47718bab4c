"""The names of the controllers' Redis keys. One hash tag keeps them on one shard: a script may touch them all."""

from __future__ import annotations

PREFIX = "distill-router:{control}:"

EVENTS = PREFIX + "events"  # stream: what workers counted
LEADER = PREFIX + "leader"  # who runs the controllers; ends by itself
MEMORY = PREFIX + "memory"  # hash: `state` of all controllers, and `cursor`, the last event that is in it


def state_key(route: str) -> str:
    """What was published of a route, as JSON."""
    return f"{PREFIX}state:{route}"
