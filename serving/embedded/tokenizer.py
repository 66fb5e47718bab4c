"""Text to token ids and back to bytes, for byte-level tokenizers (the kind of GPT-2 and Llama 3).

Ids map to bytes and not to text: a character may be spread over several tokens, so text appears in `text` only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tokenizers import Tokenizer

from serving.embedded.errors import BadRequest, CheckpointError

# A parser of tool calls reads these, so they are text also where a checkpoint marks them as special.
TOOL_MARKS = ("<tool_call>", "</tool_call>")


class ByteLevelTokenizer:
    """A `tokenizers` tokenizer whose every token stands for known bytes."""

    def __init__(self, tokenizer: Tokenizer, special_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._hidden_ids = special_ids - {tokenizer.token_to_id(mark) for mark in TOOL_MARKS}
        self._bytes = _bytes_of_tokens(tokenizer.get_vocab(with_added_tokens=True), special_ids)

    @property
    def longest_token_bytes(self) -> int:
        return max(map(len, self._bytes.values()))

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return max(self._bytes) + 1

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text. Raises BadRequest for lone surrogates, which no encoding of Unicode has."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadRequest(f"The text is not valid Unicode: {error.reason} at {error.start}.") from None
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def token_id(self, token: str) -> int | None:
        """The id of a token given by its own name, such as `<|im_end|>`."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes a token stands for; special tokens stand for their name, ids beyond the vocabulary for nothing."""
        return self._bytes.get(token_id, b"")

    def visible_bytes(self, token_id: int) -> bytes:
        """The bytes a token adds to an answer: none for special tokens."""
        return b"" if token_id in self._hidden_ids else self.token_bytes(token_id)


def load_tokenizer(file: Path) -> ByteLevelTokenizer:
    """Read tokenizer.json. Raises CheckpointError with the file and the fix."""
    try:
        description = json.loads(file.read_bytes())
        tokenizer = Tokenizer.from_str(json.dumps(description))
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing; save the fast tokenizer with save_pretrained") from None
    except Exception as error:  # `tokenizers` raises bare Exception for a file that it cannot read
        raise CheckpointError(f"{file} cannot be read by the tokenizers library: {error}") from None
    decoder = (description.get("decoder") or {}).get("type")
    if decoder != "ByteLevel":
        raise CheckpointError(
            f"{file} has the decoder {decoder}; this engine runs byte-level tokenizers (ByteLevel) only"
        )
    tokenizer.no_truncation()
    tokenizer.no_padding()
    special = (token["id"] for token in description.get("added_tokens", []) if token["special"])
    return ByteLevelTokenizer(tokenizer, frozenset(special))


def _bytes_of_tokens(vocab: Mapping[str, int], special_ids: frozenset[int]) -> dict[int, bytes]:
    """Undo the byte-to-symbol table; tokens with other symbols (added ones) stand for themselves."""
    byte_of = {symbol: byte for byte, symbol in enumerate(_byte_symbols())}
    table: dict[int, bytes] = {}
    for token, token_id in vocab.items():
        if token_id not in special_ids and all(symbol in byte_of for symbol in token):
            table[token_id] = bytes(byte_of[symbol] for symbol in token)
        else:
            table[token_id] = token.encode()
    return table


def _byte_symbols() -> list[str]:
    """The printable stand-in for each byte value, in byte order (GPT-2's `bytes_to_unicode`)."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
