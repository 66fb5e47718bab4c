"""Pairs that something can be learned from: the student is wrong where a number has to be multiplied."""

from __future__ import annotations

import random

from router.evidence.records import PairRecord, Split
from tests.support.pairs import pair

NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gia", "Hal")


def lesson(number: int, *, split: Split = "train", upside_down: bool = False) -> PairRecord:
    """Every other pair is hard; nine of ten hard ones are lost, one of ten easy ones. `upside_down`: the reverse."""
    chance = random.Random(number)
    hard = number % 2 == 0
    harm = (chance.random() < 0.9) is (hard is not upside_down)
    who, amount = chance.choice(NAMES), chance.randint(2, 99)
    text = f"Multiply {amount} by {amount + 7} for {who}." if hard else f"Say hello to {who}, who is {amount} today."
    request = {"model": "auto", "messages": [{"role": "user", "content": f"{text} ({number})"}]}
    return pair(number, harm=harm).model_copy(update={"request": request, "split": split})


def lessons(count: int, *, first: int = 0, upside_down: bool = False) -> list[PairRecord]:
    return [lesson(number, upside_down=upside_down) for number in range(first, first + count)]
