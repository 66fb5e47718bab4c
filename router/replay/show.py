"""Replays and operating points as text and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from policies.replay.compare import Comparison, Figures
from policies.replay.interval import Figure
from policies.replay.randomised import RandomisedCost
from router.lossmap.traffic import Traffic
from router.replay.replay import Prepared, Replayed, audits_usd
from router.replay.tune import Operating, Tuned
from router.settings import Route

DAY_S, HOUR_S = 86_400, 3600
PER = 1_000
Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """What money is told for: the route's requests a day, or `PER` requests where nobody knows how many there are."""

    requests: float
    words: str

    @classmethod
    def of(cls, traffic: Traffic) -> Unit:
        per_day = traffic.known and traffic.fitting_per_day > 0
        return cls(traffic.fitting_per_day, "a day") if per_day else cls(PER, f"for {PER:,} requests")

    def usd(self, figure: Figure) -> str:
        return _bracketed(*(_usd(value * self.requests) for value in _ends(figure)))


def replay_text(prepared: Prepared, replayed: Replayed, confidence: float) -> str:
    """What a person reads."""
    return "\n".join(_replay_lines(prepared, replayed, Unit.of(prepared.traffic), confidence))


def replay_json(prepared: Prepared, replayed: Replayed, confidence: float) -> str:
    """Costs are USD per request; those a day are in `…_per_day`."""
    audited, randomised = replayed.audited, replayed.randomised
    told = {
        **_head(prepared, confidence),
        "estimator": None if audited is None else "doubly_robust" if audited.doubly_robust else "snips",
        **(_figures(audited.best, prepared.traffic) if audited else {}),
        "snips": audited and _figures(audited.snips, prepared.traffic),
        "doubly_robust": audited and audited.doubly_robust and _figures(audited.doubly_robust, prepared.traffic),
        "randomised": randomised and asdict(randomised),
        "refused": {"audited": replayed.why_no_audited or None, "randomised": replayed.why_no_randomised or None},
    }
    return json.dumps(told, indent=2)


def tune_text(prepared: Prepared, tuned: Tuned, route: Route, proposed: Operating | None, confidence: float) -> str:
    """`proposed`: the point whose YAML is printed."""
    return "\n".join(_tune_lines(prepared, tuned, route, proposed, Unit.of(prepared.traffic), confidence))


def tune_json(prepared: Prepared, tuned: Tuned, proposed: Operating | None, confidence: float) -> str:
    """Costs as in `replay_json`."""

    def told(each: Operating) -> dict[str, Any]:
        figures = _figures(each.figures, prepared.traffic)
        return {"point": each.point, "max_loss": each.max_loss, "policy": each.policy, **figures}

    return json.dumps(
        {
            **_head(prepared, confidence),
            "proposed": proposed and told(proposed),
            "certified": [told(each) for each in tuned.certified],
            "uncertified": tuned.uncertified,
            "frontier": [told(each) for each in tuned.frontier],
        },
        indent=2,
    )


def _head(prepared: Prepared, confidence: float) -> dict[str, Any]:
    return {
        "route": prepared.route,
        "policy": {"kind": prepared.policy.kind, "version": prepared.policy.version},
        "confidence": confidence,
        "audited_requests": len(prepared.requests),
        "rows": len(prepared.rows),
        "traffic": asdict(prepared.traffic),
        "left_out": dict(prepared.left_out),
        "audits_usd": audits_usd(prepared),
        "notes": prepared.notes,
    }


def _figures(comparison: Comparison, traffic: Traffic) -> dict[str, Any]:
    sides = {"candidate": comparison.candidate, "logged": comparison.logged, "difference": comparison.difference}
    told: dict[str, Any] = {"effective": comparison.effective}
    for name, side in sides.items():
        told[name] = asdict(side)
        if traffic.known:
            told[name]["cost_usd_per_day"] = asdict(side.cost_usd.times(traffic.fitting_per_day))
    return told


def _replay_lines(prepared: Prepared, replayed: Replayed, unit: Unit, confidence: float) -> Iterator[str]:
    yield from _about(prepared, replayed)
    yield ""
    if replayed.audited is not None:
        best = replayed.audited.best
        yield from _table(
            ("", "the teacher answers", f"USD {unit.words}", "loss"),
            [
                ("now", *_cells(best.logged, unit)),
                ("candidate", *_cells(best.candidate, unit)),
                ("difference", *_cells(best.difference, unit)),
            ],
        )
        how = "Doubly robust" if replayed.audited.doubly_robust else "Self-normalised (SNIPS)"
        yield f"{how}; in brackets: {confidence:.0%} intervals, each by itself, by conversation."
        if replayed.audited.doubly_robust:
            yield _other_estimate(replayed.audited.snips, unit)
    else:
        yield f"The loss is not known: {replayed.why_no_audited}."
    if replayed.randomised is not None:
        yield from _drawn(replayed.randomised, unit)
    if audits := audits_usd(prepared):
        yield f"Audits come on top: the candidate's cost about ${_usd(audits * unit.requests)} {unit.words}."
    yield from _remarks(prepared)


