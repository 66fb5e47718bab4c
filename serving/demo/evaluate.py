"""Measures the demo models on prompts that no training saw, and writes report.json and REPORT.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from statistics import median
from string import ascii_lowercase
from typing import Any

from serving.demo.checkpoint import parameters_of
from serving.demo.corpus import Renderer
from serving.demo.generate import Answer, greedy_answers
from serving.demo.report import render
from serving.demo.tasks import TASKS, WORD_SIZES, Example, Split, Task, workload

MAX_ANSWER_TOKENS = 110
QUICK_PROMPTS, QUICK_SEED = 100, 7
TASK_PROMPTS, LENGTH_PROMPTS, FRESH_WORDS, WORKLOAD_PROMPTS = 1000, 300, 20_000, 2000
EVALUATION_SEED = 20_000
TASKS_BY_LENGTH = ("upper", "reverse", "sort")


def answer_examples(model: Any, renderer: Renderer, examples: Sequence[Example]) -> list[Answer]:
    prompts = [renderer.example_ids(example) for example in examples]
    return greedy_answers(model, renderer.tokenizer, prompts, MAX_ANSWER_TOKENS)


def quick_accuracy(model: Any, renderer: Renderer) -> str:
    """Accuracy by task on a few held-out prompts, as one line; the model goes back to training."""
    rng, shares = Random(QUICK_SEED), []
    model.eval()
    for task in TASKS.values():
        score = _accuracy(model, renderer, [task.example(rng, Split.HELD_OUT) for _ in range(QUICK_PROMPTS)])
        shares.append(f"{task.name} {score['accuracy']:.2f}")
    model.train()
    return ", ".join(shares)


def distinct_examples(task: Task, count: int, rng: Random, size: int = 0) -> list[Example]:
    """Up to `count` held-out examples with different prompts; fewer where the space has not as many."""
    found: dict[str, Example] = {}
    for _ in range(20 * count):
        example = task.example(rng, Split.HELD_OUT, size)
        found.setdefault(example.prompt, example)
        if len(found) == count:
            break
    return list(found.values())


def fresh_upper(count: int, rng: Random) -> list[Example]:
    """`upper W` for words of one to eight letters, each letter and length as likely as any other."""
    words = ("".join(rng.choices(ascii_lowercase, k=rng.choice(WORD_SIZES))) for _ in range(count))
    return [Example("upper", f"upper {word}", word.upper(), hard=False, size=len(word)) for word in words]


def _accuracy(model: Any, renderer: Renderer, examples: Sequence[Example]) -> dict[str, Any]:
    answers = answer_examples(model, renderer, examples)
    return _share(answer.text == example.answer for answer, example in zip(answers, examples, strict=True))


def _share(outcomes: Iterable[bool]) -> dict[str, Any]:
    listed = list(outcomes)
    return {"n": len(listed), "right": sum(listed), "accuracy": round(sum(listed) / len(listed), 5)}


def auc(right: Sequence[float], wrong: Sequence[float]) -> float | None:
    """The chance that a right answer scores above a wrong one, ties half; None where either kind is missing."""
    if not right or not wrong:
        return None
    wins = sum((a > b) + 0.5 * (a == b) for a in right for b in wrong)
    return wins / (len(right) * len(wrong))


def _confidence(answers: Sequence[Answer], examples: Sequence[Example]) -> dict[str, Any]:
    """How far the mean token log-probability tells right answers from wrong ones."""
    right = [a.mean_logprob for a, e in zip(answers, examples, strict=True) if a.text == e.answer]
    wrong = [a.mean_logprob for a, e in zip(answers, examples, strict=True) if a.text != e.answer]
    area = auc(right, wrong)
    return {
        "n_right": len(right),
        "n_wrong": len(wrong),
        "auc": None if area is None else round(area, 4),
        "median_right": round(median(right), 4) if right else None,
        "median_wrong": round(median(wrong), 4) if wrong else None,
    }


def measure(model: Any, renderer: Renderer) -> dict[str, Any]:
    """Everything that the report says of one model; the same prompts for each."""
    rng = Random(EVALUATION_SEED)
    by_task = {
        task.name: _accuracy(model, renderer, distinct_examples(task, TASK_PROMPTS, rng)) for task in TASKS.values()
    }
    by_length = {
        name: {
            str(size): _accuracy(model, renderer, distinct_examples(TASKS[name], LENGTH_PROMPTS, rng, size))
            for size in WORD_SIZES
        }
        for name in TASKS_BY_LENGTH
    }
    traffic = workload(WORKLOAD_PROMPTS, EVALUATION_SEED)
    answers = answer_examples(model, renderer, traffic)
    reversals = [index for index, example in enumerate(traffic) if example.task == "reverse"]
    return {
        "parameters": parameters_of(model),
        "by_task": by_task,
        "by_length": by_length,
        "upper_on_fresh_words": _accuracy(model, renderer, fresh_upper(FRESH_WORDS, rng)),
        "workload": _share(a.text == e.answer for a, e in zip(answers, traffic, strict=True)),
        "confidence": _confidence(answers, traffic),
        "confidence_within_reverse": _confidence([answers[i] for i in reversals], [traffic[i] for i in reversals]),
    }


def record_training(out: Path, name: str, run: dict[str, Any]) -> None:
    """Note in report.json how a model was trained; the other model's note stays."""
    report = _read(out)
    _write(out, {**report, "training": {**report["training"], name: run}})


def write_report(out: Path, models: dict[str, Any], renderer: Renderer) -> None:
    """Measure the models and write report.json and REPORT.md; the notes on their training stay."""
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "evaluation_seed": EVALUATION_SEED,
        "training": _read(out)["training"],
        "models": {name: measure(model, renderer) for name, model in models.items()},
    }
    _write(out, report)
    (out / "REPORT.md").write_text(render(report), encoding="utf-8")


def _read(out: Path) -> dict[str, Any]:
    path = out / "report.json"
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"training": {}}
    return report


def _write(out: Path, report: dict[str, Any]) -> None:
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
