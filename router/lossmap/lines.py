"""The lines of a loss map in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from policies.lossmap import Figures, Lost
from router.lossmap.lossmap import LossMap
from router.lossmap.title import title
from router.lossmap.traffic import Misfit


@dataclass(frozen=True, slots=True)
class Line:
    """A named slice (`figures`), or requests that never reach the student (`lost`, `misfit`).

    `part`: of the slice above: those of a length, or that go on in one way; the title is only what it adds.
    """

    name: str
    title: str
    lost_usd_per_day: float
    part: bool = False
    figures: Figures | None = None
    lost: Lost | None = None
    misfit: Misfit | None = None

    @property
    def pale(self) -> bool:
        """Its requests are those of another line, too."""
        return self.part or self.name.startswith("field:")


def lines(found: LossMap) -> list[Line]:
    """Dearest losses first, each part right after its whole, where it loses more or less than the whole."""
    wholes = [each for each in found.named if not any(_continues(each, other) for other in found.named)]
    tops = [Line(each.name, title(each.name), each.lost_usd_per_day, figures=each) for each in wholes]
    tops += [
        Line(lost.name, title(lost.name), lost.teacher_usd_per_day, lost=lost, misfit=misfit)
        for lost, misfit in zip(found.misfits, found.traffic_of_misfits, strict=True)
    ]
    ordered = sorted(tops, key=lambda line: (-line.lost_usd_per_day, line.pale, line.title))
    return [line for top in ordered for line in (top, *_parts(top, found.named))]


def _parts(top: Line, named: Sequence[Figures]) -> list[Line]:
    whole = top.figures
    if whole is None:
        return []
    return [
        Line(each.name, _added(each.name), each.lost_usd_per_day, part=True, figures=each)
        for each in named
        if _continues(each, whole) and not each.loss.low <= whole.loss.value <= each.loss.high
    ]


def _continues(figures: Figures, whole: Figures) -> bool:
    """`opening:fix` goes on as `opening:fix the` and as `opening:fix & under 80 characters`."""
    return figures.name.startswith(f"{whole.name} ") and whole.name.startswith("opening:")


def _added(name: str) -> str:
    return title(name.partition(" & ")[2] or name)