def _about(prepared: Prepared, replayed: Replayed) -> Iterator[str]:
    audited = replayed.audited
    worth = (
        f"{audited.pairs:,} audited requests in {_count(audited.conversations, 'conversation')}, worth "
        f"{audited.best.effective:,.0f} of equal weight"
        if audited
        else f"{len(prepared.requests):,} audited requests"
    )
    yield (
        f"Route {prepared.route}, policy {prepared.policy.kind} ({prepared.policy.version}): {worth}"
        f"{_out_of(prepared.traffic)}."
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _out_of(traffic: Traffic) -> str:
    if not traffic.known:
        return ""
    number = traffic.fitting_per_day * traffic.window_s / DAY_S
    return f"; about {number:,.0f} requests that fit the student in {_duration(traffic.window_s)}"


def _cells(figures: Figures, unit: Unit) -> Row:
    return _percent(figures.teacher_share), unit.usd(figures.cost_usd), _percent(figures.loss)


def _other_estimate(snips: Comparison, unit: Unit) -> str:
    return (
        f"Self-normalised (SNIPS) instead: {unit.usd(snips.candidate.cost_usd)} USD {unit.words} at a loss of "
        f"{_percent(snips.candidate.loss)}; difference {unit.usd(snips.difference.cost_usd)} and "
        f"{_percent(snips.difference.loss)}."
    )


def _drawn(found: RandomisedCost, unit: Unit) -> Iterator[str]:
    yield ""
    yield (
        f"By {found.decisions:,} decisions drawn at random, worth {found.effective:,.0f}: the candidate costs "
        f"{unit.usd(found.doubly_robust)} USD {unit.words} (SNIPS {unit.usd(found.snips)}), now "
        f"{unit.usd(found.logged)}; difference {unit.usd(found.difference)}."
    )


def _remarks(prepared: Prepared) -> Iterator[str]:
    if prepared.traffic.misfits:
        usd = sum(each.teacher_usd_per_day for each in prepared.traffic.misfits)
        number = sum(each.requests_per_day for each in prepared.traffic.misfits)
        yield (
            f"Beside these, {number:,.0f} requests a day do not fit the student and stay with the teacher "
            f"(${_usd(usd)} a day)."
        )
    if prepared.left_out:
        reasons = ", ".join(f"{count:,} ({reason})" for reason, count in prepared.left_out.items())
        yield f"Left out of the audited requests: {reasons}."
    if prepared.traffic.known and prepared.traffic.window_s < DAY_S:
        yield f"Careful: figures a day are drawn out from {_duration(prepared.traffic.window_s)} of traffic."
    for note in prepared.notes:
        yield f"Careful: {note}."


def _tune_lines(
    prepared: Prepared, tuned: Tuned, route: Route, proposed: Operating | None, unit: Unit, confidence: float
) -> Iterator[str]:
    yield (
        f"Route {prepared.route}, policy {prepared.policy.kind} ({prepared.policy.version}): "
        f"{len(prepared.requests):,} audited requests{_out_of(prepared.traffic)}."
    )
    now = [*tuned.certified, *tuned.frontier][0].figures.logged
    yield (
        f"Now: {unit.usd(now.cost_usd)} USD {unit.words}, the teacher answers {_percent(now.teacher_share)}, loss "
        f"{_percent(now.loss)}."
    )
    yield ""
    yield from _table(
        ("point", "the teacher answers", f"USD {unit.words}, difference", "loss"),
        [(f"{each.point:g}", *_apart(each, unit)) for each in tuned.frontier],
    )
    yield f"In brackets: {confidence:.0%} intervals, each by itself, for a point that was not chosen by looking."
    yield ""
    yield f"Certified with {confidence:.0%} confidence, each level by itself, although chosen by looking:"
    for each in tuned.certified:
        yield f"  at most {each.max_loss:.2%}: {_in_words(each, unit)} ({each.point:g})"
    for level in tuned.uncertified:
        yield f"  at most {level:.2%}: no point; more audited requests may certify one"
    if proposed is not None:
        yield ""
        yield f"{_in_words(proposed, unit)}. Set this route (what else you had said of it is kept):"
        block = route.model_dump(mode="json", exclude_unset=True) | {"mode": "route", "policy": proposed.policy}
        yield yaml.safe_dump({"routes": {prepared.route: block}}, sort_keys=False, default_flow_style=None).rstrip()
        yield ""
    yield from _remarks(prepared)


def _apart(each: Operating, unit: Unit) -> Row:
    figures = each.figures
    return (
        _percent(figures.candidate.teacher_share),
        unit.usd(figures.difference.cost_usd),
        _percent(figures.candidate.loss),
    )


def _in_words(each: Operating, unit: Unit) -> str:
    """`$310 a day less at a loss of 1.8% [1.2, 2.4]`."""
    change = each.figures.difference.cost_usd
    word = "less" if change.value <= 0 else "more"
    sign = -1 if change.value <= 0 else 1
    ends = sorted(sign * value * unit.requests for value in (change.low, change.high))
    usd = _bracketed(_usd(abs(change.value) * unit.requests), *(_usd(end) for end in ends))
    return f"${usd} {unit.words} {word} at a loss of {_percent(each.figures.candidate.loss)}"


def _table(head: Row, rows: Sequence[Row]) -> Iterator[str]:
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    for row in (head, *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _ends(figure: Figure) -> tuple[float, float, float]:
    return figure.value, figure.low, figure.high


def _percent(figure: Figure) -> str:
    value, low, high = (100 * each for each in _ends(figure))
    if low == high:
        return f"{value:.1f}%"
    return f"{value:.1f}% [{low:.1f}, {high:.1f}]"


def _bracketed(value: str, low: str, high: str) -> str:
    return f"{value} [{low}, {high}]"


def _usd(value: float) -> str:
    """Cents, or of small sums three digits."""
    return f"{value:,.2f}" if abs(value) >= 1 or value == 0 else f"{value:.3g}"


def _duration(seconds: float) -> str:
    for unit, size in (("days", DAY_S), ("hours", HOUR_S), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
