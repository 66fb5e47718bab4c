"""A reliability diagram as text and as SVG: what a policy expected of requests, and what was then observed.

A bin is what a training report holds: mean `predicted` and `observed`, `count` of examples and their `weight`. The
interval of what was observed is Clopper and Pearson's for `count` examples of equal weight: too narrow where weights
differ much.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from policies.bounds import Interval, clopper_pearson

DELTA = 0.05
BAR = 32
SIDE_PX = 360
MARGIN_PX = 52
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:currentColor}"
    ".line{stroke:currentColor;stroke-opacity:.25;fill:none}"
    ".perfect{stroke:currentColor;stroke-opacity:.5;stroke-dasharray:4 4}"
    ".interval{stroke:#c2571a;stroke-width:1.5}.bin{fill:#c2571a}"
)


@dataclass(frozen=True, slots=True)
class Bin:
    """Shares in [0, 1]; `interval` of the observed share."""

    predicted: float
    observed: float
    count: int
    interval: Interval


def bins_of(table: Sequence[dict[str, Any]]) -> list[Bin]:
    """The bins of a report, by rising expectation."""
    found = []
    for row in table:
        count = int(row["count"])
        observed = float(row["observed"])
        harmful = min(count, max(0, round(observed * count)))
        found.append(Bin(float(row["predicted"]), observed, count, clopper_pearson(harmful, count, DELTA)))
    return sorted(found, key=lambda each: each.predicted)


def as_text(bins: Sequence[Bin]) -> list[str]:
    """A line for each bin; the bar is what was observed, `|` what was expected, both to the scale of the largest."""
    scale = _top(bins)
    lines = ["expected  observed  95% interval      examples"]
    for each in bins:
        bar = list(("█" * round(each.observed / scale * BAR)).ljust(BAR + 1))
        bar[min(BAR, round(each.predicted / scale * BAR))] = "|"
        interval = f"[{each.interval.low:.1%}, {each.interval.high:.1%}]"
        line = f"{each.predicted:>8.1%}  {each.observed:>8.1%}  {interval:<16} {each.count:>9}  {''.join(bar)}"
        lines.append(line.rstrip())
    return lines


def as_svg(bins: Sequence[Bin], title: str) -> str:
    """A figure that needs nothing else: expected across, observed up, the diagonal is a perfect policy."""
    scale = _top(bins)
    size = SIDE_PX + 2 * MARGIN_PX
    parts = [*_axes(scale), *(mark for each in bins for mark in _marks(each, scale, max(b.count for b in bins)))]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" width="{size}" height="{size}" '
        f'role="img"><title>{escape(title)}</title><style>{STYLE}</style>'
        f'<text x="{MARGIN_PX}" y="{MARGIN_PX - 24}" font-weight="600">{escape(title)}</text>{"".join(parts)}</svg>'
    )


def _top(bins: Sequence[Bin]) -> float:
    """The end of both axes: the least of some round shares that shows every bin with its interval."""
    largest = max((max(each.predicted, each.observed, each.interval.high) for each in bins), default=1.0)
    return next((top for top in (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0) if largest <= top), 1.0)


def _axes(scale: float) -> Iterator[str]:
    low, high = _x(0, scale), _x(scale, scale)
    yield f'<path class="line" d="M{low} {_y(scale, scale)}V{_y(0, scale)}H{high}"/>'
    yield f'<path class="perfect" d="M{low} {_y(0, scale)}L{high} {_y(scale, scale)}"/>'
    for step in range(6):
        share = scale * step / 5
        yield f'<text x="{_x(share, scale)}" y="{_y(0, scale) + 18}" text-anchor="middle">{100 * share:.3g}%</text>'
        yield f'<text x="{low - 8}" y="{_y(share, scale) + 4}" text-anchor="end">{100 * share:.3g}%</text>'
    middle = MARGIN_PX + SIDE_PX / 2
    yield f'<text x="{middle}" y="{_y(0, scale) + 38}" text-anchor="middle">expected harm</text>'
    yield f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">observed harm</text>'


def _marks(each: Bin, scale: float, largest: int) -> Iterator[str]:
    x = _x(each.predicted, scale)
    high, low = _y(each.interval.high, scale), _y(each.interval.low, scale)
    yield f'<path class="interval" d="M{x} {high}V{low}"/>'
    told = f"expected {each.predicted:.2%}, observed {each.observed:.2%} of {each.count}"
    radius = 3 + 3 * (each.count / largest) ** 0.5
    place = f'cx="{x}" cy="{_y(each.observed, scale)}" r="{radius:.1f}"'
    yield f'<circle class="bin" {place}><title>{told}</title></circle>'


def _x(share: float, scale: float) -> float:
    return round(MARGIN_PX + SIDE_PX * min(share, scale) / scale, 1)


def _y(share: float, scale: float) -> float:
    return round(MARGIN_PX + SIDE_PX * (1 - min(share, scale) / scale), 1)
