"""The loss map for a terminal, at most a hundred columns wide, and as JSON."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from policies.lossmap import Estimate, Figures
from router.lossmap.examples import Example, readable
from router.lossmap.lines import Line, lines
from router.lossmap.lossmap import LossMap
from router.lossmap.title import title
from router.lossmap.traffic import FEWEST

WIDTH = 100
SHORT_WINDOW_S = 86_400
MOST_OTHERS = 15
EXAMPLES = 2
EXAMPLE_CHARACTERS = 160


def as_json(found: LossMap) -> str:
    """Everything, with the titles beside the names."""
    data = asdict(found) | {"enough": found.enough, "requests_per_day": found.traffic.requests_per_day}
    if not found.traffic.known:
        data |= {"requests_per_day": None, "at_stake_usd_per_day": None}
        data["traffic"]["fitting_per_day"] = None
    for line in (*data["named"], *data["others"], *data["misfits"], *data["steps"]):
        line["title"] = title(line["name"])
    return json.dumps(data, indent=2)


def as_text(found: LossMap) -> str:
    """Figures, the slices that are named, the others in brief, examples."""
    out = io.StringIO()
    console = Console(file=out, width=WIDTH, color_system=None, highlight=False)
    for line in head(found):
        console.print(line, markup=False)
    if found.enough:
        _slices(console, found)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())


def head(found: LossMap) -> Iterator[str]:
    """What the map stands on, and what must be known to read it."""
    yield f"Route {readable(found.route)}: what {readable(found.student)} loses of {readable(found.teacher)}"
    a_day = f"{found.traffic.fitting_per_day:,.0f}" if found.traffic.known else "nobody knows how many"
    yield (
        f"{found.pairs} pairs, worth {found.effective_pairs:.0f} of equal weight, stand for "
        f"{a_day} requests a day that fit the student."
    )
    if not found.enough:
        yield _too_few(found)
    else:
        yield (
            f"Potential loss {share(found.loss)}: the student's answer is or would be harmful, whoever served. "
            f"Served loss {share(found.served_loss)}: it was served."
        )
        never = sum(lost.at_stake_usd_per_day for lost in found.misfits)
        yield (
            f"The teacher is paid {dollars(found.at_stake_usd_per_day)} a day beyond what the student costs"
            + (f"; {money(never)} more for requests that do not fit the student." if never else ".")
        )
    yield from notes(found)


def _too_few(found: LossMap) -> str:
    if found.effective_pairs >= found.min_pairs:
        return f"Not enough evidence: a map needs {FEWEST} requests or pairs, to say how many there are a day."
    return (
        f"Not enough evidence: a map needs {found.min_pairs} pairs of equal weight; "
        f"about {found.pairs_needed} more pairs are needed."
    )


def notes(found: LossMap) -> Iterator[str]:
    if found.traffic.known and found.traffic.window_s < SHORT_WINDOW_S:
        yield f"Careful: all figures a day are drawn out from {_duration(found.traffic.window_s)} of traffic."
    if found.traffic.by_pairs:
        few = f"Only {found.traffic.rows} decision rows" if found.traffic.rows else "No decision rows"
        estimate = "requests a day are estimated from the pairs' weights"
        yield f"{few}: {estimate if found.traffic.known else f'no figures a day are given below {FEWEST}'}."
    if found.excused:
        yield f"{found.excused} harmful differences count as no loss: equivalent, or the teacher's mistake (triage)."
    if found.ambiguous:
        yield f"{found.ambiguous} ambiguous pairs count as losses until somebody labels them."
    if found.traffic.unseen:
        yield f"{found.traffic.unseen} requests that may not be kept (no-store) are in no figure."
    for reason, count in found.left_out.items():
        yield f"{count} pairs are left out: {reason}."


def worth(found: LossMap) -> str:
    """The sentence that the map is made for; '' where no slice is named."""
    if not found.steps:
        return ""
    last = found.steps[-1]
    what = "this slice" if len(found.steps) == 1 else f"these {len(found.steps)} slices"
    return (
        f"Fixing {what} moves {dollars(last.total_usd_per_day)} a day to the student; "
        f"{last.loss_share:.0%} of the loss lies in them."
    )


def nothing_named(found: LossMap) -> str:
    """Why the list is empty; '' where it is not."""
    if found.named or found.misfits:
        return ""
    more = f" With about {found.pairs_needed} more pairs" if found.pairs_needed else " As it stands,"
    return (
        "No slice can be told from the rest of the traffic."
        f"{more} one of 5% of the traffic that loses 20 points more than the rest would be named."
    )


def share(estimate: Estimate) -> str:
    return f"{estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]"


def dollars(estimate: Estimate) -> str:
    if estimate.low == estimate.high:
        return money(estimate.value)
    return f"{money(estimate.value)} [{money(estimate.low)}, {money(estimate.high)}]"


def money(usd: float) -> str:
    """Dollars to a cent; below ten cents to two digits that count."""
    return f"${usd:,.2f}" if abs(usd) >= 0.1 or usd == 0 else f"${usd:.2g}"


def _slices(console: Console, found: LossMap) -> None:
    if found.named or found.misfits:
        console.print("\nWhat the compression dropped, by loss x traffic x teacher cost; $/1k: the teacher's price of")
        console.print(f"a thousand requests. {_rule(found)}")
        console.print(_table(found))
    if sentence := nothing_named(found):
        console.print(f"\n{sentence}", markup=False)
    if found.steps:
        console.print(f"The next student: {worth(found)}", markup=False)
        for step in found.steps:
            console.print(f"  {title(step.name)}: adds {money(step.adds_usd_per_day)} a day", markup=False)
    if found.others:
        _others(console, found.others)
    for line in lines(found):
        if line.figures and not line.pale:
            _examples(console, line.figures, found.examples.get(line.name, ())[:EXAMPLES])


def _rule(found: LossMap) -> str:
    return f"{len(found.named) + len(found.others)} slices tested, false discoveries held to 5%."


def _table(found: LossMap) -> Table:
    table = Table(box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    table.add_column("slice", overflow="fold", ratio=1)
    for name in ("pairs", "traffic", "loss", "95%", "served", "teacher", "$/1k", "$/day at stake"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines(found):
        cells = _cells(line.figures) if line.figures else _cells_of_rows(line, found.traffic.requests_per_day)
        table.add_row(Text(f"{'  ' * line.part}{line.title}"), *cells)
    return table


def _cells(figures: Figures) -> tuple[str, ...]:
    return (
        str(figures.pairs),
        f"{figures.share.value:.1%}",
        f"{figures.loss.value:.0%}",
        f"{figures.loss.low:.0%}-{figures.loss.high:.0%}",
        f"{figures.served_loss.value:.1%}",
        f"{figures.teacher_share:.0%}",
        money(1000 * figures.teacher_usd),
        money(figures.at_stake_usd_per_day.value),
    )


def _cells_of_rows(line: Line, requests_per_day: float) -> tuple[str, ...]:
    assert line.lost is not None and line.misfit is not None
    share_of_traffic = line.misfit.requests_per_day / requests_per_day
    each = line.lost.teacher_usd_per_day / line.misfit.requests_per_day
    cells = ("rows", f"{share_of_traffic:.1%}", "100%", "", "0.0%", "100%")
    return (*cells, money(1000 * each), money(line.lost.at_stake_usd_per_day))


def _others(console: Console, others: Sequence[Figures]) -> None:
    console.print("\nNot told from the rest of the traffic (loss, pairs):")
    shown = [f"{title(each.name)} ({each.loss.value:.0%}, {each.pairs})" for each in others[:MOST_OTHERS]]
    more = f" and {len(others) - MOST_OTHERS} more" if len(others) > MOST_OTHERS else ""
    console.print(f"  {'; '.join(shown)}{more}", markup=False)


def _examples(console: Console, figures: Figures, examples: Sequence[Example]) -> None:
    console.print(f"\n{title(figures.name)}  (--slice {shlex.quote(readable(figures.name))})", markup=False)
    for example in examples:
        console.print(f"  {example.pair}")
        for name in ("prompt", "teacher", "student", "diff"):
            text = getattr(example, name).replace("\n", " ")
            cut = text if len(text) <= EXAMPLE_CHARACTERS else text[: EXAMPLE_CHARACTERS - 1] + "…"
            console.print(f"    {name:8}{cut}", markup=False)


def _duration(seconds: float) -> str:
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} seconds"
