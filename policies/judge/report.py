"""A judgement for people, as a table of figures, and for programs, as JSON values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policies.judge.evaluate import Plan
from policies.judge.judgement import GRID, Figure, Judgement

_DASH = "–"
_GAP = "   "


def _number(value: float) -> str:
    return f"{value:.3f}"


def _percent(value: float) -> str:
    return f"{value:.1%}"


@dataclass(frozen=True, slots=True)
class _Line:
    """`student`, `teacher`: what stands there for either model alone, of `Judgement.alone` or as it is."""

    name: str
    title: str
    shown: Callable[[float], str]
    student: str = _DASH
    teacher: str = _DASH


_LINES = (
    _Line("apgr", "APGR", _number),
    _Line("apgr_within", "APGR inside datasets", _number),
    _Line("cpt50", "CPT(50)", _percent),
    _Line("cpt80", "CPT(80)", _percent),
    _Line("auc", "mean score over shares (AUC)", _number, "student", "teacher"),
    _Line("roc_auc", "ROC AUC of harm", _number),
    _Line("share95", "teacher's share for 95% of its score", _percent),
    _Line("share99", "teacher's share for 99% of its score", _percent),
    _Line("saved95", "saved at 95% of its score", _percent, "student_saves", "0.0%"),
    _Line("saved99", "saved at 99% of its score", _percent, "student_saves", "0.0%"),
)


def as_text(judgement: Judgement, plan: Plan) -> str:
    """A table: a line a figure, a column a policy; 95% intervals in brackets."""
    names = list(judgement.policies)
    lines = [line for line in _LINES if _is_told(judgement, line)]
    cells = [["", *names, "student alone", "teacher alone"]]
    for line in lines:
        figures = [judgement.policies[name].figures[line.name] for name in names]
        alone = [_alone(judgement, line, of) for of in (line.student, line.teacher)]
        cells.append([line.title, *(_cell(figure, line.shown) for figure in figures), *alone])
    return "\n".join([_head(judgement, plan), *_no_gap(lines), "", *_table(cells), *_gains(judgement)])


def values(judgement: Judgement, plan: Plan) -> dict[str, Any]:
    """JSON values; figures are {value, low, high, spread}, of which some are null."""
    return {
        "rows": judgement.rows,
        "datasets": judgement.datasets,
        "folds": plan.folds,
        "seeds": plan.seeds,
        "train_limit": plan.train_limit,
        **_of(judgement.alone),
        "policies": {
            name: {
                **_of(judged.figures),
                "curve": {
                    "shares": GRID.tolist(),
                    "scores": judged.scores.tolist(),
                    "low": judged.low.tolist(),
                    "high": judged.high.tolist(),
                },
            }
            for name, judged in judgement.policies.items()
        },
        "gains": _of(judgement.gains),
    }


def _is_told(judgement: Judgement, line: _Line) -> bool:
    if line.name == "apgr_within" and judgement.datasets < 2:
        return False
    return any(judged.figures[line.name].value is not None for judged in judgement.policies.values())


def _head(judgement: Judgement, plan: Plan) -> str:
    many = f" of {judgement.datasets} datasets" if judgement.datasets > 1 else ""
    limit = f", at most {plan.train_limit} rows to learn from" if plan.train_limit is not None else ""
    teacher, student = (_cell(judgement.alone[name], _number) for name in ("teacher", "student"))
    return (
        f"{judgement.rows} rows{many}; {plan.folds} folds, mean of {plan.seeds} seed{'s'[: plan.seeds - 1]}{limit}.\n"
        f"Mean score: teacher {teacher}, student {student}."
    )


def _no_gap(lines: Sequence[_Line]) -> list[str]:
    if any(line.name == "apgr" for line in lines):
        return []
    return ["The teacher is not better than the student here: there is no gap that routing could recover (APGR, CPT)."]


def _cell(figure: Figure, shown: Callable[[float], str]) -> str:
    if figure.value is None:
        return _DASH
    if figure.interval is None or figure.interval.high - figure.interval.low < 1e-9:
        return shown(figure.value)
    return f"{shown(figure.value)} [{shown(figure.interval.low)}, {shown(figure.interval.high)}]"


def _alone(judgement: Judgement, line: _Line, of: str) -> str:
    figure = judgement.alone.get(of)
    return of if figure is None else _DASH if figure.value is None else line.shown(figure.value)


def _table(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _gains(judgement: Judgement) -> list[str]:
    first = next(iter(judgement.policies))
    return [
        f"\n{first} has {figure.value:+.3f} APGR{_between(figure)} against {other}, paired."
        for other, figure in judgement.gains.items()
        if figure.value is not None
    ]


def _between(figure: Figure) -> str:
    return f" [{figure.interval.low:+.3f}, {figure.interval.high:+.3f}]" if figure.interval is not None else ""


def _of(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {
        name: {
            "value": figure.value,
            "low": figure.interval.low if figure.interval is not None else None,
            "high": figure.interval.high if figure.interval is not None else None,
            "spread": figure.spread,
        }
        for name, figure in figures.items()
    }
