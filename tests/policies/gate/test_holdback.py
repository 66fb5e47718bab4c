"""How long a stream is held back, and that a stream and a whole answer are looked at in the same way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.base import GateNeeds
from policies.gate.answer import StudentAnswer
from policies.gate.holdback import LEAST_CHARACTERS, MOST_CHARACTERS, can_tell, first_sentence, seen
from policies.gate.tokens import Token

TEXTS = st.text(st.sampled_from("abc 3.!?\n。…\")'"), max_size=120)
WORDS = st.lists(st.sampled_from(["The", " answer", " is", " 42", ".", " Because", " of", " 3", ".", "5", "\n"]))
NEEDS = {
    "tokens": GateNeeds(tokens=5),
    "sentence": GateNeeds(tokens=30, sentence=True),
    "tokens before the sentence": GateNeeds(tokens=3, sentence=True),
    "answer": GateNeeds(tokens=5, whole=True),
}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("The answer is 42. It follows", "The answer is 42."),
        ("The price is 3.50 dollars. Then", "The price is 3.50 dollars."),
        ("See Dr. Miller about it. Then", "See Dr. Miller about it."),
        ("Take e.g. the second one! Then", "Take e.g. the second one!"),
        ("Sure! Here is what you asked for: a", None),
        ("Sure! Here is what you asked for. A", "Sure! Here is what you asked for."),
        ("1. Preheat the oven well\n2. Mix", "1. Preheat the oven well\n"),
        ('He said "no, not that one." Then', 'He said "no, not that one."'),
        ("So it goes on ...?! and on", "So it goes on ...?!"),
        ("So it goes on ...and on. Then", "So it goes on ...and on."),
        ("答えは四十二です。それは", None),
        ("これはとても簡単な計算なので答えは四十二です。次に", "これはとても簡単な計算なので答えは四十二です。"),
        ("Is this the whole answer?", None),  # the stream may go on: "?!"
    ],
)
def test_a_first_sentence_ends_where_a_reader_would_say_so(text: str, sentence: str | None) -> None:
    end = first_sentence(text)
    assert (None if end is None else text[:end]) == sentence


@given(TEXTS, TEXTS)
def test_a_sentence_that_was_found_stays_whatever_follows(text: str, more: str) -> None:
    end = first_sentence(text)
    if end is not None:
        assert LEAST_CHARACTERS <= end <= len(text)
        assert first_sentence(text + more) == end


def test_a_text_without_an_end_is_cut() -> None:
    assert first_sentence("a" * (MOST_CHARACTERS - 1)) is None
    assert first_sentence("a" * (MOST_CHARACTERS + 1)) == MOST_CHARACTERS


def test_the_end_of_a_whole_answer_is_waited_for() -> None:
    assert not can_tell(GateNeeds(tokens=1, whole=True), "The answer is 42. Then", 99)


@pytest.mark.parametrize("needs", NEEDS.values(), ids=NEEDS)
@given(words=WORDS)
def test_a_stream_is_looked_at_as_the_whole_answer_is(needs: GateNeeds, words: list[str]) -> None:
    """Token by token until the gate can tell, or to the end: what is seen is what the whole answer shows."""
    tokens = [Token(word, -0.1 * place, 0.01 * place) for place, word in enumerate(words)]
    finished = StudentAnswer("".join(words), finish_reason="stop")
    whole = seen(needs, finished, tokens)
    for count in range(len(words) + 1):
        text = "".join(words[:count])
        if can_tell(needs, text, count):
            held = StudentAnswer(text, complete=False)
            assert seen(needs, held, tokens[:count]) == whole
            assert not whole.complete
            return
    assert whole.complete and whole.text == finished.text and whole.finish_reason == "stop"


def test_the_beginning_of_an_answer_knows_neither_its_tool_calls_nor_its_end() -> None:
    answer = StudentAnswer("one two", finish_reason="tool_calls", refusal="I will not", tool_calls=(("look", "{}"),))
    shown = seen(GateNeeds(tokens=1), answer, [Token("one", -1.0), Token(" two", -3.0)])
    assert (shown.text, shown.finish_reason, shown.tool_calls, shown.complete) == ("one", None, (), False)
    assert shown.refusal == "I w"
    assert shown.signals is not None and shown.signals.mean == -1.0


def test_an_answer_without_log_probabilities_is_seen_whole() -> None:
    answer = StudentAnswer("one two three")
    assert seen(GateNeeds(tokens=1), answer, []) == answer
