"""The tasks that the demo models learn, as seeded prompt generators that know the right answer.

Standard library only: the demo command, the tests and the training share it. It knows nothing of models.
A prompt is held out of training by a hash of its text, so that every process agrees without a list of test prompts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from random import Random
from string import ascii_lowercase
from typing import Any
from zlib import crc32

MAX_WORD_LETTERS = 8
WORD_SIZES = range(1, MAX_WORD_LETTERS + 1)
STUDENT_REVERSE_LETTERS = 3
"""The longest word whose reversal the student is taught."""

# Spaces of at most 100 prompts are too small to hold any out: all of them are trained, and reported as memorised.
_TINY_SPACE = re.compile(r"\d\+\d|(upper|reverse|sort|weather in|time in) [a-z]")


class Split(Enum):
    """Which prompts a generator may give: `TRAIN` and `HELD_OUT` share none, save for those of tiny spaces."""

    TRAIN = "train"
    HELD_OUT = "held_out"
    ANY = "any"

    def admits(self, prompt: str) -> bool:
        return self is Split.ANY or is_memorised(prompt) or is_held_out(prompt) == (self is Split.HELD_OUT)


def is_memorised(prompt: str) -> bool:
    """Whether the prompt's space is so small that all of it is trained (one-digit additions, one-letter words)."""
    return _TINY_SPACE.fullmatch(prompt) is not None


def is_held_out(prompt: str) -> bool:
    """Whether the prompt is kept out of training: one in ten, fixed by its text."""
    return not is_memorised(prompt) and crc32(prompt.encode()) % 10 == 0


@dataclass(frozen=True)
class Example:
    """One prompt with its only right answer; `hard` where just the teacher is expected to give it.

    `tools` holds the OpenAI tool definitions of the request, empty for most; `size` is what makes the prompt long.
    """

    task: str
    prompt: str
    answer: str
    hard: bool
    size: int
    tools: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Task:
    """A named generator; `draw` makes one example of a size (letters of the word; for sums, digits of a number)."""

    name: str
    draw: Callable[[Random, int], Example]
    sizes: range

    def example(self, rng: Random, split: Split = Split.ANY, size: int = 0) -> Example:
        """An example of the split; size 0 stands for any, each as likely.

        The size is fixed before the split is asked: one-letter words, always admitted, would crowd out the others.
        """
        size = size or rng.choice(self.sizes)
        while True:
            example = self.draw(rng, size)
            if split.admits(example.prompt):
                return example


def random_word(rng: Random, letters: int) -> str:
    """A word of the given length, now and then from a few letters only, so that letters repeat."""
    alphabet = rng.sample(ascii_lowercase, rng.randint(2, 4)) if rng.random() < 0.25 else ascii_lowercase
    return "".join(rng.choices(alphabet, k=letters))


def tool_definition(name: str, argument: str, description: str) -> dict[str, Any]:
    """An OpenAI function tool that takes one string."""
    schema = {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


def tool_call_text(name: str, arguments: dict[str, Any]) -> str:
    """A call in the Hermes form that tool parsers of vLLM and others read."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}\n</tool_call>"


def _upper(rng: Random, size: int) -> Example:
    word = random_word(rng, size)
    return Example("upper", f"upper {word}", word.upper(), hard=False, size=size)


def _add_one_digit(rng: Random, size: int) -> Example:
    left, right = rng.randrange(10), rng.randrange(10)
    return Example("add1", f"{left}+{right}", str(left + right), hard=False, size=size)


def _add_two_digits(rng: Random, size: int) -> Example:
    left, right = rng.randrange(10, 100), rng.randrange(10, 100)
    return Example("add2", f"{left}+{right}", str(left + right), hard=True, size=size)


def _reverse(rng: Random, size: int) -> Example:
    word = random_word(rng, size)
    return Example("reverse", f"reverse {word}", word[::-1], hard=size > STUDENT_REVERSE_LETTERS, size=size)


def _sort(rng: Random, size: int) -> Example:
    word = random_word(rng, size)
    return Example("sort", f"sort {word}", "".join(sorted(word)), hard=True, size=size)


def _extract(rng: Random, size: int) -> Example:
    name, age = random_word(rng, size), rng.randrange(100)
    return Example("json", f"json {name} {age}", json.dumps({"name": name, "age": age}), hard=True, size=size)


def _tool_call(rng: Random, size: int) -> Example:
    """`weather in W` or `time in W`; the tools may be both or just the one needed, under varying names."""
    city, topic = random_word(rng, size), rng.choice(["weather", "time"])
    prefix = rng.choice(["get", "get", "get_current", "lookup"])
    argument = rng.choice(["city", "city", "location", "place"])
    tools = {t: tool_definition(f"{prefix}_{t}", argument, f"The {t} in a city.") for t in ("weather", "time")}
    offered = rng.choice([["weather", "time"], ["time", "weather"], [topic]])
    answer = tool_call_text(f"{prefix}_{topic}", {argument: city})
    return Example("tool_call", f"{topic} in {city}", answer, True, size, tuple(tools[t] for t in offered))


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("upper", _upper, WORD_SIZES),
        Task("add1", _add_one_digit, range(1, 2)),
        Task("add2", _add_two_digits, range(2, 3)),
        Task("reverse", _reverse, WORD_SIZES),
        Task("sort", _sort, WORD_SIZES),
        Task("json", _extract, WORD_SIZES),
        Task("tool_call", _tool_call, WORD_SIZES),
    )
}

# Task, sizes and share of the demo's traffic in percent; reversals split at what the student was taught.
_WORKLOAD_MIX = (
    ("upper", WORD_SIZES, 35),
    ("add1", range(1, 2), 15),
    ("reverse", range(1, STUDENT_REVERSE_LETTERS + 1), 10),
    ("reverse", range(STUDENT_REVERSE_LETTERS + 1, MAX_WORD_LETTERS + 1), 12),
    ("add2", range(2, 3), 10),
    ("sort", WORD_SIZES, 8),
    ("json", WORD_SIZES, 6),
    ("tool_call", WORD_SIZES, 4),
)


def workload(n: int, seed: int) -> list[Example]:
    """The demo's mixed traffic: 60% easy for the student, the rest is what only the teacher knows.

    Same seed, same list. No prompt was trained on, apart from those of tiny spaces.
    """
    rng = Random(seed)
    kinds = rng.choices(_WORKLOAD_MIX, weights=[share for _, _, share in _WORKLOAD_MIX], k=n)
    return [TASKS[name].example(rng, Split.HELD_OUT, rng.choice(sizes)) for name, sizes, _ in kinds]
