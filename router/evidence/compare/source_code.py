"""Code in answers: the fenced blocks are taken out, parsed, and equal where they have one form.

Python is compared as a syntax tree without comments, docstrings and the annotations of functions (unless the request
asks for them), JSON as a value, and any other language as its tokens without comments. Nothing is run: two programs
that do the same in another way differ.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rapidfuzz.distance import Indel

from router.evidence.compare import json_tree, python_tree
from router.evidence.compare.base import Answer, Verdict, agree, differ, side_by_side
from router.evidence.compare.requests import json_format, wishes
from router.evidence.compare.text import normalise

COMPARED = 5_000  # tokens whose order makes the score
# Possessive where a failure must not be tried again with less: a line of 100,000 tildes takes one look.
_FENCE = re.compile(
    r"^[ \t]*+(?P<fence>`{3,}+|~{3,}+)[ \t]*+(?P<language>[\w+#.-]*+)[^\n`]*+\n"
    r"(?P<code>.*?)(?:^[ \t]*+(?P=fence)[`~]*+[ \t]*+$|\Z)",
    re.DOTALL | re.MULTILINE,
)
_NAMES = {
    "py": "python",
    "python3": "python",
    "js": "javascript",
    "ts": "typescript",
    "bash": "sh",
    "shell": "sh",
    "zsh": "sh",
    "console": "text",
    "output": "text",
    "plaintext": "text",
    "txt": "text",
    "markdown": "text",
    "md": "text",
    "yml": "yaml",
    "c++": "cpp",
    "golang": "go",
    "rs": "rust",
    "rb": "ruby",
    "postgresql": "sql",
    "mysql": "sql",
    "sqlite": "sql",
}
_ANNOTATIONS = re.compile(r"\b(?:type[- ]?hint\w*|annotat\w+|typed|type-?safe|mypy|pyright)\b", re.IGNORECASE)
_DOCSTRINGS = re.compile(r"\b(?:doc[- ]?strings?)\b", re.IGNORECASE)
_EITHER_QUOTE = ("javascript", "typescript", "jsx", "tsx", "css", "scss")
_PLAIN_STRING = re.compile(r"'([^'\"\\\n]*)'\Z")
_ACROSS_LINES = re.compile(r"<<|\\\n")  # here-documents, continued lines: the white space of a line counts
_HASH = ("ruby", "perl", "r")
_LINE_MATTERS = ("python", "yaml", "makefile", "dockerfile", "toml", "sh")
# What is not closed goes on to the end of its line or of the text: each character is looked at once.
_STRING = r'"(?:\\.|[^"\\\n])*"?|\'(?:\\.|[^\'\\\n])*\'?'
_ACROSS = r"/\*.*?(?:\*/|\Z)"
_TOKEN = r"\w+|[^\w\s]"
_SLASH_TOKENS = re.compile(rf"(?P<comment>//[^\n]*|{_ACROSS})|{_STRING}|{_TOKEN}", re.DOTALL)
_HASH_TOKENS = re.compile(rf"(?P<comment>#[^\n]*)|{_STRING}|{_TOKEN}")
_SQL_TOKENS = re.compile(rf"(?P<comment>--[^\n]*|{_ACROSS})|{_STRING}|{_TOKEN}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of code; `language` "" where the answer does not say."""

    language: str
    code: str


