"""The difficulty estimator learns what the examples show, and says what it did."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings

from policies.difficulty.model import DifficultyModel
from policies.difficulty.train import train
from policies.learn import artifact, calibrate
from policies.learn.example import Example
from policies.learn.labels import TooFewLabels
from policies.learn.rows import Floats
from policies.query import Query, Vector
from tests.policies.difficulty.examples import judged
from tests.policies.difficulty.test_features import QUERIES

UNSEEN = judged(400, seed=1)
ASKED = [example.query for example in UNSEEN]
HARM = np.array([example.harm for example in UNSEEN])


@pytest.fixture(scope="module")
def model() -> DifficultyModel:
    return train(judged(400))


@pytest.fixture(scope="module")
def of_pairs() -> DifficultyModel:
    return train(judged(400, scored=False))


@pytest.fixture(scope="module")
def of_few() -> DifficultyModel:
    return train(judged(150))


def auc(score: Floats) -> float:
    return calibrate.auc(score, HARM, np.ones(len(HARM)))


def test_hard_requests_rank_above_easy_ones_that_were_not_seen(model: DifficultyModel) -> None:
    assert model.heads == ("teacher", "student", "teacher_only", "student_only")
    assert auc(model.rank(ASKED)) > 0.75
    assert auc(model.losses(ASKED)) > 0.75


def test_pairs_that_know_only_the_harm_teach_it_too(of_pairs: DifficultyModel) -> None:
    assert of_pairs.heads == ("harm",)
    assert auc(of_pairs.rank(ASKED)) > 0.75


@pytest.mark.parametrize("name", ["model", "of_pairs", "of_few"])
def test_the_expected_loss_is_about_what_is_lost(name: str, request: pytest.FixtureRequest) -> None:
    fitted: DifficultyModel = request.getfixturevalue(name)
    losses = fitted.losses(ASKED)
    assert abs(losses.mean() - HARM.mean()) < 0.08
    assert calibrate.log_loss(losses, HARM, np.ones(400)) < calibrate.log_loss(
        np.full(400, HARM.mean()), HARM, np.ones(400)
    )


def test_one_request_is_scored_as_in_a_batch(model: DifficultyModel) -> None:
    batch = zip(model.losses(ASKED[:20]), model.novelty(ASKED[:20]), strict=True)
    assert [(score.loss, score.novelty) for score in map(model.score, ASKED[:20])] == list(batch)


@settings(max_examples=30)
@given(QUERIES)
def test_any_request_gets_a_loss_and_a_novelty_in_the_unit_interval(model: DifficultyModel, query: Query) -> None:
    score = model.score(query)
    assert 0 <= score.loss <= 1 and 0 <= score.novelty <= 1


@pytest.mark.parametrize("name", ["model", "of_pairs", "of_few"])
def test_a_file_scores_as_the_model_that_was_written(name: str, request: pytest.FixtureRequest) -> None:
    fitted: DifficultyModel = request.getfixturevalue(name)
    read = artifact.loads(artifact.dumps(fitted))
    assert isinstance(read, DifficultyModel)
    assert (read.version, read.kind, read.report) == (fitted.version, "difficulty", fitted.report)
    assert read.losses(ASKED).tolist() == fitted.losses(ASKED).tolist()
    assert read.rank(ASKED).tolist() == fitted.rank(ASKED).tolist()


def test_a_file_is_served_without_the_libraries_that_trained_it(model: DifficultyModel, tmp_path: Path) -> None:
    path = tmp_path / "policy"
    path.write_bytes(artifact.dumps(model))
    program = f"""
import sys
sys.modules["scipy"] = sys.modules["lightgbm"] = None
from policies.learn import artifact
from policies.query import Query, Vector
with open({str(path)!r}, "rb") as file:
    print(artifact.loads(file.read()).score(Query(last="What is 12 + 13?", route="sums")).loss)
