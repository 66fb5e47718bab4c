"""`disagreements tail|stats` and `advise`: on evidence made by hand, and on a real gateway that observes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from policies.advise import Point
from policies.bounds import Interval
from policies.cascade import Cascade
from policies.gate.answer import StudentAnswer, signals
from policies.learn.trained import Slots
from policies.query import Query
from router.cli import app
from router.cli.advised_policy import policy_block
from router.evidence.batches import Record
from router.evidence.records import LabelRecord
from router.evidence.streams import LABELS
from router.settings import Config, parse
from serving.demo.tasks import workload
from tests.support.gateway import running_gateway, two_models
from tests.support.pairs import pair, row, spool_pairs, spool_records
from tests.support.policy_parts import StillRoute
from tests.surface.fixtures import Served

REQUESTS = 30


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration without Redis."""
    path = tmp_path / "router.yaml"
    models = two_models("http://t/v1", "http://s/v1", evidence={"spool_dir": str(tmp_path / "spool")})
    path.write_text(yaml.safe_dump(models))
    return path


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def yaml_of(advice: str) -> dict[str, Any]:
    """The block that the advice says to set."""
    block = advice.partition("Set this route (what else you had said of it is kept):\n")[2].partition("\n\n")[0]
    loaded: dict[str, Any] = yaml.safe_load(block)
    return loaded


