"""Out-of-fold evaluation and the judgement, with trainers whose worth is known beforehand."""

from __future__ import annotations

import json
import xml.etree.ElementTree
from collections.abc import Sequence

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from policies.bounds import Floats
from policies.judge.evaluate import Plan, out_of_fold
from policies.judge.judgement import FIGURES, Contender, Judgement, Prices, judge
from policies.judge.metrics import Undefined
from policies.judge.plot import plot
from policies.judge.report import as_text, values
from policies.judge.rows import Row, TableError
from policies.judge.trainers import TRAINERS, Rank, Trainer
from policies.learn.example import Example
from policies.learn.trainers import MODULES, Progress
from policies.query import Query


def rows(count: int = 120, seed: int = 0) -> list[Row]:
    """Half of two datasets; of every prompt there are two rows."""
    rng = np.random.default_rng(seed)
    return [
        Row(number, f"d{number % 2}", f"prompt {number // 2}", float(rng.random() < 0.85), float(rng.random() < 0.5))
        for number in range(count)
    ]


class Recorder:
    """A trainer that ranks by the row's number and remembers what it learned from."""

    def __init__(self) -> None:
        self.learned: list[list[Example]] = []
        self.ranked: list[list[Row]] = []

    def __call__(self, examples: Sequence[Example], *, seed: int, progress: Progress | None) -> Rank:
        self.learned.append(list(examples))
        if progress is not None:
            progress("half", 0.5)

        def rank(asked: Sequence[Row]) -> Floats:
            self.ranked.append(list(asked))
            return np.array([float(row.id) for row in asked])

        return rank


def test_every_row_is_ranked_once_a_seed_by_a_policy_that_never_saw_its_prompt() -> None:
    table, recorder = rows(), Recorder()
    worth = out_of_fold(table, recorder, Plan(folds=4, seeds=2))
    assert worth.tolist() == [list(range(120))] * 2
    assert len(recorder.learned) == 8
    for learned, ranked in zip(recorder.learned, recorder.ranked, strict=True):
        assert {example.query.last for example in learned}.isdisjoint(row.prompt for row in ranked)
        assert len(learned) + len(ranked) == 120


def test_the_limit_of_rows_to_learn_from_holds_and_does_not_touch_those_that_are_ranked() -> None:
    recorder = Recorder()
    out_of_fold(rows(), recorder, Plan(folds=5, train_limit=30))
    assert [len(learned) for learned in recorder.learned] == [30] * 5
    assert sum(map(len, recorder.ranked)) == 120


def test_the_progress_goes_up_to_its_end() -> None:
    told: list[tuple[str, float]] = []
    out_of_fold(rows(), Recorder(), Plan(folds=2, seeds=2), lambda stage, share: told.append((stage, share)))
    assert told[0] == ("fit 1 of 4: half", 0.125)
    assert [share for _, share in told] == sorted(share for _, share in told)
    assert told[-1] == ("fit 4 of 4: half", 0.875)


@pytest.fixture(scope="module")
def judgement() -> Judgement:
    table = rows(400)
    gain = np.array([(row.teacher or 0) - (row.student or 0) for row in table])
    noise = np.random.default_rng(2).normal(size=(2, 400))
    contenders = {"good": Contender(gain + noise), "gate": Contender(gain + 2 * noise, answers=True)}
    return judge(table, contenders, Prices(teacher_usd=0.01, student_usd=0.001), draws=200)


def value(judgement: Judgement, policy: str, figure: str) -> float:
    found = judgement.policies[policy].figures[figure].value
    assert found is not None
    return found


def test_random_and_oracle_stand_beside_and_bound_the_policies(judgement: Judgement) -> None:
    assert value(judgement, "random", "apgr") == pytest.approx(0.5)
    assert value(judgement, "random", "roc_auc") == pytest.approx(0.5)
    assert value(judgement, "oracle", "roc_auc") == pytest.approx(1.0)
    assert (
        0.5 < value(judgement, "gate", "apgr") < value(judgement, "good", "apgr") < value(judgement, "oracle", "apgr")
    )
    assert list(judgement.policies) == ["good", "gate", "random", "oracle"]


