"""Targeted comparisons, second draws, the budget of audits: what is drawn, how probable it was, and what it costs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from router.evidence.records import PairRecord
from router.evidence.sample import Sampler
from tests.router.evidence.test_audit import CASCADE, STUDENT, TEACHER, audited, pair_of, seeded
from tests.support.gateway import PATHS, RunningGateway, eventually, running_gateway, two_models
from tests.support.scripted import Reply, ScriptedUpstream, Usage, failing

__all__ = ["seeded"]

Json = dict[str, Any]


async def pairs_of(gateway: RunningGateway) -> list[PairRecord]:
    return [PairRecord.model_validate(pair) for pair in await gateway.pairs()]


def targeting(teacher: ScriptedUpstream, student: ScriptedUpstream, policy: Json, **targeted: float) -> Json:
    """A uniform audit that hardly ever draws, and these targets."""
    return audited(teacher, student, policy=policy, rate=1e-9, targeted={"escalations": 0.0, **targeted})


async def test_an_escalation_is_a_pair_without_a_further_call(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = Reply("doubtful", token_logprob=-3.0)
    async with running_gateway(targeting(teacher, student, CASCADE, escalations=1.0)) as gateway:
        await gateway.ask("chat")
        pair = await pair_of(gateway)
        assert (pair.sample, pair.probability, pair.served) == ("escalation", 1.0, "teacher")
        assert pair.audit_probability == pytest.approx(1e-9)
        assert (pair.teacher.text, pair.student.text) == ("from the teacher", "doubtful")
        assert (len(student.requests), len(teacher.requests)) == (1, 1)
        assert gateway.metric("audits_total", sample="escalation", result="pair") == 1


async def test_a_streamed_escalation_whose_student_was_cut_off_is_not_drawn(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = Reply("a doubtful answer of many words", token_logprob=-3.0)
    policy = CASCADE | {"score_tokens": 1}
    async with running_gateway(targeting(teacher, student, policy, escalations=1.0)) as gateway:
        answer = await gateway.ask("chat", stream=True)
        assert answer.headers["x-router-reason"] == "escalated"
        assert not await gateway.pairs()


@pytest.mark.parametrize(("logprob", "drawn"), [(-0.5, True), (-0.01, False)])
async def test_an_accepted_answer_near_the_threshold_is_drawn(
    logprob: float, drawn: bool, teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = Reply("perhaps", token_logprob=logprob)
    config = targeting(teacher, student, CASCADE, low_confidence=1.0, margin=0.2)
    async with running_gateway(config) as gateway:
        assert (await gateway.ask("chat")).headers["x-router-reason"] == "cascade"
        pairs = await pairs_of(gateway)
        assert [(pair.sample, pair.probability, pair.served) for pair in pairs] == [
            ("confidence", 1.0, "student")
        ] * drawn
        assert len(teacher.requests) == drawn


async def test_only_the_first_requests_with_an_opening_are_new(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    async with running_gateway(targeting(teacher, student, STUDENT, novelty=1.0)) as gateway:
        for text in ("a", "a", "a", "a", "b"):
            await gateway.ask("chat", messages=[{"role": "user", "content": text}])
        pairs = await pairs_of(gateway)
        assert [pair.sample for pair in pairs] == ["novelty"] * 4
        assert [row.au for row in await gateway.rows(5)] == [1, 1, 1, 0, 1]


async def test_the_probability_is_that_of_being_drawn_for_any_reason(
    teacher: ScriptedUpstream, student: ScriptedUpstream, seeded: None
) -> None:
    student.default = Reply("doubtful", token_logprob=-3.0)
    config = audited(teacher, student, policy=CASCADE, rate=0.5, targeted={"escalations": 0.5})
    async with running_gateway(config) as gateway:
        for _ in range(40):
            await gateway.ask("chat")
        pairs = await pairs_of(gateway)
        assert {(pair.sample, pair.audit_probability, pair.probability) for pair in pairs} == {
            ("audit", 0.5, 0.75),
            ("escalation", 0.5, 0.75),
        }
        assert 20 < len(pairs) < 38


async def test_a_second_teacher_draw_is_in_the_pair_with_both_verdicts(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    teacher.script(Reply("blue"), Reply("green"))
    student.default = Reply("green")
    async with running_gateway(audited(teacher, student, policy=TEACHER, second_draw=1.0)) as gateway:
        await gateway.ask("chat")
        pair = await pair_of(gateway)
        assert (pair.teacher.text, pair.second and pair.second.text, pair.noise_probability) == ("blue", "green", 1.0)
        assert pair.second_verdict and not pair.second_verdict.same
        assert pair.second_student and pair.second_student.same
        assert pair.triage and (pair.triage.label, pair.triage.basis) == ("equivalent", "second_draw")
        shadow = next(row for row in await gateway.all_rows(2) if row.o == "shadow")
        assert [charge.model for charge in shadow.ch] == ["student", "teacher"]
        assert gateway.metric("triage_total", route="auto", label="equivalent") == 1


async def test_a_disagreement_asks_the_teacher_again_and_an_agreement_does_not(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.script(Reply("from the teacher"), Reply("red"))
    async with running_gateway(audited(teacher, student, policy=STUDENT, confirm=1.0)) as gateway:
        await gateway.ask("chat")
        await gateway.idle()
        assert len(teacher.requests) == 1
        await gateway.ask("chat")
        disagreement = (await pairs_of(gateway))[0]
        assert disagreement.second and disagreement.noise_probability == 0
        assert disagreement.triage and disagreement.triage.label == "student_wrong"
        assert len(teacher.requests) == 3


async def test_what_an_outcome_tells_needs_no_second_draw(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    student.default = failing(500, "broken")
    async with running_gateway(audited(teacher, student, policy=TEACHER, confirm=1.0)) as gateway:
        await gateway.ask("chat")
        pair = await pair_of(gateway)
        assert pair.second is None and pair.triage and pair.triage.label == "student_wrong"
        assert len(teacher.requests) == 1


async def test_a_judge_is_asked_blind_in_both_orders_and_priced(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    teacher.default = Reply("The shop opens at nine in the morning, on every day of the week but Sunday.")
    student.default = Reply("You will find us open from nine o'clock on, Sundays excepted, all week through.")
    async with ScriptedUpstream(default=Reply('{"reason": "both say the same", "verdict": "tie"}')) as judge:
        config = audited(teacher, student, policy=STUDENT, comparator="careful")
        config["models"]["judge"] = {"base_urls": [judge.url], "price": {"input": 1, "output": 1}, "retries": 0}
        config["comparators"] = {
            "referee": {"kind": "judge", "model": "judge"},
            "careful": {"kind": "prose", "judge": "referee"},
        }
        async with running_gateway(config) as gateway:
            await gateway.ask("chat")
            await gateway.idle()
            assert len(judge.requests) == 2
            shadow = next(row for row in await gateway.all_rows(2) if row.o == "shadow")
            assert [charge.origin for charge in shadow.ch] == ["shadow", "judge", "judge"]
            assert shadow.c["judge"] > 0
            assert gateway.metric("judge_calls_total") == 1
            said = [request.json["messages"] for request in judge.requests]
            assert not any(name in str(said) for name in ("teacher", "student"))


async def test_a_spent_audit_budget_stops_audits_and_no_client(
    redis_url: str, teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    config = audited(teacher, student, policy=STUDENT, budget_usd_per_day=0.0002)
    config |= {"redis": {"url": redis_url}}
    for model in config["models"].values():
        model["max_output_tokens"] = 16
    async with running_gateway(config, redis_url=redis_url) as gateway:
        for _ in range(3):
            assert (await gateway.ask("chat")).status_code == 200
            await gateway.idle()
        assert len(teacher.requests) == 0
        assert gateway.metric("audits_total", result="budget") == 1
        assert gateway.metric("budget_exhausted_total", budget="audit:auto", action="shed") == 1
        assert [row.au for row in await gateway.rows(3)] == [1, 0, 0]
        assert gateway.gateway.auditor.sampler.keep(gateway.gateway.runtime.routes["auto"]) == 0


async def test_while_a_place_is_free_every_request_may_be_audited(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    async with running_gateway(audited(teacher, student, policy=STUDENT)) as gateway:
        route = gateway.gateway.runtime.routes["auto"]
        kept = [Sampler(lambda _, taken=taken: taken / 32).keep(route) for taken in range(34)]  # type: ignore[misc]
    assert kept[:16] == [1.0] * 16
    assert all(more > fewer > 0 for more, fewer in pairwise(kept[15:32]))
    assert kept[32:] == [0.0, 0.0]


async def test_a_pair_that_is_paid_for_is_kept_when_there_is_no_money_for_the_second_draw(
    redis_url: str, teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    config = audited(teacher, student, policy=STUDENT, confirm=1.0, budget_usd_per_day=0.001)
    config |= {"redis": {"url": redis_url}}
    for model in config["models"].values():
        model |= {"max_output_tokens": 16, "template_tokens": 256}
    teacher.default = Reply("from the teacher", usage=Usage(prompt_tokens=10, completion_tokens=100))
    async with running_gateway(config, redis_url=redis_url) as gateway:
        await gateway.ask("chat")
        pair = await pair_of(gateway)
        assert len(teacher.requests) == 1 and pair.second is None
        assert pair.triage and pair.triage.label == "ambiguous"
        assert gateway.metric("budget_exhausted_total", budget="audit:auto") == 1


async def test_an_escalation_that_had_no_log_probabilities_is_compared_with_what_the_client_got(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    student.default = Reply("who knows")
    config = targeting(teacher, student, CASCADE, escalations=1.0)
    config["models"]["student"]["adapt"] = {"drop": ["logprobs"]}
    async with running_gateway(config) as gateway:
        answer = await gateway.ask("chat", stream=True)
        assert answer.headers["x-router-reason"] == "escalated"
        assert (await pair_of(gateway)).teacher.text == "from the teacher"


async def test_a_request_that_no_client_may_route_counts_as_excluded(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    async with running_gateway(two_models(teacher.url, student.url)) as gateway:
        body = {"model": "auto", "messages": [{"role": "user", "content": "x"}]}
        await gateway.post(PATHS["chat"], body, x_router_model="student")
        await gateway.post(PATHS["chat"], body, x_router_no_store="1")
        await eventually(lambda: gateway.metric("retention_excluded_total", route="auto") == 2)
        assert gateway.metric("retention_excluded_total", reason="forced") == 1
        assert gateway.metric("retention_excluded_total", reason="no_store") == 1
        forced, private = await gateway.rows(2)
        assert (forced.fo, forced.ns, private.fo, private.ns) == (1, 0, 0, 1)