def test_tail_shows_the_latest_disagreements(config: Path, spool: Path) -> None:
    spool_pairs(spool, [pair(number, harm=number % 2 == 1) for number in range(8)])
    done = run("disagreements", "tail", "--config", config, "--count", "2")
    assert done.exit_code == 0, done.output
    assert "question 7" in done.stdout and "question 5" in done.stdout
    assert "question 3" not in done.stdout and "question 6" not in done.stdout
    assert "teacher  right" in done.stdout and "student  wrong" in done.stdout
    lines = run("disagreements", "tail", "--config", config, "--count", "2", "--json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [pair(5).id, pair(7).id]


def test_tail_shows_why_a_pair_was_compared_and_whose_mistake_it_is(config: Path, spool: Path) -> None:
    told = pair(1, harm=True).model_copy(update={"sample": "escalation"})
    spool_pairs(spool, [told, pair(2, harm=True).model_copy(update={"triage": None})])
    done = run("disagreements", "tail", "--config", config)
    first, second = (line for line in done.stdout.splitlines() if line.startswith("0"))
    assert "auto, escalation, served by the teacher, differs in text: student_wrong (second_draw)" in first
    assert second.endswith("auto, audit, served by the teacher, differs in text: not triaged")


def test_tail_writes_no_terminal_escapes(config: Path, spool: Path) -> None:
    record = pair(1, harm=True)
    calls = [{"name": "f\x07", "arguments": "[x]"}]
    hostile = record.teacher.model_copy(update={"text": "\x1b[31mred[/bold]\n", "tool_calls": calls})
    spool_pairs(spool, [record.model_copy(update={"teacher": hostile, "route": "au\x1bto[red]"})])
    done = run("disagreements", "tail", "--config", config)
    assert done.exit_code == 0 and not {"\x1b", "\x07"} & set(done.stdout)
    assert "red[/bold]" in done.stdout and "[x])" in done.stdout


def test_stats_count_pairs_by_verdict_and_whose_mistake(config: Path, spool: Path) -> None:
    escalated = [pair(n, harm=True).model_copy(update={"sample": "escalation"}) for n in range(20, 22)]
    spool_pairs(spool, [*(pair(number, harm=number < 3) for number in range(10)), *escalated])
    label = LabelRecord(id=pair(1).id, time=1.0, label="equivalent", by="eve")
    said = [label, label.model_copy(update={"time": 0.0, "label": "ambiguous"})]
    spool_records(spool, [Record(LABELS, word.id, word.model_dump_json().encode()) for word in said])
    done = run("disagreements", "stats", "--config", config, "--json")
    assert done.exit_code == 0
    base = {"route": "auto", "served": "teacher"}
    wrong = {"verdict": "text", "triage": "student_wrong", "pairs": 2}
    assert json.loads(done.stdout) == [
        {**base, "sample": "audit", "verdict": "agree", "triage": "", "pairs": 7},
        {**base, "sample": "audit", "verdict": "text", "triage": "equivalent", "pairs": 1},
        {**base, "sample": "audit", **wrong},
        {**base, "sample": "escalation", **wrong},
    ]
    shown = run("disagreements", "stats", "--config", config).stdout
    assert all(word in shown for word in ("triage", "agree", "escalation", "equivalent", "student_wrong"))


def test_advise_says_how_many_more_pairs_are_needed(config: Path, spool: Path) -> None:
    for arguments in ((), ("--max-loss", "0.01")):
        done = run("advise", "--config", config, "--route", "auto", *arguments)
        assert done.exit_code == 0
        assert "more pairs are needed" in done.stdout and "Set this route" not in done.stdout
    spool_pairs(spool, [pair(number) for number in range(10)], [row(number) for number in range(20)])
    done = run("advise", "--config", config, "--json")
    advice = json.loads(done.stdout)
    assert advice["pairs_used"] == 10 and advice["pairs_needed"] > 0 and advice["policy"] is None


def escalates_by(config: Config) -> Callable[[float | None], bool]:
    """Whether the configured gate sends an answer with this mean log-probability to the teacher."""
    policy = config.routes["auto"].policy.build("auto", Slots())
    assert isinstance(policy, Cascade)

    def escalates(mean: float | None) -> bool:
        assert mean is not None
        score = policy.gate.score(Query(), StudentAnswer("", signals=signals([mean])))
        return score is not None and policy.gate.choose(score.loss, StillRoute(), 0.0).arm == "teacher"

    return escalates


def test_advise_prints_share_savings_loss_and_yaml_that_loads(config: Path, spool: Path) -> None:
    pairs = [pair(number, harm=number % 3 == 0, score=-2.0 if number % 3 == 0 else -0.01) for number in range(400)]
    spool_pairs(spool, pairs, [row(number) for number in range(800)])
    done = run("advise", "--config", config, "--route", "auto", "--max-loss", "0.05")
    assert done.exit_code == 0, done.output
    assert "The student on 66.5% of" in done.stdout and "saves $" in done.stdout
    assert "at a loss of at most" in done.stdout and "(95%" in done.stdout
    data = yaml.safe_load(config.read_text())
    data["routes"]["auto"] |= yaml_of(done.stdout)["routes"]["auto"]
    escalates = escalates_by(parse(yaml.safe_dump(data), {}).config)
    assert [escalates(p.student.mean_logprob) for p in pairs] == [p.verdict.harm for p in pairs]


def test_advise_for_answers_without_scores_is_a_split(config: Path, spool: Path) -> None:
    spool_pairs(spool, [pair(number, score=None) for number in range(200)], [row(number) for number in range(20)])
    block = yaml_of(run("advise", "--config", config).stdout)["routes"]["auto"]["policy"]
    assert block["kind"] == "split" and 0 < block["student_share"] <= 1


def test_advise_names_the_routes_it_knows(config: Path) -> None:
    done = run("advise", "--config", config, "--route", "nowhere")
    assert done.exit_code == 2 and "known: auto" in done.stderr


SCORES = st.lists(
    st.tuples(st.floats(-8, 0) | st.floats(-1e-6, 0) | st.sampled_from([-1.0, -0.5, -0.1]), st.booleans()),
    min_size=1,
    max_size=60,
)


@given(SCORES, st.data())
def test_the_advised_policy_takes_the_decisions_of_the_point(
    scores: list[tuple[float, bool]], data: st.DataObject
) -> None:
    pairs = [pair(number, harm=harm, score=score) for number, (score, harm) in enumerate(scores)]
    threshold = data.draw(st.sampled_from([score for score, _ in scores]))
    whole = Interval(0, 1)
    point = Point("cascade", 0.05, threshold, 0.5, whole, 0.0, 0.05, 1.0, whole)
    config = two_models("http://t/v1", "http://s/v1", policy=policy_block(point, pairs))
    escalates = escalates_by(parse(yaml.safe_dump(config), {}).config)
    for score, _ in scores:
        assert escalates(score) == (score < threshold)


async def test_observing_real_models_ends_in_advice(
    embedded_models: dict[str, Served], redis_url: str, tmp_path: Path
) -> None:
    """The teacher serves everything, the student answers in the background, `advise` reads what came of it."""
    config = two_models(embedded_models["teacher"].url, embedded_models["student"].url)
    for name in ("teacher", "student"):
        config["models"][name] |= {"model": name, "supports": ["logprobs", "tools"]}
    config["routes"]["auto"] |= {"mode": "observe", "audit": {"rate": 1.0, "max_in_flight": REQUESTS}}
    config["redis"] = redis_url
    path = tmp_path / "router.yaml"
    path.write_text(yaml.safe_dump(config))
    async with running_gateway(config, redis_url=redis_url) as gateway:
        prompts = [example.prompt for example in workload(REQUESTS, 3)]
        answers = await asyncio.gather(
            *(gateway.ask("chat", messages=_user(prompt), temperature=0) for prompt in prompts)
        )
        assert {answer.headers["x-router-model"] for answer in answers} == {"teacher"}
        pairs = await gateway.pairs()
        assert len(pairs) == REQUESTS
        assert {pair["served"] for pair in pairs} == {"teacher"}
        assert all(pair["student"]["mean_logprob"] is not None for pair in pairs)
        careful = await asyncio.to_thread(run, "advise", "--config", path, "--max-loss", "0.01")
        assert "more pairs" in careful.stdout or "More pairs" in careful.stdout
        daring = await asyncio.to_thread(run, "advise", "--config", path, "--max-loss", "0.99")
        assert "The student on" in daring.stdout and "saves $" in daring.stdout, daring.stdout
        advised = json.loads(json.dumps(config))
        advised["routes"] = yaml_of(daring.stdout)["routes"]
    async with running_gateway(advised, redis_url=redis_url) as gateway:
        answer = await gateway.ask("chat", messages=_user("upper cat"), temperature=0)
        assert answer.headers["x-router-model"] == "student"


def _user(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]
