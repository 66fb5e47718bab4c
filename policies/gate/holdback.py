"""How much of an answer a gate waits for, and the part of it that it looks at: the same for streams and whole answers.

A stream is held back until its beginning is long enough: so many tokens, or the first sentence. Of an answer that came
whole the same beginning is looked at, so that one calibration holds for both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from policies.gate.answer import StudentAnswer
from policies.gate.tokens import Token, signals_of

if TYPE_CHECKING:
    from policies.base import GateNeeds

LEAST_CHARACTERS = 16  # of what can be called a sentence: "Sure!" and "1." tell nothing
MOST_CHARACTERS = 2_000  # a text without a full stop is cut here
_END = re.compile(r"(?<![.!?…])[.!?…]+[\"')\]»”’]*(?=\s)|[。！？]|\n")
_NO_END = re.compile(r"(?:\b\w|\b(?:mr|mrs|ms|dr|prof|st|vs|fig|eq|approx|ca|bzw|usw|inc|ltd|z\.b)|^\s*\d+)\.\Z", re.I)


def first_sentence(text: str) -> int | None:
    """Where the first sentence of at least `LEAST_CHARACTERS` ends; None while its end is not there.

    Once found it stays, whatever follows: a full stop counts only with white space after it (3.14), and not after an
    initial or a usual abbreviation. A line's end is one too. Headings, code and tables are taken for sentences.
    """
    for found in _END.finditer(text, 0, MOST_CHARACTERS):
        end = found.end()
        if len(text[:end].strip()) >= LEAST_CHARACTERS and not _NO_END.search(text, max(0, end - 12), end):
            return end
    return MOST_CHARACTERS if len(text) >= MOST_CHARACTERS else None


def can_tell(needs: GateNeeds, text: str, tokens: int) -> bool:
    """Whether a stream of which so much is there need not be held back any longer; its end always does."""
    if needs.whole:
        return False
    return tokens >= needs.tokens or (needs.sentence and first_sentence(text) is not None)


def seen(needs: GateNeeds, answer: StudentAnswer, tokens: Sequence[Token]) -> StudentAnswer:
    """What a gate with these needs looks at of `answer`, whose tokens are `tokens`; its signals are theirs.

    Of the beginning of an answer neither its finish reason nor its tool calls are known.
    """
    if needs.whole:
        return replace(answer, signals=signals_of(tokens[: needs.tokens]))
    text = answer.text
    end = first_sentence(text) if needs.sentence else None
    if len(tokens) >= needs.tokens:
        covered = sum(len(token.text) for token in tokens[: needs.tokens])
        end = covered if end is None else min(end, covered)
    if end is None:
        return replace(answer, signals=signals_of(tokens))
    shown = tokens[: min(needs.tokens, _tokens_over(tokens, end))]
    return replace(_cut(answer, end), signals=signals_of(shown))


def beginning(needs: GateNeeds, answer: StudentAnswer) -> StudentAnswer:
    """A recorded answer, whose tokens are gone, as `seen` would have shown it; its signals are what was recorded.

    Where so many tokens end before the first sentence does, `seen` shows less of the text.
    """
    if needs.whole or not needs.sentence or not answer.complete:
        return answer
    end = first_sentence(answer.text)
    return answer if end is None else _cut(answer, end)


def _cut(answer: StudentAnswer, end: int) -> StudentAnswer:
    return replace(
        answer,
        text=answer.text[:end],
        finish_reason=None,
        refusal=answer.refusal[:end] if answer.refusal else None,
        tool_calls=(),
        complete=False,
    )


def _tokens_over(tokens: Sequence[Token], characters: int) -> int:
    """How many tokens it takes to cover so many characters."""
    covered = 0
    for count, token in enumerate(tokens):
        if covered >= characters:
            return count
        covered += len(token.text)
    return len(tokens)
