"""Writes the dashboards as JSON beside this file: `python -m deploy.grafana.build`."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana import cost, health, policies, quality, routing

FOLDER = Path(__file__).parent
DASHBOARDS = {
    "cost.json": cost.dashboard,
    "quality.json": quality.dashboard,
    "routing.json": routing.dashboard,
    "policies.json": policies.dashboard,
    "health.json": health.dashboard,
}


def render() -> dict[str, str]:
    """The text of every file by its name."""
    return {name: _text(build()) for name, build in DASHBOARDS.items()}


def _text(dashboard: object) -> str:
    return json.dumps(dashboard, cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, text in render().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
