"""The user's own program as a comparator, well behaved and not."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from router.evidence.compare import Answer, Verdict
from tests.router.evidence.compare.asking import calling, compare, configured

READ = "import json, sys; asked = json.load(sys.stdin); "


def command(program: str, teacher: Answer, student: Answer, timeout_s: float = 30, **request: Any) -> Verdict:
    by = configured(mine={"kind": "command", "argv": [sys.executable, "-c", program], "timeout_s": timeout_s})
    return compare(request, teacher, student, "mine", by)


def saying(said: str) -> Verdict:
    return command(f"print({said!r})", Answer("a"), Answer("b"))


def test_the_program_sees_the_request_and_both_answers() -> None:
    program = READ + "print(json.dumps({'same': False, 'diff': json.dumps(asked, sort_keys=True)[:300]}))"
    verdict = command(program, Answer("yes", finish_reason="stop"), calling(("f", "{}")), model="auto")
    assert json.loads(verdict.diff) == {
        "request": {"model": "auto"},
        "teacher": {"text": "yes", "tool_calls": [], "finish_reason": "stop", "refusal": None},
        "student": {
            "text": "",
            "tool_calls": [{"name": "f", "arguments": "{}"}],
            "finish_reason": None,
            "refusal": None,
        },
    }


@pytest.mark.parametrize(
    ("said", "same", "harm", "score", "preferred"),
    [
        ('{"same": true}', True, False, 1.0, None),
        ('{"same": true, "score": 0.2, "harm": true}', True, False, 1.0, None),
        ('{"same": false}', False, True, 0.0, None),
        ('{"same": false, "score": 1}', False, True, 0.999, None),
        ('{"same": false, "harm": false, "score": 0.5, "preferred": "student"}', False, False, 0.5, "student"),
    ],
)
def test_what_the_program_says_is_the_verdict(
    said: str, same: bool, harm: bool, score: float, preferred: str | None
) -> None:
    verdict = saying(said)
    assert (verdict.same, verdict.harm, verdict.score, verdict.preferred) == (same, harm, score, preferred)
    assert (verdict.kind, verdict.comparator) == ("agree" if same else "command", "mine")


def test_checks_reach_the_verdict() -> None:
    assert saying('{"same": false, "checks": {"student_valid": false}}').checks == {"student_valid": False}


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("print('same')", "wrote no verdict"),
        ("print('{}')", "same: Field required"),
        ("print('{\"same\": 1}')", "same: Input should be a valid boolean"),
        ('print(\'{"same": false, "score": 7}\')', "score"),
        ("pass", "wrote no verdict"),
        ("import sys; sys.stdout.buffer.write(bytes(range(256)))", "wrote no verdict"),
        ("raise SystemExit('broken pipe dream')", 'status 1: "broken pipe dream"'),
        ("import os; os.kill(os.getpid(), 9)", "status -9"),
        ("import time; time.sleep(600)", "took longer than 1 s"),
    ],
)
def test_a_program_that_brings_no_verdict_is_a_class_of_its_own(program: str, why: str) -> None:
    verdict = command(program, Answer("a"), Answer("b"), timeout_s=1 if "sleep" in program else 30)
    assert (verdict.kind, verdict.same, verdict.harm) == ("comparator_failed", False, True)
    assert why in verdict.diff


def test_a_program_that_is_not_there_is_named() -> None:
    by = configured(mine={"kind": "command", "argv": ["no-such-program-here"]})
    verdict = compare({}, Answer("a"), Answer("b"), "mine", by)
    assert verdict.kind == "comparator_failed" and "no-such-program-here" in verdict.diff


def test_outcome_classes_come_before_the_program() -> None:
    assert command("raise SystemExit(1)", Answer("a"), Answer("")).kind == "empty"
