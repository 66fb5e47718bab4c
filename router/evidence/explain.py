"""A decision row, its pair and its labels in words and units that a person or a program can read. Pure.

`texts` False leaves out everything that a model or a client wrote: prompts, answers, and diffs, which quote them;
and who labelled it, with what note.
"""

from __future__ import annotations

from typing import Any

from router.complaints import POLICY_ERROR
from router.evidence.find import Found
from router.evidence.records import ArmAnswer, LabelRecord, PairRecord, VerdictRecord
from router.ledger.pricing import usd
from router.record.row import DecisionRow

ARMS = {"t": "teacher", "s": "student", "": None}
WORDS = {
    "model": "The client named this model.",
    "forced": "The client insisted on this arm.",
    "observe": "The route only observes: the teacher answers everything.",
    "cascade": "The student's answer passed the gate: P(wrong) was below the threshold.",
    "escalated": "The student's answer did not pass the gate, so the teacher was asked.",
    "shadow": "A background call; no client waited for it.",
    "floor": "The certified floor gives everything to the teacher for now; the student is watched in the background.",
    "escalated:check": "The student's answer failed one of the user's own checks, so the teacher was asked.",
    POLICY_ERROR: "The policy raised an error at this request, so the teacher answered; the log has why.",
    f"escalated:{POLICY_ERROR}": "The gate raised an error at this answer, so the teacher was asked; the log has why.",
    "difficulty:untrained": "Nothing is trained for this route yet; promote a version with `policy promote`.",
}
WORDS_OF_SCORES = {
    "difficulty": "By the expected loss of the request",
    "cascade": "The student's answer passed the gate",
    "escalated": "The student's answer did not pass the gate",
}
WORDS_OF_CONTROLLERS = {
    "threshold": "the threshold decided.",
    "pace": "the pace of a budget decided.",
    "floor": "the certified floor decided.",
    "sticky": "the conversation kept its model, since leaving it costs more than it gains.",
}
WORDS_OF_KINDS = {
    "guard": "The request does not fit the student: {0}.",
    "down": "The {0} was not available: its circuit was open.",
    "fallback": "The {0} failed before its first byte, so the other arm answered.",
    "budget": "The budget '{0}' does not pay for the teacher.",
    "rule": "Rule {0} of the policy decided.",
}


def explained(found: Found, *, texts: bool) -> dict[str, Any]:
    """The answer of `GET /v1/router/decisions/{id}`. Times are Unix seconds; P(teacher) is the propensity."""
    row = found.row
    return {
        "object": "decision",
        "id": row.id,
        "time": row.t,
        "endpoint": row.ep,
        "route": row.rt or None,
        "tenant": row.tn,
        "key": row.k,
        "decision": _decision(row),
        "answer": _answer(row),
        "cost": _cost(found),
        "comparison": _comparison(row),
        "background": [_background(other) for other in found.background],
        "pair": found.pair and pair_shown(found.pair, texts=texts),
        "labels": [_label(label, texts=texts) for label in found.labels],
        "complete": found.complete,
    }


def _decision(row: DecisionRow) -> dict[str, Any]:
    score, p_wrong = row.s or (None, None)
    loss, novelty = row.q or (None, None)
    return {
        "policy": row.po or None,
        "policy_version": row.pv or None,
        "threshold": row.th,
        "features": {"prompt_bytes": row.f[0], "needs": row.f[1]},
        "scores": {"expected_loss": loss, "novelty": novelty, "mean_logprob": score, "p_wrong": p_wrong},
        "switch_cost_usd": usd(row.sw),
        "guards": row.g,
        "teacher_probability": row.p,
        "reason": row.r,
        "explanation": in_words(row.r),
        "forced": bool(row.fo),
    }


