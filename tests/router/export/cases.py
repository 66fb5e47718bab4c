"""Pairs made by hand, of every sort that a training file holds. `GOLDEN` are those that the golden files are of."""

from __future__ import annotations

from typing import Any

from router.evidence.records import ArmAnswer, PairRecord, Tokens, Triage, TriageLabel
from router.export.choose import verdict_of
from router.export.convert import example_of
from router.export.example import Example, Verdict
from tests.support.pairs import pair

Json = dict[str, Any]

WEATHER: Json = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TIMER: Json = {
    "type": "function",
    "function": {
        "name": "set_timer",
        "parameters": {"type": "object", "properties": {"minutes": {"type": "integer", "minimum": 1}}},
    },
}


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def call(name: str, arguments: str, call_id: str = "call_a") -> Json:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def answer(model: str, text: str = "", *calls: tuple[str, str], **fields: Any) -> ArmAnswer:
    """`calls`: names and arguments."""
    fields = {"tokens": Tokens(input=10, output=5), "finish_reason": "tool_calls" if calls else "stop"} | fields
    return ArmAnswer(model=model, text=text, tool_calls=[{"name": n, "arguments": a} for n, a in calls], **fields)


def made(
    number: int,
    request: Json,
    teacher: ArmAnswer | str,
    student: ArmAnswer | str,
    *,
    label: TriageLabel | None = "student_wrong",
    **fields: Any,
) -> PairRecord:
    """A pair of the endpoint `chat`; `label` None: the answers agree."""
    request = {"model": "auto", **request}
    answers = {
        "teacher": answer("teacher", teacher) if isinstance(teacher, str) else teacher,
        "student": answer("student", student) if isinstance(student, str) else student,
    }
    triage = Triage(label=label, basis="human") if label else None
    base = pair(number, harm=label is not None)
    return base.model_copy(update={"request": request, "triage": triage, **answers, **fields})


def example(record: PairRecord, verdict: Verdict | None = None, **options: Any) -> Example:
    told = verdict or verdict_of(record)
    assert told is not None
    return example_of(record, told, **options)


PLAIN = made(
    1,
    {"messages": [{"role": "system", "content": "Be brief."}, user("Capital of France?")]},
    "Paris.",
    "Lyon.",
)
TALK = made(
    2,
    {"messages": [user("Sort: b a"), {"role": "assistant", "content": "a b"}, user("And c a b?")]},
    "a b c",
    "c a b",
)
TOOLS = made(
    3,
    {
        "messages": [
            user("Weather in Paris and Rome?"),
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    call("get_weather", '{"city": "Paris"}', "call_a"),
                    call("get_weather", '{"city": "Rome"}', "call_b"),
                ],
            },
            {"role": "tool", "tool_call_id": "call_a", "content": "rain"},
            {"role": "tool", "tool_call_id": "call_b", "content": "sun"},
            {"role": "assistant", "content": "Rain in Paris, sun in Rome."},
            user("Wake me in an hour."),
        ],
        "tools": [WEATHER, TIMER],
        "parallel_tool_calls": True,
    },
    answer("teacher", "", ("set_timer", '{"minutes": 60}')),
    answer("student", "", ("set_timer", '{"minutes": 1}')),
)
GOLDEN = (PLAIN, TALK, TOOLS)

COMPLETION = made(4, {"prompt": "Say hi"}, "hi", "ho", endpoint="completions")
RESPONSES = made(
    5,
    {
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Weather in Oslo?"}]},
            {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": '{"city": "Oslo"}'},
            {"type": "function_call_output", "call_id": "c1", "output": "snow"},
        ],
        "tools": [{"type": "function", **WEATHER["function"]}],
    },
    "Snow.",
    "Sun.",
    endpoint="responses",
)
AGREES = made(6, {"messages": [user("2+2?")]}, "4", "4", label=None)
OTHER_TOOL = made(
    7,
    {"messages": [user("Weather in Bonn?")], "tools": [WEATHER]},
    answer("teacher", "", ("get_weather", '{"city": "Bonn"}')),
    "I do not know.",
)
ALL = (*GOLDEN, COMPLETION, RESPONSES, AGREES, OTHER_TOOL)
