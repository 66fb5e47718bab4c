"""Cost-quality curves as SVG: mean score over the teacher's share, for a browser, a README or a report.

One file without scripts, fonts or links, on a light or a dark ground as the reader's system is set. The colours are
those of Okabe and Ito (2008), which people who confuse colours tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from policies.bounds import Floats
from policies.judge.judgement import GRID, ORACLE, RANDOM, Figure, Judged, Judgement

WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 64, 116, 72, 52
LEGEND_PX = 280
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
TICKS = 5
LINE_PX = 21
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #3c4149; }
.middle { text-anchor: middle; } .end { text-anchor: end; }
.title { font-size: 15px; font-weight: 600; fill: #16191d; }
.axis { stroke: #9aa1ab; } .grid { stroke: #e6e8eb; }
.beside { fill: none; stroke: #7a828e; stroke-width: 1.5; }
.random { stroke-dasharray: 2 4; } .oracle { stroke-dasharray: 7 4; }
.curve { fill: none; stroke-width: 2.25; stroke-linejoin: round; } .band { opacity: 0.14; }
.model { fill: #fff; stroke: #3c4149; stroke-width: 1.75; }
.paper { fill: #fff; }
@media (prefers-color-scheme: dark) {
  text { fill: #c3c8d0; } .title { fill: #f0f2f5; } .paper { fill: #14171b; } .model { fill: #14171b; stroke: #c3c8d0; }
  .axis { stroke: #5b626d; } .grid { stroke: #272b31; }
}
"""


@dataclass(frozen=True, slots=True)
class _Scale:
    """Shares from 0 to 1 and scores from `low` to `high`, in pixels."""

    low: float
    high: float

    def x(self, share: float) -> float:
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, score: float) -> float:
        return TOP + (self.high - score) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)

    def points(self, shares: Floats, scores: Floats) -> str:
        return " ".join(f"{self.x(a):.1f},{self.y(b):.1f}" for a, b in zip(shares, scores, strict=True))


def plot(judgement: Judgement, title: str) -> str:
    """The SVG document."""
    ticks = _ticks(judgement)
    scale = _Scale(ticks[0], ticks[-1])
    ours = [name for name in judgement.policies if name not in (RANDOM, ORACLE)]
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(ours)}
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}"><style>{STYLE}</style>',
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>',
        _text(LEFT, 30, title, "title"),
        *_axes(scale, ticks),
        *(_band(scale, judgement.policies[name], colour) for name, colour in colours.items()),
        *(_line(scale, judgement.policies[name], f'class="beside {name}"') for name in (RANDOM, ORACLE)),
        *(_line(scale, judgement.policies[name], _stroke(colour)) for name, colour in colours.items()),
        *_models(scale, judgement),
        *_legend(judgement, colours),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _ticks(judgement: Judgement) -> list[float]:
    """Round numbers around all that is drawn."""
    drawn = np.concatenate(
        [[judged.low, judged.high, judged.scores] for judged in judgement.policies.values()], axis=None
    )
    low, high = float(drawn.min()), float(drawn.max())
    rough = max(high - low, 1e-3) / TICKS
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * place for place in range(first, max(last, first + 1) + 1)]


def _axes(scale: _Scale, ticks: Sequence[float]) -> Iterator[str]:
    left, right, bottom = scale.x(0), scale.x(1), scale.y(ticks[0])
    places = max(0, math.ceil(-math.log10(ticks[1] - ticks[0]) - 1e-9))
    for tick in ticks:
        y = scale.y(tick)
        yield f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _text(left - 8, y + 4, f"{tick:.{places}f}", "end")
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = scale.x(share)
        yield f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom:.1f}" y2="{bottom + 5:.1f}"/>'
        yield _text(x, bottom + 20, f"{share:.0%}", "middle")
    yield f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom:.1f}" y2="{bottom:.1f}"/>'
    yield _text((left + right) / 2, HEIGHT - 10, "requests that the teacher answers", "middle")
    yield _text(left, TOP - 14, "mean score")


def _band(scale: _Scale, judged: Judged, colour: str) -> str:
    there = scale.points(GRID, judged.high)
    back = scale.points(GRID[::-1], judged.low[::-1])
    return f'<polygon class="band" fill="{colour}" points="{there} {back}"/>'


def _line(scale: _Scale, judged: Judged, look: str) -> str:
    return f'<polyline {look} points="{scale.points(GRID, judged.scores)}"/>'


def _stroke(colour: str) -> str:
    return f'class="curve" stroke="{colour}"'


def _models(scale: _Scale, judgement: Judgement) -> Iterator[str]:
    for name, share, offset in (("student", 0, 16), ("teacher", 1, 4)):
        score = judgement.alone[name].value or 0.0
        yield f'<circle class="model" cx="{scale.x(share):.1f}" cy="{scale.y(score):.1f}" r="4.5"/>'
        yield _text(scale.x(share) + 10, scale.y(score) + offset, f"{name} {score:.3f}")


def _legend(judgement: Judgement, colours: Mapping[str, str]) -> Iterator[str]:
    """A line a policy, at the lower right, where a policy of any use leaves room."""
    names = [*colours, ORACLE, RANDOM]
    x, last = WIDTH - RIGHT - LEGEND_PX, HEIGHT - BOTTOM - 16
    for place, name in enumerate(names):
        y = last - LINE_PX * (len(names) - 1 - place)
        look = _stroke(colours[name]) if name in colours else f'class="beside {name}"'
        yield f'<line {look} x1="{x}" x2="{x + 24}" y1="{y - 4}" y2="{y - 4}"/>'
        yield _text(x + 32, y, f"{name}{_apgr(judgement.policies[name].figures['apgr'])}")


def _apgr(figure: Figure) -> str:
    if figure.value is None:
        return ""
    told = f", APGR {figure.value:.3f}"
    if figure.interval is None or figure.interval.high - figure.interval.low < 1e-9:
        return told
    return f"{told} [{figure.interval.low:.3f}, {figure.interval.high:.3f}]"


def _text(x: float, y: float, words: str, look: str = "start") -> str:
    return f'<text class="{look}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'