def in_words(reason: str) -> str | None:
    """A sentence for a reason of the gateway's; None for one that only a policy knows."""
    if reason in WORDS:
        return WORDS[reason]
    kind, _, what = reason.partition(":")
    if kind in WORDS_OF_SCORES and what in WORDS_OF_CONTROLLERS:
        return f"{WORDS_OF_SCORES[kind]}: {WORDS_OF_CONTROLLERS[what]}"
    if what:
        return WORDS_OF_KINDS[kind].format(what) if kind in WORDS_OF_KINDS else None
    return None


def _answer(row: DecisionRow) -> dict[str, Any]:
    return {
        "arm": ARMS.get(row.a, row.a),
        "model": row.m or None,
        "outcome": row.o,
        "status": row.st,
        "latency_ms": row.ms,
        "first_byte_ms": row.tt,
        "fell_back": bool(row.fb),
        "failed_tries": row.n,
    }


def _cost(found: Found) -> dict[str, Any]:
    rows = (found.row, *found.background)
    by_origin: dict[str, int] = {}
    for row in rows:
        for origin, nano in row.c.items():
            by_origin[origin] = by_origin.get(origin, 0) + nano
    return {
        "total_usd": usd(sum(by_origin.values())),
        "by_origin_usd": {origin: usd(nano) for origin, nano in sorted(by_origin.items())},
        "teacher_only_usd": usd(found.row.to),
        "charges": [
            {
                "origin": charge.origin,
                "model": charge.model,
                "cost_usd": usd(charge.nano),
                "input_tokens": charge.input,
                "cached_tokens": charge.cached,
                "output_tokens": charge.output,
                "reasoning_tokens": charge.reasoning,
                "estimated": bool(charge.estimated),
            }
            for row in rows
            for charge in row.ch
        ],
    }


def _comparison(row: DecisionRow) -> dict[str, Any]:
    """`inclusion_probability`: None for a request that was not drawn; then the row does not say what it was."""
    return {
        "drawn": row.au > 0,
        "inclusion_probability": row.au or None,
        "excluded": bool(row.ns or row.fo),
        "no_store": bool(row.ns),
        "student_version": row.sv or None,
    }


def _background(row: DecisionRow) -> dict[str, Any]:
    return {"id": row.id, "time": row.t, "reason": row.r, "model": row.m, "cost_usd": usd(sum(row.c.values()))}


def pair_shown(pair: PairRecord, *, texts: bool) -> dict[str, Any]:
    shown = {
        "served": pair.served,
        "sample": pair.sample,
        "inclusion_probability": pair.probability,
        "audit_probability": pair.audit_probability,
        "verdict": _verdict(pair.verdict, texts=texts),
        "triage": pair.triage and pair.triage.model_dump(),
        "teacher": _arm(pair.teacher, texts=texts),
        "student": _arm(pair.student, texts=texts),
        "second": pair.second and _arm(pair.second, texts=texts),
        "second_verdict": pair.second_verdict and _verdict(pair.second_verdict, texts=texts),
        "second_student": pair.second_student and _verdict(pair.second_student, texts=texts),
        "teacher_version": pair.teacher_version,
        "student_version": pair.student_version,
        "split": pair.split,
    }
    return {**shown, "request": pair.request} if texts else shown


def _verdict(verdict: VerdictRecord, *, texts: bool) -> dict[str, Any]:
    return verdict.model_dump(exclude=None if texts else {"diff"})


def _arm(answer: ArmAnswer, *, texts: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "model": answer.model,
        "finish_reason": answer.finish_reason,
        "failed": answer.error is not None,
        "refused": answer.refusal is not None,
        "tool_calls": len(answer.tool_calls),
        "input_tokens": answer.tokens.input,
        "output_tokens": answer.tokens.output,
        "cost_usd": usd(answer.cost_nano_usd),
        "mean_logprob": answer.mean_logprob,
    }
    if texts:
        said = {"text": answer.text, "refusal": answer.refusal, "error": answer.error, "tool_calls": answer.tool_calls}
        return shown | said
    return shown


def _label(label: LabelRecord, *, texts: bool) -> dict[str, Any]:
    """Who said it is as little the client's business as why."""
    return label.model_dump(include={"label", "time", *(("by", "key", "note") if texts else ())})
