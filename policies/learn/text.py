"""Text to hashed word 1-2-grams: a stable hash, no vocabulary, a bounded cost whatever the length.

Words are runs of letters of any script (CJK characters stand alone), lower-cased; digits are all read as 0, so that a
number counts by its length. Different n-grams may share a column (Weinberger et al. 2009); nothing undoes that.
"""

from __future__ import annotations

import re
from functools import lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Columns = NDArray[np.int64]

LONGEST = 3000  # characters that are looked at: a longer text is sampled
PIECES = 5
_FIRST = np.ones(1, dtype=np.bool_)
_WORD_BYTES = bytes(
    byte if byte >= 128 else ord("0") if chr(byte).isdigit() else ord(chr(byte).lower()) if chr(byte).isalpha() else 32
    for byte in range(256)
)
_ALONE = r"\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff"
_PIECE = re.compile(f"[{_ALONE}]|[^{_ALONE}]+")


def sample(text: str, longest: int = LONGEST) -> str:
    """The text, or of one above `longest` characters its start, its end and evenly spaced pieces between them."""
    if len(text) <= longest:
        return text
    piece = longest // PIECES
    step = (len(text) - piece) / (PIECES - 1)
    return "\n".join(text[int(step * place) : int(step * place) + piece] for place in range(PIECES))


def words(text: str) -> list[bytes]:
    """The words of a text (already sampled), in order."""
    if not text.isascii():
        text = " ".join(_PIECE.findall(text)).lower()
    return text.encode("utf-8", "replace").translate(_WORD_BYTES).split()


@lru_cache(maxsize=64)
def _constant(number: int) -> NDArray[np.uint32]:
    """An operand that numpy need not convert at each use."""
    return np.array(number, dtype=np.uint32)


_MIX = _constant(0x9E3779B1)


def columns(of: list[bytes], bits: int, salt: int = 0) -> Columns:
    """Hashed columns in [0, 2**bits) of the distinct words and pairs of neighbouring words; sorted.

    `salt` tells apart namespaces, such as the last turn and the whole conversation.
    """
    if not of:
        return np.zeros(0, dtype=np.int64)
    ones = np.fromiter(map(crc32, of), dtype=np.uint32, count=len(of))
    twos = (ones[:-1] * _MIX) ^ ones[1:]
    mixed = (np.concatenate((ones, twos)) ^ _constant(crc32(b"%d" % salt))) * _MIX
    ordered = mixed >> _constant(32 - bits)
    ordered.sort()
    distinct = np.concatenate((_FIRST, ordered[1:] != ordered[:-1]))
    return np.asarray(ordered[distinct], dtype=np.int64)
