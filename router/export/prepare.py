"""From the records that were read to the rows of a file: choose, ask the licence, redact, convert, lint, thin out.

Everything that is left out is counted under a reason. No I/O; what it is given in full it keeps in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from router.evidence.records import PairRecord
from router.export.choose import Filters, balanced, few_of_each_cluster, group_of, verdict_of
from router.export.convert import bare_example, example_of
from router.export.example import Example, Unusable, Verdict
from router.export.formats.base import Format, Row
from router.export.licence import require_training_use
from router.export.lint import problem
from router.export.privacy import Redaction
from router.export.slices import memberships, needs_all, slice_names
from router.settings import Config

Chosen = tuple[PairRecord, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Found:
    """An example that is fit for the format, with the slices of its record and what was redacted, by kind."""

    example: Example
    slices: frozenset[str]
    replaced: Counter[str]


@dataclass(slots=True)
class Prepared:
    """`not_asked_for`: records that no option asks for, by reason. `left_out`: ids of those that were, by reason.

    `seen_slices`: the slices of all records that were looked at for slices. `replaced`: personal data by kind.
    """

    read: int = 0
    not_asked_for: Counter[str] = field(default_factory=Counter)
    seen_slices: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    replaced: Counter[str] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Both kinds of reasons, the most frequent first."""
        both = self.not_asked_for + Counter({reason: len(ids) for reason, ids in self.left_out.items()})
        return dict(both.most_common())


def prepare(
    records: Iterable[PairRecord],
    config: Config,
    filters: Filters,
    target: Format,
    redact: Redaction,
    *,
    balance: bool,
    max_per_cluster: int,
) -> Prepared:
    """Raises ConfigError where a teacher's licence does not allow training."""
    done = Prepared()
    chosen = list(_chosen(records, filters, done))
    require_training_use([record for record, _ in chosen], config)
    found = list(_examples(chosen, config, target, redact, done))
    few = few_of_each_cluster([one.example for one in found], max_per_cluster)
    found = _keep(found, few, "near_duplicate", done)
    if balance:
        groups = [group_of(one.example, one.slices, filters.slices) for one in found]
        found = _keep(found, balanced([one.example for one in found], groups), "balance", done)
    done.examples = [one.example for one in found]
    done.replaced = sum((one.replaced for one in found), Counter())
    done.rows = [row for one in done.examples for row in target.rows(one)]
    return done


def _chosen(records: Iterable[PairRecord], filters: Filters, done: Prepared) -> Iterator[Chosen]:
    for record, slices in _with_slices(records, filters, done):
        reason = filters.refuses(record)
        if reason is None and filters.slices and not slices & {*filters.slices}:
            reason = "other_slice"
        if reason is None:
            yield record, slices
        else:
            done.not_asked_for[reason] += 1


def _with_slices(records: Iterable[PairRecord], filters: Filters, done: Prepared) -> Iterator[Chosen]:
    """The slices only where they are asked for: to tell them takes a while."""
    if needs_all(filters.slices):
        read = list(records)
        pairs: Iterable[Chosen] = zip(read, memberships(read), strict=True)
    else:
        wanted = bool(filters.slices)
        pairs = ((record, slice_names(record) if wanted else frozenset()) for record in records)
    for record, slices in pairs:
        done.read += 1
        done.seen_slices.update(slices)
        yield record, slices


def _examples(
    chosen: Iterable[Chosen], config: Config, target: Format, redact: Redaction, done: Prepared
) -> Iterator[Found]:
    for record, slices in chosen:
        verdict = verdict_of(record)
        assert verdict is not None
        clean, replaced = redact(record)
        try:
            example = _example(clean, verdict, config, target)
            reason = problem(example, target.rules)
        except Unusable as error:
            reason = error.reason
        if reason is None:
            yield Found(example, slices, replaced)
        else:
            done.left_out.setdefault(reason, []).append(record.id)


def _example(record: PairRecord, verdict: Verdict, config: Config, target: Format) -> Example:
    student = config.models.get(record.student.model)
    try:
        return example_of(
            record,
            verdict,
            system_prompt=student.adapt.system_prompt if student else None,
            max_tokens=student.context_tokens if student else None,
        )
    except Unusable:
        if target.rules.needs == "record":
            return bare_example(record, verdict)
        raise


def _keep(found: list[Found], kept: list[bool], reason: str, done: Prepared) -> list[Found]:
    for one, keep in zip(found, kept, strict=True):
        if not keep:
            done.left_out.setdefault(reason, []).append(one.example.record.id)
    return [one for one, keep in zip(found, kept, strict=True) if keep]