def test_shares_of_the_teacher_are_those_that_keep_its_score(judgement: Judgement) -> None:
    """A random order is a straight line, on which they can be reckoned."""
    teacher, student = (judgement.alone[name].value or 0 for name in ("teacher", "student"))
    for figure, kept in (("share95", 0.95), ("share99", 0.99)):
        assert value(judgement, "random", figure) == pytest.approx((kept * teacher - student) / (teacher - student))
    assert value(judgement, "random", "cpt80") == pytest.approx(0.8)


def test_intervals_hold_the_values_and_spreads_are_of_several_seeds(judgement: Judgement) -> None:
    for judged in judgement.policies.values():
        for figure in judged.figures.values():
            assert figure.interval is not None
            assert figure.value is not None
            assert figure.interval.low - 1e-9 <= figure.value <= figure.interval.high + 1e-9
    assert (judgement.policies["good"].figures["apgr"].spread or 0) > 0
    assert judgement.policies["random"].figures["apgr"].spread is None


def test_the_gain_is_paired_with_the_first_policy(judgement: Judgement) -> None:
    gain = judgement.gains["gate"]
    assert gain.value == pytest.approx(value(judgement, "good", "apgr") - value(judgement, "gate", "apgr"))
    assert gain.interval is not None
    assert gain.interval.low > 0


def test_savings_are_what_the_shares_cost_and_a_gate_pays_for_every_answer_of_the_student(judgement: Judgement) -> None:
    for seed_free in ("random", "oracle"):
        share = value(judgement, seed_free, "share95")
        assert value(judgement, seed_free, "saved95") == pytest.approx((1 - share) * 0.9)
    share = value(judgement, "gate", "share95")
    assert value(judgement, "gate", "saved95") == pytest.approx(1 - share - 0.1)
    assert judgement.alone["student_saves"].value == pytest.approx(0.9)


def test_without_prices_each_rows_own_cost_counts() -> None:
    table = [
        Row(0, "", "dear", 1.0, 0.0, teacher_usd=0.9, student_usd=0.0),
        Row(1, "", "cheap", 1.0, 1.0, teacher_usd=0.1, student_usd=0.0),
    ]
    judged = judge(table, {"p": Contender(np.array([[1.0, 0.0]]))}, draws=10)
    assert value(judged, "p", "saved99") == pytest.approx(1 - 0.9 * 0.98)
    unpriced = judge([Row(0, "", "a", 1.0, 0.0), table[1]], {"p": Contender(np.zeros((1, 2)))}, draws=10)
    assert unpriced.policies["p"].figures["saved99"].value is None
    assert unpriced.alone["student_saves"].value is None


def test_telling_datasets_apart_is_worth_nothing_inside_them() -> None:
    table = [Row(n, "ab"[n % 2], f"p{n}", 1.0, float(n % 2 if n % 10 else 1 - n % 2)) for n in range(100)]
    judged = judge(table, {"p": Contender(np.array([[1.0 - n % 2 for n in range(100)]]))}, draws=20)
    assert value(judged, "p", "apgr") > 0.7
    assert value(judged, "p", "apgr_within") == pytest.approx(0.5)


def test_a_teacher_without_a_lead_leaves_the_gap_undefined_and_says_the_rest() -> None:
    table = [Row(n, "", f"p{n}", float(n % 2), float((n + 1) % 2)) for n in range(20)]
    judged = judge(table, {"p": Contender(np.arange(20.0)[None])}, draws=20)
    assert judged.policies["p"].figures["apgr"].value is None
    assert value(judged, "p", "auc") == pytest.approx(0.5, abs=0.06)
    assert "The teacher is not better than the student here" in as_text(judged, Plan())
    assert json.loads(json.dumps(values(judged, Plan()), allow_nan=False))["policies"]["p"]["apgr"]["value"] is None
    assert "APGR" not in plot(judged, "even")


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(TableError, match="row 7 has no score of the teacher"):
        judge([Row(7, "", "p")], {"p": Contender(np.zeros((1, 1)))})
    with pytest.raises(ValueError, match="shapes differ"):
        judge(rows(4), {"p": Contender(np.zeros((1, 3)))})
    with pytest.raises(Undefined, match="no row"):
        judge([], {"p": Contender(np.zeros((1, 0)))})


