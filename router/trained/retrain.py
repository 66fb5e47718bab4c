"""Learns a route's policy anew, and lets the new version win or lose against the one in force. Blocking.

The newest pairs are kept for the trial: a share of those that came after the version in force was trained. The new one
learns from everything before them, so that neither has seen them. While one version is in force, the trials together
promote a worse one with a probability of at most `delta`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from policies.bounds import Floats
from policies.learn import artifact
from policies.learn.example import Example
from policies.learn.trained import Trained
from router.errors import Conflict, NotFound
from router.evidence.archive.source import sources
from router.settings import Settings
from router.trained.blocking import with_store
from router.trained.encoders import encoder_of, with_vectors
from router.trained.examples import Collected, collect, served_on
from router.trained.job import Outcome
from router.trained.record import VersionRecord, record_of
from router.trained.settings import Training
from router.trained.store import TrainedStore
from router.trained.train import TrainingRefused, about, options_for, train
from router.trained.trial import Trial, level, tried

TRIAL_SHARE = 0.3  # of the pairs that are newer than what the version in force has learned from


@dataclass(frozen=True, slots=True)
class Rival:
    """What a new version is tried against: the version in force, or while there is none the mean harm so far.

    `number` in the store; None: none is in force. `until`: it has learned from nothing after that.
    """

    name: str
    number: int | None = None
    until: float = 0.0
    trained: Trained | None = None

    def expects(self, examples: Sequence[Example], mean_harm: float) -> Floats:
        """Shape (n,)."""
        return np.full(len(examples), mean_harm) if self.trained is None else expected(self.trained, examples)


def retrain(settings: Settings, route: str, kind: str, training: Training) -> Outcome:
    """Train, try, keep, and perhaps promote. Raises ConfigError where evidence or store cannot be reached."""
    name = f"{route}:{kind}"
    collected = _recent(settings, route, kind, training)
    if len(collected.examples) < training.min_pairs:
        return Outcome("too_few", f"{len(collected.examples)} pairs of the {training.min_pairs} that a training needs")
    rival = with_store(settings, lambda store: _rival(store, name))
    learned, newest = divided(collected.examples, rival.until)
    if len(newest) < training.trial_pairs:
        return Outcome("too_few", f"{len(newest)} newer pairs of the {training.trial_pairs} that a trial needs")
    encoder = encoder_of(settings, route)
    newest = with_vectors(newest, encoder)
    try:
        options = options_for(settings.config.routes[route].policy, kind, encoder)
        trained = about(train(kind, learned, options=options), collected.models)
    except TrainingRefused as error:
        return Outcome("too_few", str(error))
    trial = _trial(trained, rival, learned, newest)
    data = {"from": ["schedule"], "route": route, "pairs": len(learned), "left_out": dict(collected.left_out)}
    until = max(example.time for example in learned)

    async def keep(store: TrainedStore) -> Outcome:
        needed = 1 / level(training.delta, await store.count_trial(name))
        told = _told(trial, rival, needed)
        record = record_of(trained, "retrain", time.time(), until=until, data=data, trial=told)
        number = await store.put(name, artifact.dumps(trained), record)
        why = f"{rival.name}: {trial.gain:+.4f} squared error, evidence {trial.evidence:.3g} of {needed:.3g}"
        if not training.promote or trial.evidence < needed:
            return Outcome("candidate", f"{name}@{number} against {why}", number)
        try:
            await store.promote(name, number, instead_of=rival.number)
        except Conflict as error:
            return Outcome("candidate", error.message, number)
        return Outcome("promoted", f"{name}@{number} instead of {why}", number)

    return with_store(settings, keep)


def divided(examples: Sequence[Example], until: float) -> tuple[list[Example], list[Example]]:
    """To learn from and, all later than those and than `until`, to try on; no conversation is in both.

    `examples`: oldest first.
    """
    newer = [example for example in examples if example.time > until]
    held_out = newer[len(newer) - int(TRIAL_SHARE * len(newer)) :]
    learned = list(examples[: len(examples) - len(held_out)])
    known = {example.group for example in learned if example.group}
    return learned, [example for example in held_out if example.group not in known]


def expected(trained: Trained, examples: Sequence[Example]) -> Floats:
    """The expected losses, shape (n,)."""
    return np.array([trained.score(example.query, example.answer).loss for example in examples])


def _recent(settings: Settings, route: str, kind: str, training: Training) -> Collected:
    pairs = sources(settings, ()).pairs(since=time.time() - training.since_s)
    return collect(pairs, served_on(settings, route), kind)


async def _rival(store: TrainedStore, name: str) -> Rival:
    """A version in force that cannot be loaded any more decides nothing: the mean harm stands in its place."""
    try:
        found = await store.find(name, None)
    except NotFound:
        return Rival("no version")
    if not found.in_force:
        return Rival("no version")
    try:
        trained = artifact.loads(await store.file(name, found.number))
    except ValueError:
        return Rival(f"version {found.number}, which cannot be loaded", found.number)
    return Rival(f"version {found.number}", found.number, _learned_until(found.record), trained)


def _learned_until(record: VersionRecord) -> float:
    """A file that does not say until when it learned may have learned from all that was there when it came."""
    return record.until or (record.created if record.origin == "file" else 0.0)


def _trial(trained: Trained, rival: Rival, learned: Sequence[Example], newest: Sequence[Example]) -> Trial:
    harm, weight = _column(newest, "harm"), _column(newest, "weight")
    mean_harm = float(np.average(_column(learned, "harm"), weights=_column(learned, "weight")))
    groups = [example.group for example in newest]
    return tried(expected(trained, newest), rival.expects(newest, mean_harm), harm, weight, groups)


def _column(examples: Sequence[Example], name: str) -> Floats:
    return np.array([getattr(example, name) for example in examples], dtype=np.float64)


def _told(trial: Trial, rival: Rival, needed: float) -> dict[str, Any]:
    told = {"against": rival.name, "pairs": trial.pairs, "conversations": trial.conversations}
    return {**told, "gain": trial.gain, "evidence": trial.evidence, "needed": needed}
