"""A record without personal data: every text of request and answers, with one set of placeholders for all of them.

With what identifies the user (`user`, `safety_identifier`, `prompt_cache_key`, `metadata`) goes the readable difference
of a verdict where anything was replaced: it quotes the answers, cut anywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal

from router.evidence.records import PairRecord
from router.export.redact.base import Detector
from router.export.redact.presidio import load_presidio
from router.export.redact.redactor import Redactor
from router.export.redact.registry import DETECTORS

Mode = Literal["on", "presidio", "off"]
Redaction = Callable[[PairRecord], tuple[PairRecord, Counter[str]]]

_IDENTIFIES = ("user", "safety_identifier", "prompt_cache_key", "metadata")
_ANSWERS = ("teacher", "student", "second")
_VERDICTS = ("verdict", "second_verdict", "second_student")


def redaction(mode: Mode) -> Redaction:
    """What takes personal data out of a record and counts it by kind. Raises ConfigError where Presidio is missing."""
    if mode == "off":
        return lambda record: (record, Counter())
    detectors = (*DETECTORS, load_presidio()) if mode == "presidio" else DETECTORS
    return lambda record: without_personal_data(record, detectors)


def without_personal_data(record: PairRecord, detectors: Sequence[Detector]) -> tuple[PairRecord, Counter[str]]:
    fields = record.model_dump(mode="json")
    redactor = Redactor(detectors)
    texts = {name: fields[name] for name in ("request", *_ANSWERS)}
    redactor.reserve(texts)
    request = {key: value for key, value in texts["request"].items() if key not in _IDENTIFIES}
    fields["request"] = redactor.value(request)
    for name in _ANSWERS:
        fields[name] = fields[name] and _answer(fields[name], redactor)
    for name in _VERDICTS:
        if fields[name] and redactor.replaced:
            fields[name]["diff"] = ""
    fields["users"] = []
    return PairRecord.model_validate(fields), redactor.replaced


def _answer(answer: dict[str, Any], redactor: Redactor) -> dict[str, Any]:
    said = {key: redactor.value(answer[key]) for key in ("text", "refusal", "error") if answer[key]}
    calls = [call | {"arguments": redactor.text(call["arguments"])} for call in answer["tool_calls"]]
    return answer | said | {"tool_calls": calls}
