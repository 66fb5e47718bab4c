"""Judged requests with a difficulty that can be learnt: long sums and questions about rare places are hard."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from policies.learn.example import Example
from policies.query import Query

EASY, HARD = ("france", "japan", "kenya"), ("tuvalu", "nauru", "palau")


def query(random: Random) -> tuple[Query, float]:
    """A request and P(the student fails)."""
    if random.random() < 0.5:
        terms = random.randint(2, 9)
        text = "What is " + " + ".join(str(random.randint(10, 99)) for _ in range(terms)) + "?"
        return Query(system="You add numbers.", last=text, whole=text, tenant="shop", route="sums"), (terms - 1) / 9
    hard = random.random() < 0.5
    place = random.choice(HARD if hard else EASY)
    text = f"Tell me about the {random.choice(('capital', 'flag', 'history'))} of {place}, please."
    return Query(last=text, whole=text, tenant="school", route="places"), 0.8 if hard else 0.1


def judged(count: int, seed: int = 0, *, scored: bool = True) -> list[Example]:
    """With scores of both models, or as audited pairs that know only the harm."""
    random = Random(seed)
    examples = []
    for place in range(count):
        asked, failing = query(random)
        teacher = float(random.random() < 0.95)
        student = float(random.random() > failing)
        example = Example(str(place), asked, harm=max(0.0, teacher - student))
        examples.append(replace(example, teacher=teacher, student=student) if scored else example)
    return examples
