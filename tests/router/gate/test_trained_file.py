"""A gate that was trained on recorded answers, dumped into a file, and served from it: the whole way."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from policies.gate.train import train
from policies.learn.artifact import dumps
from policies.learn.example import Example
from policies.query import Query
from router.evidence.records import AnswerSignals, ArmAnswer
from router.gate.seen import recorded
from tests.support.gateway import running_gateway, two_models
from tests.support.scripted import Reply, ScriptedUpstream

BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
GOOD, BAD = "{a} + {b} = {right}. The answer is {right}.", "{a} + {b} = {wrong}. The answer is {wrong}."


def sums(rng: Random, harm: bool) -> tuple[str, str]:
    """A question, and an answer that is right or not."""
    a, b = rng.randint(10, 99), rng.randint(10, 99)
    text = (BAD if harm else GOOD).format(a=a, b=b, right=a + b, wrong=a + b + rng.randint(1, 9))
    return f"What is {a} + {b}?", text


def examples(count: int) -> list[Example]:
    rng, made = Random(1), []
    for number in range(count):
        harm = number % 2 == 1
        prompt, text = sums(rng, harm)
        mean = rng.uniform(-0.4, -0.2)
        signals = AnswerSignals(tokens=12, mean=mean, minimum=2 * mean, first=mean)
        answer = recorded(ArmAnswer(model="student", text=text, finish_reason="stop", signals=signals))
        query = Query(last=prompt, whole=prompt, route="auto")
        made.append(Example(str(number), query, float(harm), group=str(number), time=float(number), answer=answer))
    return made


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "gate"
    path.write_bytes(dumps(train(examples(90), seed=0)))
    return path


@BOTH
async def test_it_escalates_what_does_not_add_up_and_serves_what_does(
    teacher: ScriptedUpstream, student: ScriptedUpstream, trained: Path, stream: bool
) -> None:
    policy = {"kind": "cascade", "gate": "learned", "file": str(trained), "escalate_at": 0.5}
    rng, models = Random(2), []
    async with running_gateway(two_models(teacher.url, student.url, policy=policy)) as gw:
        for harm in (False, True) * 5:
            prompt, text = sums(rng, harm)
            student.script(Reply(text, token_logprob=-0.3))
            messages = [{"role": "user", "content": prompt}]
            answer = await gw.ask("chat", stream=stream, messages=messages)
            models.append(answer.headers["x-router-model"])
        rows = await gw.rows(10)
    assert models == ["student", "teacher"] * 5
    assert all("+none" not in row.pv and row.q is not None for row in rows)
