"""The learned gate: it learns what its examples show, scores alike in every way, and survives its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from policies.gate.answer import StudentAnswer, signals
from policies.gate.model import GateModel
from policies.gate.train import train
from policies.learn import artifact, calibrate
from policies.learn.example import Example
from policies.learn.labels import TooFewLabels
from policies.query import Query


def example(place: int, *, scores: bool = True) -> Example:
    """A small problem whose answer is wrong in its arithmetic for every third; the teacher misses every seventh."""
    draw = Random(place)
    boxes, each = draw.randint(2, 40), draw.randint(2, 40)
    wrong = place % 3 == 0
    shown = boxes * each + (draw.randint(1, 9) if wrong else 0)
    prompt = f"Ida has {boxes} boxes with {each} {draw.choice(['nuts', 'pens', 'cups'])} each. How many in all?"
    text = f"Ida has {boxes} * {each} = {shown} in all.\n#### {shown}"
    teacher, student = float(place % 7 != 0), float(not wrong)
    return Example(
        id=str(place),
        query=Query(last=prompt, whole=prompt, route="sums"),
        harm=max(teacher - student, 0.0),
        teacher=teacher if scores else None,
        student=student if scores else None,
        answer=StudentAnswer(text),
    )


EXAMPLES = [example(place) for place in range(240)]
NEW = [example(place) for place in range(1_000, 1_060)]


@pytest.fixture(scope="module")
def gate() -> GateModel:
    return train(EXAMPLES)


@pytest.fixture(scope="module")
def harm_gate() -> GateModel:
    """From few examples, of which only the harm is known."""
    return train([example(place, scores=False) for place in range(90)])


def losses(model: GateModel, examples: Sequence[Example]) -> np.ndarray:
    return model.losses([each.query for each in examples], [each.answer or StudentAnswer("") for each in examples])


def auc(model: GateModel, examples: Sequence[Example]) -> float:
    harm = np.array([each.harm for each in examples])
    return calibrate.auc(losses(model, examples), harm, np.ones(len(harm)))


def test_a_gate_learns_from_scores_that_wrong_sums_are_harm(gate: GateModel) -> None:
    assert gate.heads == ("teacher", "student")
    assert auc(gate, NEW) > 0.85


def test_a_gate_learns_from_harm_alone(harm_gate: GateModel) -> None:
    assert harm_gate.heads == ("harm",)
    assert auc(harm_gate, NEW) > 0.8


def test_losses_are_probabilities_that_agree_with_what_happened(gate: GateModel) -> None:
    loss = losses(gate, NEW)
    assert ((loss >= 0) & (loss <= 1)).all()
    assert abs(loss.mean() - np.mean([each.harm for each in NEW])) < 0.1


def test_one_answer_scores_as_it_does_in_a_batch(gate: GateModel) -> None:
    alone = [gate.score(each.query, each.answer) for each in NEW]
    answers = [each.answer or StudentAnswer("") for each in NEW]
    assert [score.loss for score in alone] == pytest.approx(losses(gate, NEW).tolist(), abs=1e-9)
    together = gate.novelty([each.query for each in NEW], answers)
    assert [score.novelty for score in alone] == pytest.approx(together.tolist(), abs=1e-9)


def test_the_rank_puts_what_the_teacher_would_mend_first(gate: GateModel) -> None:
    rank = gate.rank([each.query for each in NEW], [each.answer or StudentAnswer("") for each in NEW])
    gain = np.array([(each.teacher or 0.0) - (each.student or 0.0) for each in NEW])
    assert rank[gain > 0].mean() > rank[gain <= 0].mean()


def test_an_answer_of_another_kind_is_newer_than_one_like_those_seen(gate: GateModel) -> None:
    odd = StudentAnswer("```python\nprint('hello')\n```\n" * 30, finish_reason="length", agreement=0.2)
    strange = gate.score(Query(last="Write a program that prints a greeting thirty times."), odd)
    assert strange.novelty > np.median([gate.score(each.query, each.answer).novelty for each in NEW])


def test_a_gate_survives_its_file(gate: GateModel) -> None:
    read = artifact.loads(artifact.dumps(gate))
    assert isinstance(read, GateModel)
    assert (read.version, read.report) == (gate.version, gate.report)
    assert losses(read, NEW).tolist() == losses(gate, NEW).tolist()


def test_training_twice_gives_the_same_gate(harm_gate: GateModel) -> None:
    assert train([example(place, scores=False) for place in range(90)]).version == harm_gate.version


def test_a_gate_of_other_features_is_refused(gate: GateModel) -> None:
    content = gate.content()
    old = replace(content, settings={**content.settings, "features": "0"})
    with pytest.raises(ValueError, match="train it again"):
        artifact.loads(artifact.write(old))


PARTS = ("bias", "dense", "table", "shares", "distances", "scaling.mean", "trees.student.limit")


@pytest.mark.parametrize("name", PARTS)
def test_a_gate_with_a_part_of_another_shape_or_with_nan_is_refused(gate: GateModel, name: str) -> None:
    content = gate.content()
    array = content.tensors[name]
    for wrong in (array[:-1], np.where(np.arange(len(array)).reshape(-1, *[1] * (array.ndim - 1)) == 0, np.nan, array)):
        with pytest.raises(ValueError, match=r"the trained policy (cannot be used|is damaged)"):
            artifact.loads(artifact.write(replace(content, tensors={**content.tensors, name: wrong})))


def test_a_loss_that_is_no_number_escalates(gate: GateModel) -> None:
    broken = replace(gate, bias=gate.bias * np.nan)
    assert broken.score(NEW[0].query, NEW[0].answer).loss == 1.0
    assert losses(broken, NEW[:3]).tolist() == [1.0] * 3


def test_a_gate_without_an_answer_says_so(gate: GateModel) -> None:
    with pytest.raises(ValueError, match="there is none"):
        gate.score(Query(last="How many?"))


def test_the_report_says_what_was_tried_and_how_it_held_up(gate: GateModel) -> None:
    report = gate.report
    assert (report["examples"], report["decides_after"]) == (240, "answer")
    for head in report["heads"].values():
        assert head["log_loss"] == pytest.approx(min(head["share_of_trees"].values()))
        assert head["log_loss"] <= min(*head["linear"].values(), *head["rounds_of_trees"].values())
    assert any("wrong" in name for name in report["telling"]["student"])
    assert report["log_loss"] < report["log_loss_of_the_mean"]
    assert sum(row["count"] for row in report["reliability"]) == 240


def test_examples_without_an_answer_are_left_out(harm_gate: GateModel) -> None:
    silent = [replace(example(place, scores=False), answer=None) for place in range(500, 520)]
    mixed = train([*(example(place, scores=False) for place in range(90)), *silent])
    assert mixed.version == harm_gate.version


def test_nothing_to_look_at_is_refused() -> None:
    with pytest.raises(TooFewLabels, match="none of the examples has one"):
        train([replace(each, answer=None) for each in EXAMPLES])


def test_too_few_or_one_class_is_refused() -> None:
    with pytest.raises(TooFewLabels, match="at least 30"):
        train(EXAMPLES[:20])
    with pytest.raises(TooFewLabels, match="with harm"):
        train([each for each in EXAMPLES if each.harm == 0])
    with pytest.raises(TooFewLabels, match="at least 5 conversations, there are 4"):
        train([replace(each, group=str(place % 4)) for place, each in enumerate(EXAMPLES)])


def test_of_a_conversation_one_answer_is_kept_for_a_floor_and_the_report_says_until_when() -> None:
    talks = [replace(example(place, scores=False), group=str(place // 3), time=float(place)) for place in range(90)]
    fitted = train(talks)
    kept = fitted.calibration_set
    assert kept is not None
    assert len(kept.loss) == 30 and kept.weight.tolist() == [3.0] * 30
    assert fitted.report["until"] == 89.0
    assert fitted.report["log_loss"] == pytest.approx(fitted.report["calibrations"][fitted.report["calibration"]])


def test_a_gate_that_decides_after_a_sentence_does_not_look_further() -> None:
    model = train([example(place, scores=False) for place in range(90)], after="sentence")
    query, answer = NEW[0].query, StudentAnswer("Ida has a few boxes of them. 2 * 3 = 6\n#### 6")
    begun = replace(answer, text="Ida has a few boxes of them.", signals=signals([-0.1]), complete=False)
    assert model.score(query, replace(answer, text="Ida has a few boxes of them. 2 * 3 = 7")) == model.score(
        query, answer
    )
    assert model.score(query, begun) == model.score(query, answer)
    read = artifact.loads(artifact.dumps(model))
    assert read.score(query, answer) == model.score(query, answer)
