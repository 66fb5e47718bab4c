"""What a pair keeps of an answer: of a call that brought one, or of a model that brought none."""

from __future__ import annotations

from dataclasses import asdict

from policies.cascade import SCORE_TOKENS
from policies.gate.answer import StudentAnswer
from router.arm import ArmCall
from router.evidence.records import AnswerSignals, ArmAnswer, Tokens
from router.ledger.bill import Charge
from router.ledger.pricing import Usage

UNEXAMINED = StudentAnswer("")


def recorded_answer(call: ArmCall) -> ArmAnswer:
    """The first choice, with what a gate could see of its first `SCORE_TOKENS` tokens and found out about it."""
    answer, charge = call.answer(), call.charge
    signals, found = call.signals(SCORE_TOKENS), call.examined or UNEXAMINED
    return ArmAnswer(
        model=call.model.name,
        text=answer.text,
        tool_calls=[{"name": each.name, "arguments": each.arguments_json} for each in answer.tool_calls],
        finish_reason=answer.finish_reason,
        refusal=answer.refusal,
        error=answer.error,
        tokens=_tokens(charge.usage),
        cost_nano_usd=charge.cost_nano,
        estimated=charge.estimated,
        mean_logprob=signals.mean if signals else None,
        signals=AnswerSignals(**asdict(signals)) if signals else None,
        agreement=found.agreement,
        samples=found.samples,
        checks=dict(found.checks),
    )


def failed_answer(model: str, error: str, charge: Charge | None = None) -> ArmAnswer:
    """`charge`: what it cost all the same; None where the model was never asked or could not be."""
    if charge is None:
        return ArmAnswer(model=model, error=error)
    return ArmAnswer(
        model=model,
        error=error,
        tokens=_tokens(charge.usage),
        cost_nano_usd=charge.cost_nano,
        estimated=charge.estimated,
    )


def _tokens(usage: Usage) -> Tokens:
    return Tokens(
        input=usage.input_tokens,
        output=usage.output_tokens,
        cached_input=usage.cached_tokens,
        reasoning=usage.reasoning_tokens,
        image_input=usage.image_tokens,
        audio_input=usage.audio_input_tokens,
        audio_output=usage.audio_output_tokens,
    )
