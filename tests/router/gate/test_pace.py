"""A cascade that paces a budget: what its price is made of."""

from __future__ import annotations

import pytest

from router.control import control
from tests.support.gateway import running_gateway, two_models
from tests.support.scripted import Reply, ScriptedUpstream, Usage

BUDGET = {"window": "day", "limit_usd": 1, "target_usd": 0.5, "counts": "teacher", "on_spent": "student"}


@pytest.mark.parametrize(("model", "counted"), [("auto", 1), ("auto@0.2", 0)])
async def test_an_operating_point_that_a_client_chose_says_nothing_of_what_the_route_wants(
    teacher: ScriptedUpstream,
    student: ScriptedUpstream,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    counted: int,
) -> None:
    monkeypatch.setattr(control, "SHIP_EVERY_S", 3600)  # what is counted stays to be looked at
    student.default = Reply("from the student", usage=Usage(20, 3), token_logprob=-0.5)
    config = two_models(
        teacher.url,
        student.url,
        policy={"kind": "cascade", "escalate_at": 0.1, "pace": "day"},
        models={"max_output_tokens": 100},
        budgets={"day": BUDGET},
        redis={"url": redis_url},
    )
    async with running_gateway(config, redis_url=redis_url) as gw:
        assert (await gw.ask("chat", model)).headers["x-router-reason"] == "escalated"
        await gw.idle()
        (tally,) = gw.gateway.runtime.routes["auto"].live.board.tallies.values()
        assert (tally.requests, len(tally.worth), tally.taken_usd > 0) == (1, counted, bool(counted))
