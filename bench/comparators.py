"""Does a comparator's harm flag agree with people's labels? Precision and recall over the labelled pairs, by kind.

    python bench/comparators.py [--kind K] [--half development|held-out|all] [--errors] [--comparator auto] [--json F]

Comparators are mended by the pairs of the development half only: `--errors` lists the mistakes in that half and no
other, and the held-out half's figures are the ones to quote.

The pairs are those of `tests/comparator_pairs` (its README says where they come from and how they were labelled). Each
goes through the gateway's comparators as an audited request would, with `auto` choosing; "decided by" says which one
did. Prose is compared without a judge: these are the figures of the cheap checks alone. Precision is the share of
flagged pairs that are labelled harmful, recall the share of harmful pairs that are flagged; in brackets the 95%
Clopper-Pearson intervals, which hold for pairs drawn like these, not for anybody's traffic.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from policies.bounds import Interval
from router.comparator_settings import BUILT_IN
from router.evidence.compare.base import shorten
from router.evidence.compare.requests import conversation
from tests.comparator_pairs.measure import HALVES, KINDS, Figures, Half, Judged, figures, judge, load

HEAD = "| kind | pairs | harmful | precision | recall | decided by |\n|---|---:|---:|---|---|---|"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, help="only the pairs of this kind")
    parser.add_argument("--comparator", choices=BUILT_IN, default="auto", help="which built-in one decides")
    parser.add_argument("--half", choices=HALVES, default="all", help="which half of the pairs")
    parser.add_argument("--errors", action="store_true", help="list the development pairs where flag and label differ")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if options.errors and options.half != "development":
        parser.error("--errors needs --half development: nobody looks at single pairs of the held-out half")
    kinds = (options.kind,) if options.kind else KINDS
    judged = asyncio.run(_judge(kinds, options.half, options.comparator))
    measured = {kind: figures(each) for kind, each in judged.items()}
    if len(kinds) > 1:
        measured["all"] = figures([one for each in judged.values() for one in each])
    print(HEAD)
    for kind, found in measured.items():
        print(_row(kind, found))
    if options.errors:
        for each in judged.values():
            _print_errors(each)
    if options.json:
        options.json.write_text(json.dumps({kind: _plain(found) for kind, found in measured.items()}, indent=1))


async def _judge(kinds: Sequence[str], half: Half, comparator: str) -> dict[str, list[Judged]]:
    return {kind: await judge(load(kind, half), comparator) for kind in kinds}


def _row(kind: str, found: Figures) -> str:
    decided = ", ".join(f"{name} {count}" for name, count in found.decided_by.items())
    precision = _share(found.hits, found.flagged, found.precision_interval)
    recall = _share(found.hits, found.harmful, found.recall_interval)
    return f"| {kind} | {found.pairs} | {found.harmful} | {precision} | {recall} | {decided} |"


def _share(hits: int, of: int, interval: Interval) -> str:
    if not of:
        return "none"
    return f"{hits / of:.0%} ({hits}/{of}) [{interval.low:.0%}, {interval.high:.0%}]"


def _print_errors(judged: Sequence[Judged]) -> None:
    for each in judged:
        if each.wrong:
            pair, verdict = each.pair, each.verdict
            what = "missed" if pair.harm else "false alarm"
            print(f"\n{pair.id}: {what} ({pair.why}); {verdict.comparator} said {verdict.kind}, {verdict.score:.2f}")
            print(f"    asked: {shorten(conversation(pair.request), 300)}")
            print(f"    {verdict.diff or 'the same'}")


def _plain(found: Figures) -> Mapping[str, Any]:
    return {
        **asdict(found),
        "precision": found.precision,
        "precision_interval": asdict(found.precision_interval),
        "recall": found.recall,
        "recall_interval": asdict(found.recall_interval),
    }


if __name__ == "__main__":
    main()
