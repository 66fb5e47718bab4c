"""Every PromQL expression of this repository: panels, recording rules, alerts."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DOCUMENTATION = ROOT / "docs" / "metrics.md"
DEPLOY = ROOT / "deploy"
GRAFANA = DEPLOY / "grafana"
PROMETHEUS = DEPLOY / "prometheus"
RULES, ALERTS = PROMETHEUS / "rules.yml", PROMETHEUS / "alerts.yml"

# A comparison stands between blanks; a matcher in braces does not.
COMPARISON = re.compile(r" (==|!=|<=|>=|<|>) (?!bool)")
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*distill_router_[a-z0-9_:]*|distill_router_[a-z0-9_]+")
WINDOW = re.compile(r"\[(\d+[smhd])\]")
FAST = {"5m": "4s", "10m": "4s", "15m": "8s", "30m": "6s", "1h": "8s", "6h": "12s", "1d": "30s"}


@dataclass(frozen=True)
class Expression:
    """`where` names the panel, rule or alert."""

    where: str
    text: str

    @property
    def names(self) -> set[str]:
        """The metrics and recorded series that it reads."""
        return set(NAME.findall(self.text))


def rules_of(path: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def recorded() -> list[Expression]:
    return [Expression(rule["record"], rule["expr"]) for rule in rules_of(RULES)]


def alerts() -> list[Expression]:
    return [Expression(rule["alert"], rule["expr"]) for rule in rules_of(ALERTS)]


def boards() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(GRAFANA.glob("*.json"))}


def panels() -> list[Expression]:
    """Of every target of every panel, with Grafana's variables still in it."""
    return [
        Expression(f"{name}: {panel['title']} {target['refId']}", target["expr"])
        for name, board in boards().items()
        for panel in board["panels"]
        for target in panel.get("targets", ())
    ]


def without_comparison(text: str) -> str:
    """An alert's expression that answers 0 or 1 instead of nothing or a value."""
    return COMPARISON.sub(r" \1 bool ", text)


def faster(text: str) -> str:
    """With windows of seconds, for a test that cannot wait for hours. Raises KeyError for one not in FAST."""
    return WINDOW.sub(lambda found: f"[{FAST[found[1]]}]", text)


def filled_in(text: str) -> str:
    """With Grafana's variables as `All` and a short range."""
    values = {"$__rate_interval": FAST["5m"], "$__range_s": "20", "$__range": "20s", "$route": ".*", "$tenant": ".*"}
    text = faster(text)
    for name, value in values.items():
        text = text.replace(name, value)
    return text
