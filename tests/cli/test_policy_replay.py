"""`policy replay`: on logs made by hand, through the policies' own decisions."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml

from router.evidence.records import Tokens
from router.replay.log import unseen
from router.settings import load
from router.trained.blocking import with_store
from router.trained.files import read_trained
from router.trained.record import record_of
from router.trained.store import TrainedStore
from serving.demo.tasks import workload
from tests.cli.logged import (
    STUDENT,
    STUDENT_NANO,
    T0,
    TEACHER,
    TEACHER_NANO,
    Json,
    asked,
    configured,
    difficult,
    hundred,
    lines,
    replayed,
    row,
    rows,
    run,
    told,
)
from tests.support.gateway import running_gateway, two_models
from tests.support.pairs import pair, spool_pairs
from tests.surface.fixtures import Served

REQUESTS = 30


def test_an_observed_log_tells_what_the_student_would_have_cost_and_lost(tmp_path: Path) -> None:
    config, log = configured(tmp_path, STUDENT), lines(tmp_path / "pairs.jsonl", hundred())
    found = told("replay", config, log)
    assert found["estimator"] == "snips" and found["audited_requests"] == 100 and found["effective"] == 100
    assert found["candidate"]["loss"]["value"] == pytest.approx(0.2)
    assert found["candidate"]["loss"]["low"] == pytest.approx(0.127, abs=0.001)  # Clopper and Pearson, 20 of 100
    assert found["candidate"]["cost_usd"]["value"] == pytest.approx(STUDENT_NANO / 1e9)
    assert found["logged"]["teacher_share"]["value"] == 1 and found["logged"]["loss"]["value"] == 0
    assert found["difference"]["cost_usd"]["value"] == pytest.approx((STUDENT_NANO - TEACHER_NANO) / 1e9)
    shown = run("replay", config, log).stdout
    assert "100 audited requests in 100 conversations, worth 100 of equal weight" in shown
    assert "20.0% [12.7, 29.2]" in shown and "95% intervals" in shown


def test_the_rows_make_it_doubly_robust_and_know_the_shares(tmp_path: Path) -> None:
    config, pairs = configured(tmp_path, {"kind": "split", "student_share": 0.25}), hundred()
    written = [row(number, "teacher", 1.0, drawn=number < 100) for number in range(200)]
    log = lines(tmp_path / "pairs.jsonl", pairs)
    found = told("replay", config, log, "--from", rows(tmp_path / "rows.jsonl", written))
    assert found["estimator"] == "doubly_robust" and found["rows"] == 200
    assert found["candidate"]["teacher_share"] == {"value": 0.75, "low": 0.75, "high": 0.75}
    assert found["logged"]["loss"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["candidate"]["loss"]["value"] == pytest.approx(0.05, abs=0.02)
    assert "probability of 0 or 1" in found["refused"]["randomised"] and found["notes"] == []


def test_a_log_of_thresholds_without_audits_is_refused(tmp_path: Path) -> None:
    written = rows(tmp_path / "rows.jsonl", [row(number, "teacher", 1.0) for number in range(200)])
    done = run("replay", configured(tmp_path, STUDENT), written)
    assert done.exit_code == 3 and done.stdout == ""
    assert "the log says nothing of this policy" in done.stderr
    assert "100.0% of the logged decisions had a probability of 0 or 1" in done.stderr
    assert "0 audited requests: at least 50 are needed" in done.stderr


def test_a_split_without_audits_tells_the_cost_and_not_the_loss(tmp_path: Path) -> None:
    written = [row(number, "teacher" if number % 2 else "student", 0.5) for number in range(200)]
    config, log = configured(tmp_path, STUDENT), rows(tmp_path / "rows.jsonl", written)
    found = told("replay", config, log)
    assert found["estimator"] is None and "candidate" not in found
    assert found["randomised"]["snips"]["value"] == pytest.approx(STUDENT_NANO / 1e9)
    assert found["randomised"]["effective"] == 100
    assert "what the student loses" in found["refused"]["audited"]
    shown = run("replay", config, log).stdout
    assert "The loss is not known: 0 audited requests" in shown and "By 200 decisions drawn at random" in shown


def test_auditing_the_candidate_asks_the_other_arm(tmp_path: Path) -> None:
    log = lines(tmp_path / "pairs.jsonl", hundred(score=-3.0))
    for policy, nano in ((TEACHER, STUDENT_NANO), (STUDENT, TEACHER_NANO), ({"kind": "cascade"}, 0)):
        config = configured(tmp_path, policy, audit={"rate": 0.25})
        assert told("replay", config, log)["audits_usd"] == pytest.approx(0.25 * nano / 1e9)
    config = configured(tmp_path, STUDENT, audit={"rate": 0.25})
    assert "Audits come on top: the candidate's cost about $" in run("replay", config, log).stdout


@pytest.mark.parametrize(("rate", "paid"), [(0.02, 0.1), (0.25, 0.25)])
def test_a_floor_that_audits_more_often_is_in_what_audits_cost(tmp_path: Path, rate: float, paid: float) -> None:
    policy = {"kind": "cascade", "escalate_at": 1.0, "floor": {"audit_rate": 0.1}}
    config = configured(tmp_path, policy, redis="redis://localhost", audit={"rate": rate})
    log = lines(tmp_path / "pairs.jsonl", hundred())
    assert told("replay", config, log)["audits_usd"] == pytest.approx(paid * TEACHER_NANO / 1e9)


def test_few_audits_are_refused(tmp_path: Path) -> None:
    log = lines(tmp_path / "pairs.jsonl", hundred()[:49])
    done = run("replay", configured(tmp_path, STUDENT), log)
    assert done.exit_code == 3 and "49 audited requests: at least 50 are needed" in done.stderr
    done = run("tune", configured(tmp_path, {"kind": "split", "student_share": 0.5}), log)
    assert done.exit_code == 3 and "49 audited requests" in done.stderr


def test_turns_count_as_one_conversation_and_repeated_questions_do_not(tmp_path: Path) -> None:
    turn = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "?"}]
    config, records = configured(tmp_path, STUDENT), [asked(record, messages=turn[:1]) for record in hundred()]
    alike = lines(tmp_path / "alike.jsonl", records)
    assert "100 conversations" in run("replay", config, alike).stdout
    turns = lines(tmp_path / "turns.jsonl", [*records[:50], *(asked(record, messages=turn) for record in records[50:])])
    assert "in 1 conversation," in run("replay", config, turns).stdout
    later = [asked(record, messages=turn).model_copy(update={"time": record.time + 4000}) for record in records[50:]]
    apart = lines(tmp_path / "apart.jsonl", [*records[:50], *later])
    assert "in 2 conversations," in run("replay", config, apart).stdout


def test_a_cascade_is_judged_on_the_students_logged_answers(tmp_path: Path) -> None:
    sure, unsure = hundred(score=-0.01), [pair(number, harm=True, score=-3.0) for number in range(100, 120)]
    found = replayed(tmp_path, {"kind": "cascade", "escalate_at": 0.5}, [*sure, *unsure])
    assert found["candidate"]["teacher_share"]["value"] == pytest.approx(20 / 120)
    assert found["candidate"]["loss"]["value"] == pytest.approx(20 / 120)
    # Every request pays the student, and those that it is not sure of the teacher too.
    expected = (120 * STUDENT_NANO + 20 * TEACHER_NANO) / 120 / 1e9
    assert found["candidate"]["cost_usd"]["value"] == pytest.approx(expected)


def test_an_answer_without_a_score_is_escalated_as_it_would_be_live(tmp_path: Path) -> None:
    found = replayed(tmp_path, {"kind": "cascade"}, hundred(score=None))
    assert found["candidate"]["teacher_share"]["value"] == 1


def test_of_a_stream_only_what_the_gate_waited_for_is_wasted(tmp_path: Path) -> None:
    records = []
    for record in hundred(score=-3.0):
        student = record.student.model_copy(update={"tokens": Tokens(input=1000, output=640), "cost_nano_usd": 712_000})
        records.append(record.model_copy(update={"student": student, "stream": True}))
    found = replayed(tmp_path, {"kind": "cascade"}, records)
    wasted_nano = 1000 * 200 + 64 * 800  # at the recorded prices: 0.2 and 0.8 USD per million
    assert found["candidate"]["cost_usd"]["value"] == pytest.approx((TEACHER_NANO + wasted_nano) / 1e9)


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ({"kind": "cascade", "score_tokens": 32}, "another part of an answer than its first 64 tokens"),
        ({"kind": "cascade", "agreement": {"samples": 2}}, "asks for more than the answer (`agreement`, `checks`)"),
        (
            {"kind": "rules", "rules": [{"when": {"header": {"x-tier": "gold"}}, "use": "teacher"}]},
            "looks at the header 'x-tier', which no log keeps",
        ),
    ],
)
def test_what_the_log_does_not_hold_is_not_guessed(tmp_path: Path, policy: Json, reason: str) -> None:
    records = []
    for record in hundred():
        student = record.student.model_copy(update={"tokens": Tokens(input=10, output=50)})
        records.append(record.model_copy(update={"student": student}))
    done = run("replay", configured(tmp_path, policy), lines(tmp_path / "pairs.jsonl", records))
    assert done.exit_code == 3 and reason in done.stderr, done.output


def test_rules_read_the_logged_text(tmp_path: Path) -> None:
    records = [
        asked(record, messages=[{"role": "user", "content": "prove it" if number % 5 == 0 else "say hi"}])
        for number, record in enumerate(hundred())
    ]
    policy = {"kind": "rules", "rules": [{"when": {"regex": "prove"}, "use": "teacher"}], "default": "student"}
    found = replayed(tmp_path, policy, records)
    assert found["candidate"]["teacher_share"]["value"] == pytest.approx(0.2)
    assert found["candidate"]["loss"]["value"] == 0


def test_what_does_not_fit_the_student_stays_with_the_teacher(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    records = [asked(record, tools=tools) if number % 2 else record for number, record in enumerate(hundred())]
    found = replayed(tmp_path, STUDENT, records)
    assert found["candidate"]["teacher_share"]["value"] == pytest.approx(0.5)


def test_a_request_at_an_operating_point_keeps_it(tmp_path: Path) -> None:
    records = [asked(record, model="auto@1.0") for record in hundred(score=-3.0)]
    found = replayed(tmp_path, {"kind": "cascade", "escalate_at": 0.1}, records)
    assert found["candidate"]["teacher_share"]["value"] == 0


def test_a_failed_student_is_rescued_where_the_route_says_so(tmp_path: Path) -> None:
    records = []
    for record in hundred():
        student = record.student.model_copy(update={"error": "timeout"})
        records.append(record.model_copy(update={"student": student} if record.verdict.harm else {}))
    log = lines(tmp_path / "pairs.jsonl", records)
    rescued = told("replay", configured(tmp_path, STUDENT), log)
    lost = told("replay", configured(tmp_path, STUDENT, fallback={"student": "error"}), log)
    assert rescued["candidate"]["teacher_share"]["value"] == pytest.approx(0.2)
    assert rescued["candidate"]["loss"]["value"] == 0
    assert lost["candidate"]["loss"]["value"] == pytest.approx(0.2)


def test_what_became_of_a_request_is_read_from_its_reason(tmp_path: Path) -> None:
    """Of four: escalated, rescued, drawn by a split, accepted by a gate."""
    reasons = [
        ("teacher", "escalated", 1.0),
        ("teacher", "fallback:student", 0.0),
        ("student", "split", 0.5),
        ("student", "cascade", 0.0),
    ]
    records = [
        record.model_copy(
            update=dict(zip(("served", "reason", "teacher_probability"), reasons[number % 4], strict=True))
        )
        for number, record in enumerate(hundred())
    ]
    found = replayed(tmp_path, TEACHER, records)
    assert found["logged"]["teacher_share"]["value"] == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    teachers, students = (1 + 1 + 0.5 + 0) / 4, (1 + 1 + 0.5 + 1) / 4
    expected = (teachers * TEACHER_NANO + students * STUDENT_NANO) / 1e9
    assert found["logged"]["cost_usd"]["value"] == pytest.approx(expected)


def test_what_says_nothing_of_this_student_is_left_out_and_counted(tmp_path: Path) -> None:
    odd = [
        pair(200).model_copy(update={"student_version": "other"}),
        pair(201).model_copy(update={"teacher": pair(201).teacher.model_copy(update={"error": "down"})}),
        pair(202).model_copy(update={"audit_probability": 0.0}),
        pair(203).model_copy(update={"route": "another"}),
        asked(pair(204), messages=7),
    ]
    log = lines(tmp_path / "pairs.jsonl", [*hundred(), *odd, *hundred()])
    found = told("replay", configured(tmp_path, STUDENT), log)
    assert found["audited_requests"] == 100
    assert found["left_out"] == {
        "other versions of the student": 1,
        "teacher failed": 1,
        "targeted while audit.rate was 0": 1,
        "request cannot be read": 1,
    }
    shown = run("replay", configured(tmp_path, STUDENT), log).stdout
    assert "Left out of the audited requests: 1 (other versions of the student)" in shown


def test_audits_that_left_no_pair_are_told_of(tmp_path: Path) -> None:
    spool_pairs(tmp_path / "spool", hundred(), [row(n, "teacher", 1.0, drawn=n < 150) for n in range(300)])
    config = configured(tmp_path, STUDENT, mode="observe", audit={"rate": 0.5})
    found = told("replay", config, "redis", "--since", "2023-11-01")
    assert "50 of 150 requests that were drawn for an audit have no usable pair" in found["notes"][1]
    assert "mode observe" in found["notes"][0]
    assert found["traffic"]["known"] and "cost_usd_per_day" in found["candidate"]


def test_disagreements_alone_are_told_of(tmp_path: Path) -> None:
    log = lines(tmp_path / "pairs.jsonl", [pair(number, harm=True) for number in range(60)])
    shown = run("replay", configured(tmp_path, STUDENT), log).stdout
    assert "Careful: every pair is a disagreement: without the agreements beside them" in shown


def test_redis_is_read_from_a_time_on(tmp_path: Path) -> None:
    spool_pairs(tmp_path / "spool", hundred())
    done = run("replay", configured(tmp_path, STUDENT), "redis")
    assert done.exit_code == 3 and "0 audited requests" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("redis", "--route", "nowhere"), "unknown route 'nowhere'; known: auto"),
        (("nothing.jsonl",), "nothing.jsonl"),
        (("redis", "--trained", "auto:difficulty"), "the route's policy learns nothing"),
        (("redis", "--since", "yesterday"), "not understood"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, arguments: tuple[str, ...], problem: str) -> None:
    done = run("replay", configured(tmp_path, STUDENT), *arguments)
    assert done.exit_code == 2 and problem in done.stderr, done.output


def test_a_line_that_is_no_row_is_named(tmp_path: Path) -> None:
    log = rows(tmp_path / "rows.jsonl", [row(1, "teacher", 1.0)])
    log.write_bytes(log.read_bytes() + b'{"v": "x"}\n')
    done = run("replay", configured(tmp_path, STUDENT), log)
    assert done.exit_code == 2 and "rows.jsonl: line 2: no decision row" in done.stderr


def test_a_trained_policy_is_judged_only_on_what_it_cannot_have_learned(tmp_path: Path, trained: Path) -> None:
    held_back, seen = [difficult(n) for n in range(150)], [difficult(n, "train") for n in range(150, 200)]
    log = lines(tmp_path / "pairs.jsonl", [*held_back, *seen])
    policy = {"kind": "difficulty", "threshold": 0.3, "file": str(trained)}
    found = told("replay", configured(tmp_path, policy), log)
    assert found["left_out"] == {"the policy learned from them": 50} and found["audited_requests"] == 150
    assert found["candidate"]["teacher_share"]["value"] == pytest.approx(1 / 3)
    assert found["candidate"]["loss"]["value"] == 0


def test_a_policy_that_follows_a_file_is_replayed_and_tuned_from_it(tmp_path: Path, trained: Path) -> None:
    """It is no --trained FILE: the name of its slot has the kind in it."""
    log = lines(tmp_path / "pairs.jsonl", [difficult(n) for n in range(300)])
    config = configured(tmp_path, {"kind": "difficulty", "threshold": 0.5, "file": str(trained)})
    found = told("replay", config, log)
    assert found["policy"]["version"].endswith(read_trained(trained).version)
    assert found["policy"] == told("replay", config, log, "--trained", trained)["policy"]
    assert told("tune", config, log)["frontier"]


def test_earlier_pairs_count_tenfold_where_a_tenth_was_held_back() -> None:
    early, late = difficult(1, "train"), difficult(9, "train")
    kept, probabilities = unseen([early, difficult(2), late], until=early.time + 5)
    assert [each.id for each in kept] == [difficult(2).id, late.id]
    assert list(probabilities.values()) == [pytest.approx(0.05), 0.5]


def test_a_version_in_the_store_knows_until_when_it_learned(tmp_path: Path, trained: Path, redis_url: str) -> None:
    path = configured(tmp_path, {"kind": "difficulty", "threshold": 0.3}, redis=redis_url)
    settings, model, data = load(path), read_trained(trained), trained.read_bytes()
    log = lines(tmp_path / "pairs.jsonl", [difficult(n, "train") for n in range(100)])
    assert "there is no trained policy 'auto:difficulty'" in run("replay", path, log).stderr

    async def put(store: TrainedStore) -> None:
        for until in (T0 + 29.5, T0 + 1e9):
            record = record_of(model, "train", T0, until=until)
            await store.put("auto:difficulty", data, record)
        await store.promote("auto:difficulty", 1)

    with_store(settings, put)
    found = told("replay", path, log)
    assert found["audited_requests"] == 70 and found["policy"]["version"].endswith(model.version)
    done = run("replay", path, log, "--trained", "auto:difficulty@2")
    assert done.exit_code == 3 and "0 audited requests" in done.stderr
    done = run("replay", path, log, "--trained", "auto:difficulty@x")
    assert done.exit_code == 2 and "expected NAME, NAME@NUMBER or a file" in done.stderr


async def test_replaying_the_policy_that_wrote_the_log_gives_what_it_did(
    embedded_models: dict[str, Served], redis_url: str, tmp_path: Path
) -> None:
    """A cascade over real models, every request audited: money and escalations come out as they were."""
    config = two_models(embedded_models["teacher"].url, embedded_models["student"].url)
    for name in ("teacher", "student"):
        config["models"][name] |= {"model": name, "supports": ["logprobs"]}
    config["routes"]["auto"] |= {
        "policy": {"kind": "cascade", "escalate_at": 0.1},
        "audit": {"rate": 1.0, "max_in_flight": REQUESTS, "confirm": 0},
    }
    config |= {"redis": redis_url, "retention": {"min_pairs": REQUESTS}}
    path = tmp_path / "router.yaml"
    path.write_text(yaml.safe_dump(config))
    async with running_gateway(config, redis_url=redis_url) as gateway:
        asked = [[{"role": "user", "content": example.prompt}] for example in workload(REQUESTS, 5)]
        answers = await asyncio.gather(*(gateway.ask("chat", messages=each, temperature=0) for each in asked))
        escalated = sum(answer.headers["x-router-reason"] == "escalated" for answer in answers)
        assert 0 < escalated < REQUESTS
        assert len(await gateway.pairs()) == REQUESTS
        written = [each for each in await gateway.rows() if each.o == "ok"]
        spent = sum(charge.nano for each in written for charge in each.ch)
        found = await asyncio.to_thread(told, "replay", path, "redis")
    assert found["estimator"] == "doubly_robust" and found["rows"] == REQUESTS
    for side in ("candidate", "logged"):
        assert found["snips"][side]["teacher_share"]["value"] == pytest.approx(escalated / REQUESTS)
        assert found["snips"][side]["cost_usd"]["value"] == pytest.approx(spent / REQUESTS / 1e9)
    assert found["snips"]["difference"]["cost_usd"] == {"value": 0.0, "low": 0.0, "high": 0.0}
