"""Scheduled training: what it learns from, what it tries the new version on, and when that one is promoted."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from policies.learn import artifact
from policies.learn.example import Example
from policies.query import Query
from router.evidence.records import PairRecord
from router.settings import Settings, parse
from router.trained.blocking import with_store
from router.trained.examples import example_of
from router.trained.record import record_of
from router.trained.retrain import divided, retrain
from router.trained.settings import Training
from router.trained.store import Stored, TrainedStore
from router.trained.train import train
from tests.support.gateway import two_models
from tests.support.pairs import STUDENT_VERSION, spool_pairs
from tests.trained.lessons import lessons

NAME = "auto:difficulty"
START = 1_700_000_000.0


@pytest.fixture
def settings(tmp_path: Path, redis_url: str) -> Settings:
    url = "http://127.0.0.1/v1"
    own = {"redis": {"url": redis_url}, "evidence": {"spool_dir": str(tmp_path / "spool")}}
    return parse(yaml.safe_dump(two_models(url, url, **own)), {})


def recent(pairs: list[PairRecord]) -> list[PairRecord]:
    """The same, of the last hours."""
    shift = time.time() - pairs[-1].time - 1
    return [each.model_copy(update={"time": each.time + shift}) for each in pairs]


def learn(settings: Settings, tmp_path: Path, pairs: list[PairRecord], **training: Any) -> Any:
    spool_pairs(tmp_path / "spool", pairs)
    return retrain(settings, "auto", "difficulty", Training(**training))


def kept(settings: Settings) -> list[Stored]:
    return with_store(settings, lambda store: store.versions(NAME))


def in_force(settings: Settings, pairs: list[PairRecord]) -> None:
    """A version that was trained by hand from these pairs is in force."""
    examples = [example_of(each) for each in pairs]
    trained = train("difficulty", examples)
    record = record_of(trained, "train", time.time(), until=examples[-1].time)

    async def put(store: TrainedStore) -> None:
        await store.promote(NAME, await store.put(NAME, artifact.dumps(trained), record))

    with_store(settings, put)


def example(number: int, group: str = "") -> Example:
    return Example(str(number), Query(), 0.0, time=float(number), group=group or str(number))


def test_the_newest_of_what_the_version_in_force_has_not_seen_are_kept_for_the_trial() -> None:
    examples = [example(number) for number in range(100)]
    learned, newest = divided(examples, until=49.0)
    assert len(newest) == 15 and [*learned, *newest] == examples
    assert divided(examples, until=99.0) == (examples, [])
    assert divided([], until=0.0) == ([], [])


def test_a_conversation_that_was_learned_from_is_in_no_trial() -> None:
    examples = [example(number, group="long" if number in (3, 9) else "") for number in range(10)]
    learned, newest = divided(examples, until=-1.0)
    assert [each.time for each in newest] == [7.0, 8.0] and len(learned) == 7


def test_the_first_version_is_promoted_where_it_beats_the_mean(settings: Settings, tmp_path: Path) -> None:
    outcome = learn(settings, tmp_path, recent(lessons(400)))
    assert outcome.result == "promoted", outcome
    (stored,) = kept(settings)
    assert stored.in_force and stored.record.origin == "retrain"
    trial = stored.record.trial
    assert trial is not None and trial["against"] == "no version" and trial["pairs"] == 120
    assert trial["evidence"] > trial["needed"] == pytest.approx(2 / 0.05)


def test_a_version_in_force_that_has_become_wrong_is_replaced(settings: Settings, tmp_path: Path) -> None:
    pairs = recent(lessons(200, upside_down=True) + lessons(600, first=200))
    in_force(settings, pairs[:200])
    assert learn(settings, tmp_path, pairs).result == "promoted"
    assert [each.in_force for each in kept(settings)] == [False, True]


def test_a_version_that_is_no_better_stays_a_candidate_and_the_next_trial_asks_for_more(
    settings: Settings, tmp_path: Path
) -> None:
    pairs = recent(lessons(800))
    in_force(settings, pairs[:500])
    assert learn(settings, tmp_path, pairs).result == "candidate"
    assert retrain(settings, "auto", "difficulty", Training()).result == "candidate"
    first, second, third = kept(settings)
    assert first.in_force and not second.promoted
    assert second.record.trial is not None and third.record.trial is not None
    assert (second.record.trial["needed"], third.record.trial["needed"]) == pytest.approx((40, 120))


def test_a_file_that_does_not_say_until_when_it_learned_is_tried_on_later_pairs_alone(
    settings: Settings, tmp_path: Path
) -> None:
    pairs = recent(lessons(400))
    trained = train("difficulty", [example_of(each) for each in pairs])
    file = record_of(trained, "file", pairs[-1].time + 0.5)

    async def put(store: TrainedStore) -> None:
        await store.promote(NAME, await store.put(NAME, artifact.dumps(trained), file))

    with_store(settings, put)
    assert learn(settings, tmp_path, pairs).why.startswith("0 newer pairs")


def test_a_scheduled_version_says_which_models_it_was_taught_by(settings: Settings, tmp_path: Path) -> None:
    learn(settings, tmp_path, recent(lessons(400)))
    data = with_store(settings, lambda store: store.file(NAME, 1))
    assert artifact.read(data).report["models"] == {"teacher": ["t1"], "student": [STUDENT_VERSION]}


def test_a_winner_stays_a_candidate_where_nothing_is_to_be_promoted(settings: Settings, tmp_path: Path) -> None:
    assert learn(settings, tmp_path, recent(lessons(400)), promote=False).result == "candidate"
    assert [each.in_force for each in kept(settings)] == [False]


@pytest.mark.parametrize(
    ("pairs", "training", "why"),
    [
        (100, {}, "100 pairs of the 200"),
        (200, {"trial_pairs": 70}, "60 newer pairs of the 70"),
    ],
)
def test_with_too_few_pairs_nothing_is_trained(
    settings: Settings, tmp_path: Path, pairs: int, training: dict[str, Any], why: str
) -> None:
    outcome = learn(settings, tmp_path, recent(lessons(pairs)), **training)
    assert outcome.result == "too_few" and why in outcome.why
    assert kept(settings) == []


def test_one_class_alone_is_too_few(settings: Settings, tmp_path: Path) -> None:
    harmless = [each for each in lessons(600) if not each.verdict.harm]
    assert learn(settings, tmp_path, recent(harmless)).result == "too_few"


def test_pairs_that_are_too_old_are_not_learned_from(settings: Settings, tmp_path: Path) -> None:
    assert learn(settings, tmp_path, lessons(400)).why.startswith("0 pairs")


def test_a_version_in_force_that_cannot_be_loaded_is_tried_as_if_there_were_none(
    settings: Settings, tmp_path: Path
) -> None:
    pairs = recent(lessons(400))
    in_force(settings, pairs[:200])

    async def spoil(store: TrainedStore) -> None:
        found = await store.find(NAME, None)
        await store.promote(NAME, await store.put(NAME, b"of another time", found.record))

    with_store(settings, spoil)
    assert learn(settings, tmp_path, pairs).result == "promoted"
    trial = kept(settings)[-1].record.trial
    assert trial is not None and trial["against"] == "version 2, which cannot be loaded"