@dataclass(frozen=True, slots=True)
class SourceCode:
    name: str = "code"
    version: ClassVar[int] = 2

    def applies(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> bool:
        """Code makes up a good part of an answer, by characters; whoever gave it."""
        if teacher.called or student.called or json_format(request) is not None:
            return False
        return largely_code(teacher.text) or largely_code(student.text)

    def compare(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> Verdict:
        theirs, ours = blocks(teacher.text), blocks(student.text)
        if not theirs and not ours:
            same = normalise(teacher.text) == normalise(student.text)
            return agree(self) if same else differ(self, "code", "neither has code; " + _texts(teacher, student))
        if not theirs or not ours:
            side = "student" if theirs else "teacher"
            return differ(self, "code", f"the {side}'s answer has no code; " + _texts(teacher, student))
        mains = main(theirs), main(ours)
        spoken = mains[0].language or mains[1].language  # one side may leave it out
        asked = wishes(request)
        wanted = _ANNOTATIONS.search(asked) is not None, _DOCSTRINGS.search(asked) is not None
        return self._verdict(*(Read.of(Block(block.language or spoken, block.code), *wanted) for block in mains))

    def _verdict(self, theirs: Read, ours: Read) -> Verdict:
        checks = {}
        if theirs.valid is not None and ours.valid is not None:
            checks = {"teacher_valid": theirs.valid, "student_valid": ours.valid}
        if theirs.form == ours.form:
            return agree(self, checks=checks)
        sides = (("teacher", theirs), ("student", ours))
        told = [f"{side}: not valid {read.block.language}" for side, read in sides if read.valid is False]
        told.append(side_by_side(theirs.block.code, ours.block.code))
        left, right = (tokens(read.block)[:COMPARED] for read in (theirs, ours))
        return differ(self, "code", "; ".join(told), Indel.normalized_similarity(left, right), checks=checks)


@dataclass(frozen=True, slots=True)
class Read:
    """A block with its form, which is equal for equal code, and whether it parses; None: no parser here knows."""

    block: Block
    form: Hashable
    valid: bool | None

    @classmethod
    def of(cls, block: Block, annotations: bool = False, docstrings: bool = False) -> Read:
        """The language counts where an answer names it; where not, Python and JSON are tried."""
        is_python = block.language in ("", "python")
        tree = python_tree.canonical(block.code, annotations, docstrings) if is_python else None
        if tree is not None:
            return cls(block, ("python", tree), True)
        parsed = json_tree.parse(block.code) if block.language in ("", "json") else None
        if parsed is not None:
            return cls(block, ("json", json_tree.freeze(parsed.value)), True)
        known = block.language == "json" or (block.language == "python" and len(block.code) <= python_tree.LONGEST)
        valid = False if known else None
        return cls(block, (block.language, tuple(tokens(block))), valid)


def blocks(text: str) -> list[Block]:
    """The fenced pieces that are no plain text; without a fence, a text that is Python and says more than a name."""
    found = [Block(_language(match["language"]), match["code"]) for match in _FENCE.finditer(text)]
    if found:
        return [block for block in found if block.language != "text" and block.code.strip()]
    return [Block("python", text)] if python_tree.is_program(text) else []


def main(pieces: list[Block]) -> Block:
    """The longest: examples of use and of output are shorter than what they show."""
    return max(pieces, key=lambda block: len(block.code))


def largely_code(text: str) -> bool:
    """More than a third of it: what explains code is often longer."""
    return bool(blocks(text)) and len(_FENCE.sub("", text).strip()) * 3 < len(text.strip()) * 2


def _language(info: str) -> str:
    name = info.lower()
    return _NAMES.get(name, name)


def tokens(block: Block) -> list[str]:
    """The tokens without comments and a semicolon at the end; the lines, where the layout matters."""
    if block.language in _LINE_MATTERS:
        loose = block.language == "sh" and not _ACROSS_LINES.search(block.code) and not _open_quote(block.code)
        lines = (line.strip() if loose else line.rstrip() for line in block.code.split("\n"))
        return [line for line in lines if line and not line.lstrip().startswith("#")]
    pattern = _HASH_TOKENS if block.language in _HASH else _SQL_TOKENS if block.language == "sql" else _SLASH_TOKENS
    found = [match.group() for match in pattern.finditer(block.code) if match["comment"] is None]
    if block.language == "sql":
        found = [token if token[0] in "\"'`" else token.lower() for token in found]
    if block.language in _EITHER_QUOTE:
        found = [_PLAIN_STRING.sub(r'"\1"', token) for token in found]
    while found and found[-1] == ";":
        found.pop()
    return found


def _open_quote(code: str) -> bool:
    """A line may end inside a string."""
    return any(line.count(quote) % 2 for line in code.split("\n") for quote in "'\"")


def _texts(teacher: Answer, student: Answer) -> str:
    return side_by_side(teacher.text, student.text)
