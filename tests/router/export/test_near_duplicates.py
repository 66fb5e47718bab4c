"""Which prompts count as nearly the same."""

from __future__ import annotations

from random import Random

from router.export.example import Message
from router.export.near_duplicates import Prompt, clusters

STORY = "the quick brown fox jumps over the lazy dog while the old cat sleeps under a warm red blanket by the fire"
RULES = "Answer in the tone of our brand and never promise a refund before the third message of the customer. " * 20


def ask(text: str, *before: Message) -> Prompt:
    return (*before, Message("user", text))


def varied(changes: int, seed: int) -> str:
    """The story three times, with some words replaced."""
    words = STORY.split() * 3
    rng = Random(seed)
    places = rng.sample(range(len(words)), changes)
    return " ".join(f"w{rng.randrange(1000)}" if place in places else word for place, word in enumerate(words))


def test_the_same_prompt_in_another_writing_is_the_same() -> None:
    assert clusters([ask("What is  the capital of France?"), ask("what is the capital of france ?")]) == [0, 0]


def test_a_long_prompt_with_one_word_changed_joins_the_first() -> None:
    prompts = [ask(f"{STORY} {STORY} {STORY}"), ask(varied(1, 1)), ask(varied(40, 2))]
    assert clusters(prompts) == [0, 0, 2]


def test_short_questions_that_differ_in_a_word_are_different() -> None:
    prompts = [ask(f"upper {animal}") for animal in ("cat", "dog", "owl")]
    assert clusters(prompts) == [0, 1, 2]


def test_a_system_prompt_that_all_requests_have_makes_none_of_them_the_same() -> None:
    system = Message("system", RULES)
    assert clusters([ask("Where is my parcel?", system), ask("Cancel order 7 please.", system)]) == [0, 1]


def test_a_template_with_other_contents_gives_other_prompts() -> None:
    rng = Random(7)
    names = [f"{rng.randrange(10**9)} {rng.randrange(10**9)} {rng.randrange(10**9)}" for _ in range(50)]
    prompts = [ask(f"{RULES} Sum these: {name}") for name in names]
    assert clusters(prompts) == list(range(50))
    assert clusters([*prompts, prompts[3]])[-1] == 3


def test_the_same_question_after_another_conversation_is_different() -> None:
    talks = [
        (Message("user", f"My city is {city}, tell me of its history."), Message("assistant", f"{city} is old."))
        for city in ("Lima", "Oslo")
    ]
    prompts = [ask("And how is the weather there in spring?", *talk) for talk in (*talks, talks[0])]
    assert clusters(prompts) == [0, 1, 0]


def test_the_clusters_are_always_the_same() -> None:
    prompts = [ask(varied(seed % 7, seed)) for seed in range(60)]
    assert clusters(prompts) == clusters(prompts)
    assert all(leader <= place for place, leader in enumerate(clusters(prompts)))


def test_no_prompts_have_no_clusters() -> None:
    assert clusters([]) == []
    assert clusters([ask("")]) == [0]
