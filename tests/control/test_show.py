"""How floors and paces are shown to people."""

from __future__ import annotations

import json
from typing import Any

import pytest

from policies.certify.records import Alarm, FloorStatus
from router.control.published import Published
from router.control.show import read_states, state_text
from router.errors import ConfigError
from router.settings import Settings, parse
from tests.control.conftest import Connect
from tests.control.made import Process
from tests.router.evidence.conftest import RedisProcess

STATUS = FloorStatus(
    phase="alarm",
    threshold=0.0,
    audit_rate=0.5,
    requests=1_000,
    audits=80,
    student_share=0.4,
    loss_estimate=0.011,
    upper_bound=0.019,
    allowed=0.0,
    alarms=(Alarm(0.0, "scores", "the scores moved"),),
    rung={"scores": 1, "audits": 0, "silence": 0},
    uncovered=7,
    why="12 of 150 audits for a calibration",
)


def configured(url: str) -> Settings:
    config: dict[str, Any] = {
        "server": {"auth": "none"},
        "redis": url,
        "models": {
            name: {"base_urls": ["http://127.0.0.1:1/v1"], "price": {"input": 1, "output": 1}, "max_output_tokens": 100}
            for name in ("large", "small")
        },
        "budgets": {"day": {"window": "day", "limit_usd": 10, "target_usd": 5}},
        "routes": {
            "auto": {
                "teacher": "large",
                "student": "small",
                "policy": {"kind": "difficulty", "pace": "day", "floor": {"alpha": 0.1}},
            },
            "plain": {"teacher": "large", "student": "small"},
        },
    }
    return parse(json.dumps(config))


def test_a_floor_and_a_pace_are_told_in_words_and_numbers() -> None:
    text = state_text("auto", Published(100.0, "v", 0.0, 0.5, STATUS, "day", 12.5), now_s=103.0)
    assert text.splitlines() == [
        "auto: controllers, 3 s ago",
        "  floor: alarm: 12 of 150 audits for a calibration; the teacher serves everything",
        "    1000 requests, 40.0% by the student, 80 audits (50.0% wanted now)",
        "    loss over all traffic 1.10%, at most 1.90%",
        "    7 further requests by the student, outside: no audit could tell of them",
        "    alarm 1970-01-01 00:00 UTC (scores): the scores moved",
        "  pace of budget day: a USD for the teacher must save a loss of 12.5",
    ]


async def test_what_is_published_is_read_without_a_gateway(connect: Connect, lasting_redis: RedisProcess) -> None:
    one = Process(connect())
    await one.work(50)
    await one.leader.turn()
    states = read_states(configured(lasting_redis.url))
    assert list(states) == ["auto"]
    status = states["auto"].status
    assert status and status.requests == 50
    assert read_states(configured(lasting_redis.url), "plain") == {}


def test_a_redis_that_does_not_answer_is_an_error(redis_process: RedisProcess) -> None:
    with pytest.raises(ConfigError, match="no answer"):
        read_states(configured(redis_process.url))