def test_the_text_has_a_line_a_figure_and_a_column_a_policy(judgement: Judgement) -> None:
    lines = as_text(judgement, Plan(seeds=2, train_limit=50)).splitlines()
    assert lines[0] == "400 rows of 2 datasets; 5 folds, mean of 2 seeds, at most 50 rows to learn from."
    assert lines[3].split() == ["good", "gate", "random", "oracle", "student", "alone", "teacher", "alone"]
    assert [line.split("  ")[0] for line in lines[4:7]] == ["APGR", "APGR inside datasets", "CPT(50)"]
    assert lines[-1].startswith("good has +0.")
    assert as_text(judgement, Plan()).startswith("400 rows of 2 datasets; 5 folds, mean of 1 seed.")


def test_the_values_are_json_and_complete(judgement: Judgement) -> None:
    found = json.loads(json.dumps(values(judgement, Plan(seeds=2)), allow_nan=False))
    assert set(found["policies"]["good"]) == {*FIGURES, "curve"}
    assert found["policies"]["good"]["apgr"]["low"] < found["policies"]["good"]["apgr"]["high"]
    assert len(found["policies"]["good"]["curve"]["scores"]) == 101
    assert (found["seeds"], found["rows"], found["teacher"]["value"]) == (2, 400, judgement.alone["teacher"].value)


def test_the_plot_is_svg_with_a_curve_for_each_policy_and_escaped_names(judgement: Judgement) -> None:
    drawn = plot(judgement, "<gsm8k> & more")
    root = xml.etree.ElementTree.fromstring(drawn)
    space = "{http://www.w3.org/2000/svg}"
    words = [text.text for text in root.iter(f"{space}text")]
    assert "<gsm8k> & more" in words
    assert any(word is not None and word.startswith("gate, APGR 0.") for word in words)
    assert len(list(root.iter(f"{space}polyline"))) == 4
    assert len(list(root.iter(f"{space}polygon"))) == 2
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    for line in root.iter(f"{space}polyline"):
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height


@pytest.mark.parametrize("name", TRAINERS)
def test_every_trainer_learns_and_ranks_requests_without_labels(name: str) -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(80) < 0.5
    table = [
        Row(
            n,
            "d",
            f"{'prove the theorem' if hard[n] else 'say hello'} number {n}",
            1.0,
            float(not hard[n]),
            "an answer",
        )
        for n in range(80)
    ]
    rank = TRAINERS[name].fit([row.example() for row in table], seed=0, progress=None)
    asked = [
        Row(n, "d", words, answer="an answer") for n, words in enumerate(("say hello you", "prove the theorem x", ""))
    ]
    worth = rank(asked)
    assert worth.shape == (3,)
    assert np.isfinite(worth).all()
    assert worth[1] > worth[0]


class Threads:
    """What `train` below gives: it says how many threads linear algebra had while it was trained."""

    def __init__(self) -> None:
        self.most = max(each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas")

    def rank(self, queries: Sequence[Query]) -> Floats:
        return np.full(len(queries), float(self.most))


def train(examples: Sequence[Example], *, seed: int, progress: Progress | None) -> Threads:
    return Threads()


def test_learning_takes_one_core_whatever_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODULES, "counting", __name__)
    with threadpool_limits(2, user_api="blas"):
        assert Trainer("counting").fit([], seed=0, progress=None)(rows(1)).tolist() == [1.0]
