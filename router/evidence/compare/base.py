"""What a comparator sees and says: two answers in, one verdict out.

A comparator decides whether the student's answer is the teacher's for practical purposes. It knows nothing of routing,
money or storage, and never raises on what a model wrote. Most are pure CPU work of bounded time (`PureComparator`) and
run in a thread; those that ask a model or run a program are given `Services`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol

Kind = Literal[
    "agree",
    "label",
    "number",
    "json",
    "tool_calls",
    "code",
    "text",
    "judge",
    "command",
    "ambiguous",
    "comparator_failed",
    "refusal",
    "truncated",
    "empty",
    "error",
]
Preferred = Literal["teacher", "student", "tie"]

DIFF_LIMIT = 400


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call as the model wrote it; `arguments_json` is unparsed and may be malformed."""

    name: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One choice of a chat or text completion, reduced to what a comparison needs. `error`: the call itself failed."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    refusal: str | None = None
    error: str | None = None

    @property
    def called(self) -> bool:
        return bool(self.tool_calls)

    @classmethod
    def from_choice(cls, choice: Mapping[str, Any]) -> Answer:
        """Reads one of OpenAI's `choices`: `message` for chat, `text` for completions; wrong types count as absent."""
        message = _mapping(choice.get("message"))
        content = message.get("content", choice.get("text"))
        refusal = message.get("refusal") or _parts(content, "refusal")
        return cls(
            text=content if isinstance(content, str) else _parts(content, "text"),
            tool_calls=_tool_calls(message),
            finish_reason=_text_or_none(choice.get("finish_reason")),
            refusal=_text_or_none(refusal),
        )

    @classmethod
    def failed(cls, error: str) -> Answer:
        """A call that brought no answer: a failed shadow call is data too."""
        return cls(error=error)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one comparison.

    `kind` is "agree" where a comparator found the answers the same, the kind of difference where it did not, and the
    outcome class where one side brought no full answer (then `same` says whether both sides ended that way). Nobody
    knows the answer for "ambiguous" (a judge contradicted itself) and "comparator_failed" (a judge or program could
    not be asked, or wrote no verdict): both are harm, because an unknown must not look like retention.
    `score` is 1 exactly when the answers are the same. `harm`: the student's answer would have been a loss.
    `diff` is a short text for a person, empty when the same. `comparator` and `version` name who decided.
    `checks` holds `teacher_valid` and `student_valid` where a schema, a parser or a test could tell.
    `preferred`: the side that a judge, a test or a check of validity found better. `judged`: a model was asked.
    """

    same: bool
    score: float
    harm: bool
    kind: Kind
    diff: str
    comparator: str
    version: int
    checks: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))
    preferred: Preferred | None = None
    judged: bool = False


class JudgeUnavailable(Exception):
    """A judge brought no answer; the text says why. Raised by `Services.ask`."""


@dataclass(frozen=True, slots=True)
class Services:
    """What a comparator may use besides the two answers.

    `ask(model, messages, max_tokens)` gives a configured model's text, priced by whoever provides it; it raises
    `JudgeUnavailable`. `arms`: the models that gave the answers, none of which may judge them.
    """

    ask: Callable[[str, list[dict[str, str]], int], Awaitable[str]]
    arms: frozenset[str] = frozenset()


class Named(Protocol):
    """Who decides: `name` is its kind, or the name that the configuration gives it."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...


class PureComparator(Named, Protocol):
    """A comparator that needs nothing but the answers; see `Comparator`."""

    def applies(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> bool: ...

    def compare(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> Verdict: ...


class Comparator(Named, Protocol):
    """`applies` says whether this comparator is the right one for the answers; `compare` is total either way.

    One that reads text alone does not apply where a side called a tool: such pairs go to `tool_calls`.
    """

    def applies(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> bool: ...

    async def compare(
        self, request: Mapping[str, Any], teacher: Answer, student: Answer, services: Services
    ) -> Verdict: ...


def agree(by: Named, *, checks: Mapping[str, bool] | None = None) -> Verdict:
    return Verdict(
        same=True,
        score=1.0,
        harm=False,
        kind="agree",
        diff="",
        comparator=by.name,
        version=by.version,
        checks=MappingProxyType(dict(checks or {})),
    )


def differ(
    by: Named, kind: Kind, diff: str, score: float = 0.0, *, checks: Mapping[str, bool] | None = None
) -> Verdict:
    """A difference is a loss: where a comparator cannot see that a difference is harmless, it must not assume so.

    The one exception: `checks` that found the teacher's answer invalid and the student's valid. Then the student's is
    the one to use, whatever else differs.
    """
    found = MappingProxyType(dict(checks or {}))
    better = _better(found)
    return Verdict(
        same=False,
        score=min(max(score, 0.0), 0.999),
        harm=better != "student",
        kind=kind,
        diff=readable(diff) or kind,
        comparator=by.name,
        version=by.version,
        checks=found,
        preferred=better,
    )


def failed(by: Named, problem: str) -> Verdict:
    """Nobody could say: a judge or program was not there, or wrote no verdict."""
    return differ(by, "comparator_failed", problem)


def _better(checks: Mapping[str, bool]) -> Preferred | None:
    teacher, student = checks.get("teacher_valid"), checks.get("student_valid")
    if teacher is None or student is None or teacher == student:
        return None
    return "teacher" if teacher else "student"


def readable(diff: str) -> str:
    """`diff` cut to `DIFF_LIMIT` characters and free of lone surrogates, which no log or store can encode."""
    cut = diff if len(diff) <= DIFF_LIMIT else diff[: DIFF_LIMIT - 1] + "…"
    return cut.encode("utf-8", "replace").decode()


def shorten(text: str, limit: int = 80) -> str:
    """`text` quoted on one line, cut to about `limit` characters."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return json.dumps(cut, ensure_ascii=False)


def side_by_side(teacher: str, student: str) -> str:
    """Both texts around their first difference."""
    pairs = enumerate(zip(teacher, student, strict=False))
    first = next((index for index, (theirs, ours) in pairs if theirs != ours), min(len(teacher), len(student)))
    start = max(0, first - 20)
    lead = "…" if start else ""
    return f"teacher: {shorten(lead + teacher[start:])} student: {shorten(lead + student[start:])}"


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _parts(content: object, kind: str) -> str:
    """The joined texts of content parts (`[{"type": "text", "text": …}]`) of one kind."""
    parts = content if isinstance(content, list) else []
    texts = [_mapping(part).get(kind) for part in parts if _mapping(part).get("type") == kind]
    return "".join(text for text in texts if isinstance(text, str))


def _tool_calls(message: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    calls = message.get("tool_calls")
    found = [_tool_call(_mapping(call)) for call in (calls if isinstance(calls, list) else [])]
    legacy = message.get("function_call")
    if not found and isinstance(legacy, Mapping):
        found = [_tool_call({"function": legacy})]
    return tuple(found)


def _tool_call(call: Mapping[str, Any]) -> ToolCall:
    """A function call, or a custom tool's call whose free-text `input` stands for the arguments."""
    body = _mapping(call.get("function")) or _mapping(call.get("custom"))
    arguments = body.get("arguments", body.get("input", ""))
    if not isinstance(arguments, str):  # some engines send the parsed object
        arguments = json.dumps(arguments, default=str)
    return ToolCall(name=str(body.get("name") or ""), arguments_json=arguments)