"""
    served = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(served.stdout) == model.score(Query(last="What is 12 + 13?", route="sums")).loss


def test_features_of_another_version_are_refused(model: DifficultyModel) -> None:
    content = model.content()
    older = artifact.write(replace(content, settings={**content.settings, "features": 0}))
    with pytest.raises(ValueError, match=r"has features of version 0, .* train it again"):
        artifact.loads(older)


def test_a_file_from_before_there_were_steps_says_to_train_again(model: DifficultyModel) -> None:
    content = model.content()
    tensors = {name: each for name, each in content.tensors.items() if not name.startswith("steps.")}
    with pytest.raises(ValueError, match=r"without steps: train it again"):
        artifact.loads(artifact.write(replace(content, tensors=tensors)))


TENSORS = ("bias", "dense", "table", "low", "high", "slopes", "rarity", "rarities")


@pytest.mark.parametrize("name", TENSORS)
def test_a_file_with_a_part_of_another_shape_is_refused(model: DifficultyModel, name: str) -> None:
    content = model.content()
    cut = artifact.write(replace(content, tensors={**content.tensors, name: content.tensors[name][:-1]}))
    with pytest.raises(ValueError, match=f"cannot be used: '{name}' has shape"):
        artifact.loads(cut)


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_file_with_a_number_that_is_none_is_refused(model: DifficultyModel, name: str, number: float) -> None:
    content = model.content()
    array = content.tensors[name].copy()
    array.reshape(-1)[-1] = number
    with pytest.raises(ValueError, match=f"'{name}' holds (nan|inf)"):
        artifact.loads(artifact.write(replace(content, tensors={**content.tensors, name: array})))


@pytest.mark.parametrize("changes", [{"heads": ["a", "b", "c", "d"]}, {"heads": "harm"}, {"calibrator": "sine"}])
def test_a_file_with_settings_that_mean_nothing_is_refused(model: DifficultyModel, changes: dict[str, object]) -> None:
    content = model.content()
    with pytest.raises(ValueError, match="cannot be used"):
        artifact.loads(artifact.write(replace(content, settings={**content.settings, **changes})))


def test_a_loss_that_is_no_number_leaves_the_request_to_the_teacher(of_pairs: DifficultyModel) -> None:
    broken = replace(of_pairs, bias=of_pairs.bias * np.nan)
    assert broken.score(ASKED[0]).loss == 1.0
    assert broken.losses(ASKED[:3]).tolist() == [1.0] * 3


def test_training_again_gives_the_same_version_and_other_labels_another(of_few: DifficultyModel) -> None:
    assert train(judged(150)).version == of_few.version
    assert train(judged(150, seed=5)).version != of_few.version


def test_under_200_labels_neither_words_nor_steps_are_learnt(of_few: DifficultyModel, model: DifficultyModel) -> None:
    assert {kind for head in of_few.report["heads"].values() for kind in head["shares"]} == {"structure"}
    hard, easy = (Query(last=f"Tell me about the flag of {place}, please.") for place in ("tuvalu", "france"))
    assert of_few.score(hard).loss == pytest.approx(of_few.score(easy).loss, abs=0.02)
    assert model.score(hard).loss > model.score(easy).loss + 0.2


def test_a_caller_that_was_not_seen_gets_what_the_request_alone_says(model: DifficultyModel) -> None:
    asked = Query(last="What is 10 + 11?", whole="What is 10 + 11?")
    assert model.score(replace(asked, tenant="nobody", route="elsewhere")).loss == model.score(asked).loss


def test_a_caller_whose_requests_are_harder_gets_a_higher_loss() -> None:
    random = Random(0)
    examples = []
    for place in range(300):
        tenant = ("easy", "hard")[place % 2]
        harm = float(random.random() < (0.1, 0.7)[place % 2])
        examples.append(
            Example(str(place), Query(last="Do the usual.", whole="Do the usual.", tenant=tenant), harm=harm)
        )
    fitted = train(examples)
    easy, hard, unknown = (
        fitted.score(Query(last="Do the usual.", whole="Do the usual.", tenant=tenant)).loss
        for tenant in ("easy", "hard", "new")
    )
    assert easy < 0.25 < unknown < 0.55 < hard


def test_what_is_hard_for_one_caller_may_be_easy_for_another() -> None:
    """Long requests fail at one tenant and short ones at the other: the common slope says nothing."""
    random = Random(0)
    examples = []
    for place in range(400):
        long = random.random() < 0.5
        text = "list " + "item " * (random.randint(60, 90) if long else random.randint(2, 6))
        tenant = ("a", "b")[place % 2]
        failing = 0.8 if long == (tenant == "a") else 0.1
        query = Query(last=text, whole=text, tenant=tenant)
        examples.append(Example(str(place), query, harm=float(random.random() < failing)))
    fitted = train(examples, steps=False)
    text = "list " + "item " * 75
    assert fitted.score(Query(last=text, whole=text, tenant="a")).loss > 0.55
    assert fitted.score(Query(last=text, whole=text, tenant="b")).loss < 0.35


def test_a_rarely_looked_at_example_counts_by_its_weight() -> None:
    asked = Query(last="hello", whole="hello")
    examples = [
        Example(str(place), asked, harm=float(place < 30), weight=9.0 if place < 30 else 1.0) for place in range(120)
    ]
    assert train(examples).score(asked).loss == pytest.approx(270 / 360, abs=0.05)


def test_turns_of_a_conversation_never_judge_each_other() -> None:
    """Random labels that conversations share: with leaking folds the model would seem to know them."""
    random = Random(0)
    examples = []
    for talk in range(60):
        harm = float(random.random() < 0.5)
        text = f"topic{talk} " * 5
        examples += [Example(f"{talk}.{turn}", Query(last=text), harm=harm, group=str(talk)) for turn in range(4)]
    assert train(examples, steps=False).report["auc"] < 0.65


def test_unlike_text_is_novel_and_text_like_the_examples_is_not(model: DifficultyModel) -> None:
    strange = Query(last="Quantum chromodynamics renormalises gluon propagators perturbatively.")
    assert model.score(strange).novelty == 1.0
    assert 0.3 < float(np.mean(model.novelty(ASKED))) < 0.7


def test_the_report_is_json_and_says_what_was_tried_and_found(model: DifficultyModel) -> None:
    report = json.loads(json.dumps(model.report, allow_nan=False))
    assert report["examples"] == 400 and report["effective_examples"] == pytest.approx(400)
    student = report["heads"]["student"]
    assert set(student["log_losses"]) == set(student["shares"]) == {"everything", "words", "steps"}
    assert student["log_losses"]["words"]["100"] != student["log_losses"]["everything"]["100"]
    assert sum(student["shares"].values()) == pytest.approx(1)
    assert student["shares"]["words"] > student["shares"]["steps"]
    assert student["log_loss"] < min(student["log_losses"]["steps"].values())
    assert sum(row["count"] for row in report["reliability"]) == 400
    assert report["log_loss"] < report["log_loss_of_the_mean"]
    assert set(report["words"]["harder"]) & {"tuvalu", "nauru", "palau"}
    assert set(report["words"]["easier"]) & {"france", "japan", "kenya"}


def test_where_no_words_were_learned_the_report_names_none(of_few: DifficultyModel) -> None:
    assert of_few.report["words"] == {"harder": [], "easier": []}


def test_the_report_is_of_losses_that_neither_fit_nor_calibration_had_seen(model: DifficultyModel) -> None:
    assert model.report["log_loss"] == pytest.approx(model.report["calibrations"][model.report["calibration"]])


def test_the_report_names_no_word_of_one_conversation_only_and_says_until_when() -> None:
    secret = [
        Example(f"s{turn}", Query(last="write to kowalski", whole="write to kowalski"), harm=1.0, group="one", time=7.0)
        for turn in range(12)
    ]
    report = train([*judged(300), *secret]).report
    assert "kowalski" not in report["words"]["harder"] + report["words"]["easier"]
    assert report["until"] == 7.0


def test_the_calibration_set_has_one_request_of_a_conversation() -> None:
    examples = [replace(example, group=str(place // 5)) for place, example in enumerate(judged(400, scored=False))]
    kept = train(examples, steps=False).calibration_set
    assert kept is not None
    assert len(kept.loss) == 80 and kept.weight.tolist() == [5.0] * 80


def test_the_calibration_set_is_out_of_sample(model: DifficultyModel) -> None:
    kept = model.calibration_set
    assert kept is not None
    examples = judged(400)
    assert kept.harm.tolist() == [example.harm for example in examples]
    fitted = model.losses([example.query for example in examples])
    assert calibrate.log_loss(kept.loss, kept.harm, kept.weight) > calibrate.log_loss(fitted, kept.harm, kept.weight)


def test_progress_rises_to_the_end() -> None:
    told: list[tuple[str, float]] = []
    train(judged(150), progress=lambda stage, share: told.append((stage, share)))
    shares = [share for _, share in told]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert {"features", "head teacher", "head student", "calibration"} <= {stage for stage, _ in told}


@pytest.mark.parametrize(("harmed", "fine"), [(10, 10), (100, 2), (0, 100)])
def test_too_few_labels_or_one_class_are_refused_with_the_counts(harmed: int, fine: int) -> None:
    examples = [Example(str(place), Query(last="hello"), harm=float(place < harmed)) for place in range(harmed + fine)]
    with pytest.raises(TooFewLabels, match=f"at least 30 .* there are {harmed + fine}, {harmed} with harm"):
        train(examples)


def test_labels_of_too_few_conversations_are_refused() -> None:
    examples = [Example(str(place), Query(), harm=float(place % 2), group=str(place % 4)) for place in range(40)]
    with pytest.raises(TooFewLabels, match="at least 5 conversations, there are 4"):
        train(examples)


def test_small_harms_count_by_their_size() -> None:
    examples = [Example(str(place), Query(last="word " * (place % 2 * 9)), harm=place % 2 * 0.4) for place in range(60)]
    losses = train(examples).losses([Query(last=""), Query(last="word " * 9)])
    assert losses[0] < 0.1 < 0.3 < losses[1] < 0.5


def test_a_teacher_that_never_fails_is_no_obstacle() -> None:
    examples = [replace(example, teacher=1.0, harm=1.0 - (example.student or 0.0)) for example in judged(250)]
    fitted = train(examples)
    assert auc(fitted.rank(ASKED)) > 0.75
    assert artifact.loads(artifact.dumps(fitted)).version == fitted.version


def test_thirty_labels_of_two_classes_are_enough() -> None:
    examples = [Example(str(place), Query(last="word " * place), harm=float(place >= 20)) for place in range(30)]
    fitted = train(examples)
    assert fitted.score(Query(last="word " * 28)).loss > fitted.score(Query(last="word " * 3)).loss


class Lengths:
    """An encoder whose one useful number no other feature shows."""

    name, dimension = "lengths-1", 3

    def encode(self, texts: Sequence[str]) -> Floats:
        return np.array([[float(sum(map(ord, each)) % 2), 0.0, 1.0] for each in texts])


def test_an_encoder_s_vectors_are_learnt_and_their_mean_stands_in_for_them() -> None:
    random = Random(0)
    texts = [f"case {random.randint(0, 10**6)}" for _ in range(300)]
    odd = Lengths().encode(texts)[:, 0]
    examples = [Example(text, Query(last=text), harm=float(value)) for text, value in zip(texts, odd, strict=True)]
    fitted = train(examples, steps=False, encoder=Lengths())
    assert artifact.loads(artifact.dumps(fitted)).version == fitted.version
    assert fitted.encoder == "lengths-1"
    asked = Query(last="case 12")
    even, odd_one = (
        fitted.score(replace(asked, vector=Vector("lengths-1", (value, 0.0, 1.0)))) for value in (0.0, 1.0)
    )
    assert even.loss < fitted.score(asked).loss < odd_one.loss


@pytest.mark.parametrize("vector", [Vector("another", (1.0, 0.0, 1.0)), Vector("lengths-1", (1.0,))])
def test_a_vector_of_another_encoder_or_length_is_not_used(vector: Vector) -> None:
    fitted = train(judged(60), encoder=Lengths())
    asked = Query(last="What is 10 + 11?")
    assert fitted.score(replace(asked, vector=vector)).loss == fitted.score(asked).loss


def test_an_encoder_that_breaks_its_word_is_named() -> None:
    class Broken(Lengths):
        dimension = 4

    with pytest.raises(ValueError, match=r"encoder 'lengths-1' gave vectors of shape \(40, 3\), not \(40, 4\)"):
        train(judged(40), encoder=Broken())
