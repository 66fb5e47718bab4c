"""Topics of prompts."""

from __future__ import annotations

from random import Random

from router.lossmap.topics import topics

WORDS = {
    "cooking": "oven butter flour bake recipe sugar dough whisk",
    "sailing": "anchor sail harbour wind mast keel rope tide",
    "taxes": "income refund deduction invoice audit payroll receipt form",
}


def prompts(count: int) -> tuple[list[str], list[str]]:
    rng = Random(3)
    kinds = [rng.choice(sorted(WORDS)) for _ in range(count)]
    return kinds, [" ".join(rng.choices(WORDS[kind].split(), k=6)) for kind in kinds]


def test_texts_about_one_thing_share_topics_that_no_other_has() -> None:
    kinds, texts = prompts(300)
    by_topic: dict[str, set[str]] = {}
    for kind, topic in zip(kinds, topics(texts), strict=True):
        by_topic.setdefault(topic, set()).add(kind)
    assert all(len(found) == 1 for found in by_topic.values())
    for topic, (kind,) in by_topic.items():
        assert set(topic.partition(" (")[0].split(", ")) <= set(WORDS[kind].split())


def test_the_same_texts_have_the_same_topics_in_any_order() -> None:
    _, texts = prompts(100)
    assert topics(texts[::-1]) == topics(texts)[::-1]


def test_too_few_texts_and_texts_without_words_have_none() -> None:
    assert topics(["oven"] * 5) == [""] * 5
    assert topics(["oven butter"] * 30 + ["12 + 3"])[-1] == ""
    assert topics([]) == []


def test_equal_texts_are_one_topic() -> None:
    assert len(set(topics(["oven butter"] * 30))) == 1
