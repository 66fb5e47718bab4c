"""The loss map of one route: its figures, its slices, what the next student would be worth, and examples.

Population: all requests of the route that the student could have been asked and that may be kept. The pairs are a
sample of them with known probabilities; a student that failed is a loss, a teacher that failed says nothing. What the
student cannot be asked at all (tools, context, …) is counted by the decision rows and needs no sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from policies.bounds import Floats
from policies.lossmap import (
    LEVEL,
    Estimate,
    Figures,
    Lost,
    Sample,
    Step,
    effective_pairs,
    map_slices,
    mean,
    next_student,
    pairs_to_name,
    rate,
)
from policies.slices import Slice
from router.evidence.records import PairRecord
from router.ledger.pricing import NANO_PER_USD
from router.lossmap.corpus import slices_of
from router.lossmap.examples import Example, examples_of
from router.lossmap.outcome import is_ambiguous, is_excused, is_loss
from router.lossmap.traffic import Misfit, Traffic, traffic_of
from router.record.row import DecisionRow

STEPS = 3
TYPICAL_SHARE = 0.05
TYPICAL_EXCESS = 0.2


@dataclass(frozen=True, slots=True)
class LossMap:
    """`pairs` and `effective_pairs` (Kish); `enough`: not below the floor `min_pairs`, and the
    traffic is known; else there are no slices.

    `left_out`: pairs that are not used, by reason. `ambiguous`: losses of unknown blame; `excused`: harmful differences
    that triage or people took back. `named`: slices that lose more than the rest, at a false discovery rate of 5%;
    `others`: not told from the rest. `pairs_needed`: until the floor, or until a slice of 5% of the traffic that loses
    20 points more than the rest is named; None where that is so already. `misfits`: what the student cannot be asked.
    """

    route: str
    teacher: str
    student: str
    student_version: str
    pairs: int
    effective_pairs: float
    min_pairs: int
    left_out: Mapping[str, int]
    ambiguous: int
    excused: int
    traffic: Traffic
    loss: Estimate
    served_loss: Estimate
    at_stake_usd_per_day: Estimate
    named: tuple[Figures, ...]
    others: tuple[Figures, ...]
    misfits: tuple[Lost, ...]
    steps: tuple[Step, ...]
    pairs_needed: int | None
    examples: Mapping[str, tuple[Example, ...]]

    @property
    def enough(self) -> bool:
        return self.effective_pairs >= self.min_pairs and self.traffic.known

    @property
    def traffic_of_misfits(self) -> tuple[Misfit, ...]:
        """In the order of `misfits`."""
        by_name = {f"misfit:{each.guard}": each for each in self.traffic.misfits}
        return tuple(by_name[each.name] for each in self.misfits)


def build(
    route: str,
    models: tuple[str, str],
    pairs: Iterable[PairRecord],
    rows: Iterable[DecisionRow],
    min_pairs: int,
) -> LossMap:
    """`pairs` and `rows`: of this route and the time asked for; `models`: its teacher and student."""
    records, left_out = usable(list(pairs), models, min_pairs)
    traffic = traffic_of(rows, records)
    sample = _sample(records)
    kish = effective_pairs(np.zeros(len(sample)), sample.weights)
    enough = kish >= min_pairs and traffic.known
    slices = slices_of(records) if enough else []
    figures = [_of_all_traffic(each, traffic) for each in map_slices(sample, slices, traffic.fitting_per_day)]
    named = tuple(each for each in figures if each.named)
    misfits = _misfits(sample, traffic.misfits)
    return LossMap(
        route=route,
        teacher=models[0],
        student=models[1],
        student_version=records[-1].student_version if records else "",
        pairs=len(records),
        effective_pairs=kish,
        min_pairs=min_pairs,
        left_out=left_out,
        ambiguous=sum(is_ambiguous(record) for record in records),
        excused=sum(is_excused(record) for record in records),
        traffic=traffic,
        loss=rate(sample.harmful, sample.weights),
        served_loss=rate(sample.harmful * sample.by_student, sample.weights),
        at_stake_usd_per_day=mean(sample.at_stake_usd, sample.weights, traffic.fitting_per_day),
        named=named,
        others=tuple(each for each in figures if not each.named),
        misfits=misfits,
        steps=tuple(next_student(sample, slices, named, traffic.fitting_per_day, misfits, STEPS)),
        pairs_needed=_pairs_needed(sample, len(figures), kish, min_pairs),
        examples=_examples(records, sample.harmful, slices, figures),
    )


def usable(
    pairs: Sequence[PairRecord], models: tuple[str, str], min_pairs: int
) -> tuple[list[PairRecord], dict[str, int]]:
    """The pairs of one version of the student, oldest first, and how many are left out, by reason.

    It is the newest version with at least `min_pairs` of them, so that a student that was only tried does not hide the
    one that serves; where there is none, the newest. Targeted pairs of a time without uniform audits stand for no
    traffic: nobody knows what the rest is like.
    """
    ours = sorted((each for each in pairs if (each.teacher.model, each.student.model) == models), key=_moment)
    answered = [each for each in ours if each.teacher.error is None]
    uniform = [each for each in answered if each.audit_probability > 0]
    version = _version(uniform or answered, min_pairs)
    current = [each for each in answered if each.student_version == version]
    used = [each for each in uniform if each.student_version == version]
    left_out = {
        "other models": len(pairs) - len(ours),
        "teacher failed": len(ours) - len(answered),
        "other versions of the student": len(answered) - len(current),
        "targeted while audit.rate was 0": len(current) - len(used),
    }
    return used, {reason: count for reason, count in left_out.items() if count}


def _version(pairs: Sequence[PairRecord], min_pairs: int) -> str:
    """`pairs`: oldest first. '' where there are none."""
    newest_first = list(dict.fromkeys(each.student_version for each in reversed(pairs)))
    counts = Counter(each.student_version for each in pairs)
    return next((version for version in newest_first if counts[version] >= min_pairs), "".join(newest_first[:1]))


def _moment(record: PairRecord) -> tuple[float, str]:
    return record.time, record.id


def _sample(records: Sequence[PairRecord]) -> Sample:
    return Sample(
        harmful=_column(is_loss(record) for record in records),
        by_student=_column(record.served == "student" for record in records),
        probability=_column(record.probability for record in records),
        teacher_usd=_column(record.teacher.cost_nano_usd / NANO_PER_USD for record in records),
        moved_usd=_column(_moved_usd(record) for record in records),
    )


def _column(values: Iterable[float]) -> Floats:
    return np.array(list(values), dtype=np.float64)


def _moved_usd(record: PairRecord) -> float:
    """What the teacher's answer cost above the student's. Of an escalation the student has been paid already."""
    student = 0 if record.reason.partition(":")[0] == "escalated" else record.student.cost_nano_usd
    return (record.teacher.cost_nano_usd - student) / NANO_PER_USD


def _of_all_traffic(figures: Figures, traffic: Traffic) -> Figures:
    """The share among all requests of the route, those that do not fit the student included."""
    fitting = traffic.fitting_per_day / traffic.requests_per_day if traffic.requests_per_day else 1.0
    share = figures.share
    return replace(figures, share=Estimate(share.value * fitting, share.low * fitting, share.high * fitting))


def _misfits(sample: Sample, misfits: Sequence[Misfit]) -> tuple[Lost, ...]:
    """At stake: what the teacher was paid, less what the student costs, on the pairs, for each dollar of that."""
    teacher = float(sample.teacher_usd @ sample.weights)
    worth = float(sample.moved_usd @ sample.weights) / teacher if teacher else 1.0
    found = [
        Lost(f"misfit:{each.guard}", each.teacher_usd_per_day, each.teacher_usd_per_day * worth) for each in misfits
    ]
    return tuple(sorted(found, key=lambda each: (-each.at_stake_usd_per_day, each.name)))


def _pairs_needed(sample: Sample, tests: int, kish: float, min_pairs: int) -> int | None:
    """More pairs of the weights seen so far."""
    spread = len(sample) / kish if kish else 1.0
    wanted = float(min_pairs)
    if kish >= min_pairs:
        rest = min(float(sample.harmful @ sample.weights / sample.weights.sum()), 1 - TYPICAL_EXCESS)
        wanted = pairs_to_name(TYPICAL_SHARE, rest + TYPICAL_EXCESS, rest, tests, LEVEL)
    missing = int(np.ceil(wanted * spread)) - len(sample)
    return missing if missing > 0 else None


def _examples(
    records: Sequence[PairRecord], harmful: Floats, slices: Sequence[Slice], figures: Sequence[Figures]
) -> dict[str, tuple[Example, ...]]:
    shown = {each.name for each in figures}
    return {
        each.name: examples_of(
            [
                record
                for place, record in enumerate(records)
                if harmful[place] and (each.members if each.lost is None else each.lost & each.members)[place]
            ]
        )
        for each in slices
        if each.name in shown
    }
