"""Renders the measured report of the demo models as Markdown; takes every figure from the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

_INTRODUCTION = """\
# The demo models, measured

Written by `python -m serving.demo.train`; do not edit. Greedy answers, exact match, weights rounded to bfloat16,
arithmetic in float32. One prompt in ten is held out of training by a hash of its text, and only held-out prompts are
counted below, save for the row of fresh random words, which draws from all words of one to eight letters. Two spaces
are too small to hold any out and are memorised: all 100 one-digit additions (`add1`), and one-letter words.
"""

_CONFIDENCE_KEYS = ("n_right", "n_wrong", "auc", "median_right", "median_wrong")


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def _cell(score: dict[str, Any]) -> str:
    return f"{score['accuracy']:.4f} (n={score['n']})"


def _by_task(models: dict[str, dict[str, Any]]) -> str:
    first = next(iter(models.values()))
    rows = [[task, *(_cell(model["by_task"][task]) for model in models.values())] for task in first["by_task"]]
    rows.append(["upper, fresh random words", *(_cell(model["upper_on_fresh_words"]) for model in models.values())])
    rows.append(["the demo's workload", *(_cell(model["workload"]) for model in models.values())])
    return _table(["task", *models], rows)


def _by_length(models: dict[str, dict[str, Any]]) -> str:
    first = next(iter(models.values()))["by_length"]
    rows = [
        [model_name, task, *(f"{score['accuracy']:.3f}" for score in model["by_length"][task].values())]
        for task in first
        for model_name, model in models.items()
    ]
    lengths = list(next(iter(first.values())))
    counts = [["", f"n ({task})", *(score["n"] for score in first[task].values())] for task in first]
    return _table(["model", "task", *lengths], [*rows, *counts])


def _confidence(models: dict[str, dict[str, Any]]) -> str:
    rows = [
        [name, where, *("–" if score[key] is None else score[key] for key in _CONFIDENCE_KEYS)]
        for name, model in models.items()
        for where, score in (
            ("the demo's workload", model["confidence"]),
            ("its reversals", model["confidence_within_reverse"]),
        )
    ]
    return _table(["model", "on", "right", "wrong", "AUC", "median when right", "median when wrong"], rows)


def render(report: dict[str, Any]) -> str:
    """The whole page."""
    models = report["models"]
    runs = [(name, model["parameters"], report["training"][name]) for name, model in models.items()]
    trained = [
        [name, parameters, run["steps"], run["seed"], f"{run['seconds']} s", f"`{run['command']}`"]
        for name, parameters, run in runs
    ]
    return "\n".join(
        [
            _INTRODUCTION,
            f"Measured on {report['date']}, evaluation seed {report['evaluation_seed']}.\n",
            "## Training\n",
            _table(["model", "parameters", "steps", "seed", "time", "command"], trained),
            "## Accuracy by task\n",
            _by_task(models),
            "## Accuracy by word length\n",
            _by_length(models),
            "## Does the log-probability tell right from wrong?\n",
            "Mean log-probability of the answer's tokens, end mark included; AUC of right against wrong answers.\n",
            _confidence(models),
        ]
    )
