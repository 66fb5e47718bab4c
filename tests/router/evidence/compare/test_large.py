"""Large and hostile answers end: no comparator's work grows faster than about linearly. No time is asserted."""

from __future__ import annotations

import asyncio
import json

import pytest

from router.evidence.compare import Answer, Services, ToolCall
from tests.router.evidence.compare.asking import BUILT_IN, configured, nobody

SIZE = 100_000
# Where an algorithm is quadratic, each of these takes minutes.
PAIRS = {
    "one word": ("a" * SIZE, "a" * SIZE + "b"),
    "words": ("alpha beta " * (SIZE // 11), "beta alpha " * (SIZE // 11)),
    "combining marks": ("a" + "\u0300\u0315" * (SIZE // 2), "a" + "\u0315\u0300" * (SIZE // 2)),
    "Han": ("漢字" * (SIZE // 2), "字漢" * (SIZE // 2)),
    "digits": ("9" * SIZE, "8" * SIZE),
    "numbers": ("1," * (SIZE // 2), "1.234 " * (SIZE // 6)),
    "markers": ("the answer is " * (SIZE // 14), "answer: 5 " * (SIZE // 10)),
    "fences": ("```\n" * (SIZE // 4), "```python\n" * (SIZE // 10)),
    "one fence": ("`" * SIZE, "~" * SIZE),
    "a long info string": ("```" + "a" * SIZE, "~~~ " + "a b" * (SIZE // 3)),
    "short fences": ("`````\n" + "````\n" * (SIZE // 5), "~~~~\n" + "~~~\n" * (SIZE // 4)),
    "lead-ins": ("is " * (SIZE // 3), "a: b = c " * (SIZE // 9)),
    "open strings": ("```js\n" + '"\\' * (SIZE // 2), "```js\n" + "'a\n" * (SIZE // 3)),
    "open comments": ("```js\n" + "/* " * (SIZE // 3), "```sql\n" + "-- /*" * (SIZE // 5)),
    "Python": ("```\n" + "x = [1]\n" * (SIZE // 8), "```\n" + "x = [2]\n" * (SIZE // 8)),
    "deep Python": ("```python\nx = 1" + "+1" * 18_000, "```python\nx = " + "-" * 38_000 + "1"),
    "nested Python": ("```python\n" + "(" * 30_000, "```python\n" + "".join(f"{' ' * n}if x:\n" for n in range(250))),
    "deep JSON": ("[" * SIZE, "[" * 90 + "]" * 90),
    "wide JSON": (json.dumps([1] * (SIZE // 3)), json.dumps([2] * (SIZE // 3))),
    "JSON keys": (json.dumps({f"k{n}": n for n in range(SIZE // 14)}), json.dumps({"k1": 1})),
    "quotes": ("'a" * (SIZE // 2), "a’" * (SIZE // 2)),
    "white space": (" " * SIZE + "x", "\n" * SIZE + "x"),
    "powers of ten": ("2 × 10^" * (SIZE // 7), "3 × 10⁶" + "⁶" * SIZE),
    "LaTeX": ("\\frac{1}{" * (SIZE // 9), "\\frac{" + "1" * SIZE + "}{2}"),
    "number words": ("twenty one " * (SIZE // 11), "seven-" * (SIZE // 6)),
    "lists": ("a, " * (SIZE // 3), "- a\n" * (SIZE // 4)),
    "emoji": ("👍" * SIZE, "👎" * SIZE + "x"),
    "imports": ("```python\n" + "import a\n" * 4_000, "```python\n" + "from a import b\n" * 2_000),
    "SQL in JSON": (json.dumps(["select " + "a " * 4_000] * 10), json.dumps(["SELECT " + "b " * 4_000] * 10)),
    "telephone numbers": (json.dumps(["+1" + " 2" * SIZE]), json.dumps(["+1" + " 3" * SIZE])),
    "apologies": ("sorry " * (SIZE // 6), "I'm sorry but " * (SIZE // 14)),
}


@pytest.mark.parametrize("name", BUILT_IN.names)
@pytest.mark.parametrize("pair", PAIRS)
def test_a_large_answer_is_compared(pair: str, name: str) -> None:
    teacher, student = PAIRS[pair]

    async def compared() -> None:
        services = Services(nobody)
        await BUILT_IN.compare(name, {}, Answer(teacher), Answer(student), services)
        if name == "tool_calls":
            theirs, ours = (Answer("", (ToolCall("f", side),)) for side in (teacher, student))
            await BUILT_IN.compare(name, {}, theirs, ours, services)

    asyncio.run(compared())


def test_many_tool_calls_are_compared() -> None:
    teacher, student = (
        Answer("", tuple(ToolCall("f", json.dumps({"n": n + shift})) for n in range(5_000))) for shift in (0, 5_000)
    )
    asyncio.run(BUILT_IN.compare("auto", {}, teacher, student, Services(nobody)))


def test_unordered_arrays_without_a_common_element_are_compared() -> None:
    by = configured(mine={"kind": "json", "rules": {"$": "unordered"}})
    left, right = (json.dumps([{"n": n + shift} for n in range(5_000)]) for shift in (0, 5_000))
    asyncio.run(by.compare("mine", {}, Answer(left), Answer(right), Services(nobody)))


def test_what_a_long_request_wants_is_found_in_bounded_time() -> None:
    for text in ("A) x " * (SIZE // 5), "order of " * (SIZE // 9), "1. a\n" * (SIZE // 5), "no " * (SIZE // 3)):
        asked = {"messages": [{"role": "user", "content": text}]}
        for teacher, student in (("a", "x y"), ("1", "2"), ("", "x"), ('{"a": "b"}', '{"a": "c"}')):
            asyncio.run(BUILT_IN.compare("auto", asked, Answer(teacher), Answer(student), Services(nobody)))
