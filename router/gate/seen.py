"""The student's answer as a gate sees it: live, from a call, or from the record of one."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from types import MappingProxyType

from policies.base import Gate, GateNeeds, RequestView
from policies.gate import holdback
from policies.gate.answer import Signals, StudentAnswer
from policies.learn.trained import Score
from policies.query import Query
from router.arm import ArmCall
from router.evidence.compare.base import Answer
from router.evidence.records import ArmAnswer


def seen(call: ArmCall, needs: GateNeeds) -> list[StudentAnswer]:
    """What a gate looks at of each choice; the same for a stream and for an answer that came whole."""
    return [
        holdback.seen(needs, student_answer(said.answer, complete=call.whole), said.tokens)
        for said in call.choices(needs.tokens)
    ]


def can_tell(call: ArmCall, needs: GateNeeds, choices: int) -> bool:
    """Whether a stream of `choices` answers need not be held back any longer."""
    counts = call.reader.token_counts()
    if needs.whole or len(counts) < choices:
        return False
    if not needs.sentence:
        return min(counts) >= needs.tokens
    said = call.choices(needs.tokens)
    return all(holdback.can_tell(needs, each.answer.text, len(each.tokens)) for each in said)


def worst(gate: Gate, request: RequestView, route: str, answers: Sequence[StudentAnswer]) -> Score | None:
    """What the gate says of the worst of the choices; None where one shows nothing to judge it by."""
    query = request.query(route) if gate.reads_request else Query()
    scores = [gate.score(query, answer) for answer in answers]
    known = [score for score in scores if score is not None]
    return max(known, key=lambda score: score.loss) if known and len(known) == len(scores) else None


def student_answer(answer: Answer, *, complete: bool) -> StudentAnswer:
    """An answer without its signals."""
    return StudentAnswer(
        text=answer.text,
        finish_reason=answer.finish_reason,
        refusal=answer.refusal,
        tool_calls=tuple((call.name, call.arguments_json) for call in answer.tool_calls),
        complete=complete,
    )


def recorded(record: ArmAnswer) -> StudentAnswer:
    """The answer of a pair, with what was recorded of its tokens, its agreement and its checks.

    Records of earlier versions know the mean log-probability alone: the rest of the signals is not a number.
    """
    return StudentAnswer(
        text=record.text,
        signals=_signals(record),
        finish_reason=record.finish_reason,
        refusal=record.refusal,
        tool_calls=tuple((call["name"], call["arguments"]) for call in record.tool_calls),
        agreement=record.agreement,
        samples=record.samples,
        checks=MappingProxyType(dict(record.checks)),
    )


def _signals(record: ArmAnswer) -> Signals | None:
    if record.signals is not None:
        return Signals(**record.signals.model_dump())
    if record.mean_logprob is not None:
        return Signals(0, record.mean_logprob, nan, nan)
    return None
