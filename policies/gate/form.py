"""Features of an answer's form: length, ending, layout, JSON and tool arguments, and the signals that came with it.

What was not there (no finish reason, no log-probabilities, no further samples) is NaN, never a guess.
"""

from __future__ import annotations

import json
import math
import re

from policies.gate.answer import StudentAnswer
from policies.gate.refusals import declines
from policies.query import Query

NAN = math.nan
# A student may write blanks without end: no two parts of a pattern may both match a line's end.
_FENCE = re.compile(r"```(?:json)?[^\S\n]*\n(.*?)\n?```", re.DOTALL)
_STEP = re.compile(r"\n[^\S\n]*(?:\d{1,2}[.)]|[-*•]|#{1,4} |Step \d)")
_ENDS = frozenset(".!?)]}\"'”’`*")
_OPEN = re.compile(r"(?:<<[^>]*|[-+*/=(,:]|\b(?:the|a|of|to|and|is|for|so|in))\s*\Z")
_MARK = 60  # characters in which a cut calculator mark shows
_START = 4_000  # characters of an answer in which its layout shows
_LONGEST_JSON = 200_000

NAMES: tuple[str, ...] = (
    "log_characters",
    "log_characters_to_request",
    "lines",
    "blank_lines",
    "characters_a_line",
    "listed",
    "digits_share",
    "latex",
    "fenced",
    "bold",
    "empty",
    "short",
    "ends_sentence",
    "ends_digit",
    "ends_newline",
    "ends_open",
    "brackets_open",
    "last_line_length",
    "finished_length",
    "finished_stop",
    "finished_other",
    "complete",
    "refused",
    "json_wanted",
    "json_valid",
    "tools_offered",
    "tools_called",
    "tool_arguments_valid",
    "tokens",
    "logprob_mean",
    "logprob_minimum",
    "logprob_first",
    "entropy_mean",
    "entropy_max",
    "agreement",
    "checks_failed",
)


def features(query: Query, answer: StudentAnswer) -> list[float]:
    """One value for each of `NAMES`."""
    text = answer.text
    return [
        *_layout(query, text),
        *_ending(text),
        *_finish(answer),
        *_structured(query, answer),
        *_signals(answer),
    ]


def _layout(query: Query, text: str) -> list[float]:
    size, start = len(text), text[:_START]
    lines = text.count("\n") + 1
    request = len(query.last or query.whole)
    return [
        math.log1p(size),
        math.log1p(size) - math.log1p(request),
        float(lines),
        float(text.count("\n\n")),
        math.log1p(size / lines),
        float(len(_STEP.findall(f"\n{start}"))),
        sum(map(start.count, "0123456789")) / len(start) if start else NAN,
        float("\\" in text),
        float("```" in text),
        float(text.count("**")),
        float(not text.strip()),
        float(size < 20),
    ]


def _ending(text: str) -> list[float]:
    bare = text.rstrip()
    last = bare[-1:]
    return [
        float(last in _ENDS) if last else NAN,
        float(last.isdigit()),
        float(text.endswith("\n")),
        float(_OPEN.search(bare[-_MARK:]) is not None),
        float(text.count("(") - text.count(")")),
        math.log1p(len(bare) - bare.rfind("\n") - 1),
    ]


def _finish(answer: StudentAnswer) -> list[float]:
    reason = answer.finish_reason
    refused = answer.refusal is not None or (not answer.tool_calls and declines(answer.text))
    return [
        NAN if reason is None else float(reason == "length"),
        NAN if reason is None else float(reason == "stop"),
        NAN if reason is None else float(reason not in ("length", "stop", "tool_calls")),
        float(answer.complete),
        float(refused),
    ]


def _structured(query: Query, answer: StudentAnswer) -> list[float]:
    calls = answer.tool_calls
    looks = answer.text[:200].lstrip()[:1] in ("{", "[") or "```json" in answer.text[:200]
    wanted = "json_schema" in query.needs
    return [
        float(wanted),
        float(_is_json(_unfenced(answer.text))) if wanted or looks else NAN,
        float(query.tools > 0),
        float(len(calls)),
        sum(_is_object(arguments) for _, arguments in calls) / len(calls) if calls else NAN,
    ]


def _signals(answer: StudentAnswer) -> list[float]:
    signals = answer.signals
    failed = sum(not passed for passed in answer.checks.values()) if answer.checks else NAN
    agreement = NAN if answer.agreement is None else answer.agreement
    if signals is None:
        return [NAN] * 6 + [agreement, float(failed)]
    return [
        float(signals.tokens),
        signals.mean,
        signals.minimum,
        signals.first,
        NAN if signals.entropy_mean is None else signals.entropy_mean,
        NAN if signals.entropy_max is None else signals.entropy_max,
        agreement,
        float(failed),
    ]


def _unfenced(text: str) -> str:
    fenced = _FENCE.fullmatch(text.strip())
    return fenced[1] if fenced else text


def _is_json(text: str) -> bool:
    if len(text) > _LONGEST_JSON:
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_object(arguments: str) -> bool:
    return arguments.lstrip()[:1] == "{" and _is_json(arguments)
