"""The report for a person: two tables of a hundred columns, and what stands behind their figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from router.ledger.pricing import usd
from router.report.ratio import FEWEST_PAIRS, Ratio
from router.report.reconciliation import explain
from router.report.report import Report
from router.report.statement import Dimension, Line

WHO: tuple[Dimension, ...] = ("day", "route", "tenant", "key")  # what a request has one of; it may have several models
Column = tuple[str, Callable[[Line], str]]

SPENT: tuple[Column, ...] = (
    ("requests", lambda line: f"{line.sums.requests:,}"),
    ("calls", lambda line: f"{line.sums.calls:,}"),
    ("tokens in", lambda line: _short(line.sums.input)),
    ("out", lambda line: _short(line.sums.output)),
    ("cost USD", lambda line: usd(line.sums.cost_nano)),
)
SAVED: tuple[Column, ...] = (
    ("spent USD", lambda line: usd(line.sums.cost_nano)),
    ("teacher alone", lambda line: usd(line.teacher_only.nano)),
    ("net savings", lambda line: f"{'+' * (line.net_savings_nano > 0)}{usd(line.net_savings_nano)}"),
    ("± at 95%", lambda line: _margin(line)),
)


def show(console: Console, report: Report) -> None:
    """Print the report: what was spent, what that saved, and whether the books agree."""
    statement = report.statement
    console.print(f"[bold]Costs[/] {statement.period}", highlight=False)
    if not report.lines:
        console.print("No decision rows in this period.")
    else:
        _print(console, "Spent", statement.by, report.lines, report.total, SPENT)
        by = tuple(dimension for dimension in statement.by if dimension in WHO)
        _print(console, "Saved", by, list(statement.grouped(by, report.ratios)), report.total, SAVED)
    for line in (*_basis(report), *_idle(report), *_books(report)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _print(
    console: Console, title: str, by: Sequence[Dimension], lines: Sequence[Line], total: Line, columns: Sequence[Column]
) -> None:
    """What is the same in every line is said once, in the title."""
    varying = [place for place in range(len(by)) if len({line.key[place] for line in lines}) > 1]
    same = [f"{by[place]} {lines[0].key[place] or '-'}" for place in range(len(by)) if place not in varying]
    table = Table(box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False, show_footer=len(lines) > 1)
    for number, place in enumerate(varying):
        table.add_column(by[place], "total" if number == 0 else "", overflow="fold")
    for name, value in columns:
        table.add_column(name, value(total), justify="right", no_wrap=True)
    for line in lines:
        table.add_row(*(line.key[place] or "-" for place in varying), *(value(line) for _, value in columns))
    console.print(", ".join([title, *same]), markup=False, highlight=False)
    console.print(table)


def _basis(report: Report) -> Iterator[str]:
    total = report.total
    if not total.teacher_only.nano:
        return
    share = total.teacher_only.estimated_share
    yield f"Teacher alone: {1 - share:.1%} measured where it answered, {share:.1%} estimated from student answers."
    for route in sorted(total.sums.student_nano):
        yield f"  {route}: {_correction(report.ratios.get(route, Ratio()))}"


def _correction(ratio: Ratio) -> str:
    if ratio.value is None or ratio.margin is None:
        worth = f", worth {ratio.even_pairs:.0f} of even size" if ratio.pairs else ""
        return f"not corrected: {ratio.pairs} pairs{worth}; {FEWEST_PAIRS} are needed"
    return f"the teacher costs {ratio.value:.3f} ± {ratio.margin:.3f} times the estimate (95%, {ratio.pairs} pairs)"


def _idle(report: Report) -> Iterator[str]:
    for bill in report.gpu:
        yield (
            f"GPUs of {bill.model} on {bill.day}: bill {usd(bill.bill_nano)}, requests paid "
            f"{usd(bill.attributed_nano)} in the hours billed, idle {usd(bill.idle_nano)} USD (not in the tables)"
        )


def _books(report: Report) -> Iterator[str]:
    yield ""
    yield "Do the books agree?"
    yield from (f"  {line}" for line in explain(report))


def _margin(line: Line) -> str:
    margin = line.teacher_only.margin_nano
    return "not corrected" if margin is None else usd(margin)


def _short(count: int) -> str:
    for size, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")):
        if count >= 100 * size:
            return f"{count / size:.0f}{unit}"
        if count >= 10 * size or (count >= size and unit != "k"):
            return f"{count / size:.1f}{unit}"
    return f"{count:,}"
