"""The live figures: what counts, what does not, and that they survive restarts and add up over gateways."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.router.evidence.test_audit import STUDENT, TEACHER, audited
from tests.support.gateway import PATHS, RunningGateway, eventually, flush, running_gateway
from tests.support.scripted import Fault, Reply, ScriptedUpstream, failing

Json = dict[str, Any]


def measured(teacher: ScriptedUpstream, student: ScriptedUpstream, **audit: Any) -> Json:
    return audited(teacher, student, **audit) | {"retention": {"min_pairs": 2}}


async def ask(gateway: RunningGateway, student: ScriptedUpstream, *answers: str) -> None:
    for answer in answers:
        student.script(Reply(answer))
        await gateway.ask("chat")
        await gateway.idle()


async def shown(gateway: RunningGateway) -> None:
    """What is counted so far has reached the metrics."""
    await gateway.idle()
    gateway.gateway.retention.ship()
    await gateway.gateway.writer.flush()
    await gateway.gateway.retention.refresh()


def figure(gateway: RunningGateway, name: str, slice_: str = "all") -> float:
    return gateway.metric(name, route="auto", slice=slice_)


async def test_with_every_request_compared_the_figures_are_exact(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    async with running_gateway(measured(teacher, student, policy=STUDENT)) as gateway:
        await ask(gateway, student, *["from the teacher"] * 3, "wrong")
        await shown(gateway)
        for name in ("student_retention", "student_retention_lower_bound", "student_retention_upper_bound"):
            assert figure(gateway, name) == pytest.approx(0.75)
        for name in ("route_loss", "route_loss_lower_bound", "route_loss_upper_bound"):
            assert figure(gateway, name) == pytest.approx(0.25)
        assert figure(gateway, "retention_pairs") == figure(gateway, "retention_effective_pairs") == 4


async def test_a_teacher_that_serves_everything_loses_nothing_and_hides_no_student(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    async with running_gateway(measured(teacher, student, policy=TEACHER)) as gateway:
        await ask(gateway, student, "wrong", "wrong", "wrong")
        await shown(gateway)
        assert figure(gateway, "retention_pairs") == 0
        assert math.isnan(figure(gateway, "student_retention"))


async def test_a_teacher_that_failed_in_the_background_counts_as_harm_in_the_bound_alone(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    async with running_gateway(measured(teacher, student, policy=STUDENT)) as gateway:
        await ask(gateway, student, *["from the teacher"] * 3)
        teacher.script(failing(500, "broken"))
        await ask(gateway, student, "who knows")
        await shown(gateway)
        assert figure(gateway, "route_loss") == 0
        assert figure(gateway, "route_loss_upper_bound") == pytest.approx(0.25)
        assert figure(gateway, "student_retention_lower_bound") == pytest.approx(0.75)


async def test_fewer_pairs_than_the_floor_give_no_figure(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    async with running_gateway(measured(teacher, student, policy=STUDENT)) as gateway:
        await ask(gateway, student, "from the teacher")
        await shown(gateway)
        assert figure(gateway, "retention_pairs") == 1
        assert math.isnan(figure(gateway, "student_retention"))
        await ask(gateway, student, "from the teacher")
        await shown(gateway)
        assert figure(gateway, "student_retention") == 1


async def test_slices_are_told_apart(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    teacher.default = student.default = Reply('{"a": 1}')
    async with running_gateway(measured(teacher, student, policy=STUDENT)) as gateway:
        schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
        for model in gateway.gateway.runtime.models.values():
            assert "json_schema" not in model.supports
        for _ in range(2):
            await gateway.ask("chat", messages=[{"role": "user", "content": "long " * 2000}])
            await gateway.ask("chat", response_format=schema)  # for the teacher: it does not fit
        await shown(gateway)
        assert figure(gateway, "retention_pairs", "length:long") == 2
        assert figure(gateway, "retention_pairs", "kind:text") == 2
        assert figure(gateway, "retention_pairs", "kind:json") == 0
        assert figure(gateway, "retention_pairs", "length:short") == 0


async def test_the_teachers_own_noise_is_taken_out(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    async with running_gateway(measured(teacher, student, policy=STUDENT, second_draw=1.0)) as gateway:
        for first, second in (("a", "a"), ("a", "b")):
            teacher.script(Reply(first), Reply(second))
            await ask(gateway, student, "wrong" if second == "b" else "a")
        await shown(gateway)
        assert gateway.metric("teacher_noise", route="auto") == 0.5
        assert figure(gateway, "student_retention") == 0.5
        assert gateway.metric("student_retention_normalised", route="auto") == 1
        assert gateway.metric("student_retention_normalised_lower_bound", route="auto") == 1


async def test_excluded_requests_do_not_count(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    async with running_gateway(measured(teacher, student, policy=STUDENT)) as gateway:
        await ask(gateway, student, "from the teacher", "wrong")
        body = {"model": "auto", "messages": [{"role": "user", "content": "x"}]}
        for _ in range(5):
            await gateway.post(PATHS["chat"], body, x_router_model="student")
        await shown(gateway)
        assert figure(gateway, "route_loss") == 0.5


async def test_the_figures_outlive_a_gateway_and_add_up_over_gateways(
    redis_url: str, teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    flush(redis_url)
    config = measured(teacher, student, policy=STUDENT) | {"redis": {"url": redis_url}}
    async with running_gateway(config, redis_url=redis_url, alone=False) as gateway:
        await ask(gateway, student, "from the teacher", "wrong")
        await shown(gateway)
        assert figure(gateway, "route_loss") == 0.5
        async with running_gateway(config, redis_url=redis_url, alone=False) as second:
            await ask(second, student, "from the teacher", "from the teacher")
            await shown(second)
            assert figure(second, "route_loss") == 0.25
        await gateway.gateway.retention.refresh()
        assert figure(gateway, "route_loss") == 0.25
        assert figure(gateway, "retention_pairs") == 4


async def test_another_student_version_begins_anew(
    redis_url: str, teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    flush(redis_url)
    config = measured(teacher, student, policy=STUDENT) | {"redis": {"url": redis_url}}
    async with running_gateway(config, redis_url=redis_url, alone=False) as gateway:
        await ask(gateway, student, "wrong", "wrong")
        await shown(gateway)
        assert figure(gateway, "route_loss") == 1
        config["models"]["student"]["model"] = "next-student"
        async with running_gateway(config, redis_url=redis_url, alone=False) as second:
            await ask(second, student, "from the teacher", "from the teacher")
            await shown(second)
            assert figure(second, "route_loss") == 0


async def test_a_student_that_breaks_off_has_lost_the_request(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    async with running_gateway(measured(teacher, student, policy=STUDENT)) as gateway:
        await ask(gateway, student, "from the teacher", "from the teacher", "from the teacher")
        student.script(Reply("half of an answer", fault=Fault(2)))
        await gateway.ask("chat", stream=True)
        await shown(gateway)
        assert figure(gateway, "route_loss") == figure(gateway, "route_loss_lower_bound") == 0.25


async def test_a_judge_that_is_not_there_leaves_it_open(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    config = measured(teacher, student, policy=STUDENT, comparator="careful")
    config["models"]["judge"] = {"base_urls": [f"{teacher.url}/nowhere"], "price": {"input": 0, "output": 0}}
    config["comparators"] = {
        "referee": {"kind": "judge", "model": "judge"},
        "careful": {"kind": "prose", "judge": "referee"},
    }
    teacher.default = failing(404, "no such path")
    async with running_gateway(config) as gateway:
        teacher.script(Reply("Our shop is open from nine to five on every day of the week but Sunday."))
        await ask(gateway, student, "You may visit us daily between nine and five, Sundays excepted, all week long.")
        await shown(gateway)
        assert gateway.metric("judge_calls_total", result="failed") == 1
        assert figure(gateway, "retention_pairs") == 0


async def test_a_figure_does_not_outlive_its_student_nor_its_days(
    teacher: ScriptedUpstream, student: ScriptedUpstream
) -> None:
    async with running_gateway(measured(teacher, student, policy=STUDENT)) as gateway:
        await ask(gateway, student, "wrong", "wrong")
        await shown(gateway)
        assert figure(gateway, "route_loss") == 1
        gateway.gateway.retention.configure({"auto": "another"})
        await gateway.gateway.retention.refresh()
        assert math.isnan(figure(gateway, "route_loss"))
        assert figure(gateway, "retention_pairs") == 0


async def test_the_figures_come_by_themselves(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    async with running_gateway(measured(teacher, student, policy=STUDENT)) as gateway:
        await ask(gateway, student, "from the teacher", "from the teacher")
        await eventually(lambda: figure(gateway, "student_retention") == 1, "a figure")
