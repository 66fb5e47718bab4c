"""The slices that one pair is in, from its request and the teacher's answer; never from the student's.

Names are `dimension:value`, such as `opening:sort`, `kind:json`, `tool:get_weather`, `language:German`, `field:$.age`.
Topics and lengths within an opening need all pairs: see `corpus`.
"""

from __future__ import annotations

import re
from hashlib import blake2b

from router.evidence.records import ArmAnswer, PairRecord
from router.lossmap.fields import fields, structured
from router.lossmap.language import language
from router.prompt import Prompt, read_prompt

OPENING_WORDS = 4
WORD_CHARACTERS = 24
SYSTEM_CHARACTERS = 40
LABEL_CHARACTERS = 40
LENGTHS = ((100, "under 100"), (1_000, "100 to 1,000"), (10_000, "1,000 to 10,000"), (100_000, "10,000 to 100,000"))
LONGEST = "100,000 and more"
# Written without spaces between words: their first characters must do.
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_NUMBER = re.compile(r"[-+$€£¥~≈]*\d[\d.,\s]*(?:e[-+]?\d+)?\s*[%°\w/$€£¥]{0,8}\.?", re.IGNORECASE)
_CODE = re.compile(r"^```", re.MULTILINE)
_DIGITS = re.compile(r"\d+")


def slice_names(record: PairRecord) -> frozenset[str]:
    """Every slice that can be told from this pair alone."""
    prompt = read_prompt(record.request, record.endpoint)
    names = {
        f"kind:{kind(record)}",
        f"length:{length_bucket(len(prompt.whole))}",
        *(f"opening:{opening}" for opening in openings(prompt.last)),
        *(f"tool:{call.get('name', '')}" for call in record.teacher.tool_calls),
        *(f"field:{path}" for path in fields(record.teacher)),
        *_said(prompt),
    }
    return frozenset(names)


def kind(record: PairRecord) -> str:
    """What the teacher's answer is: tool call, json, code, number, label or prose; of a refusal and nothing: that."""
    answer = record.teacher
    if answer.tool_calls:
        return "tool call"
    if answer.refusal is not None or not answer.text.strip():
        return "refusal" if answer.refusal is not None else "empty"
    return _kind_of_text(answer, asks_for_json=_asks_for_json(record))


def openings(text: str) -> list[str]:
    """How the message begins, in one to four words, with `#` for each digit: `sort`; `weather`, `weather in`; `##+##`.

    Instructions of one template begin alike, whatever is filled in.
    """
    words = _words(text)
    found = [" ".join(words[: place + 1]) for place in range(len(words))]
    return list(dict.fromkeys(found))


def length_bucket(characters: int) -> str:
    """Characters of the whole prompt, by powers of ten."""
    return next((name for limit, name in LENGTHS if characters < limit), LONGEST)


def _said(prompt: Prompt) -> list[str]:
    names = []
    if spoken := language(prompt.last or prompt.whole):
        names.append(f"language:{spoken}")
    if not prompt.system:
        return [*names, "system:none"]
    digest = blake2b(prompt.system.encode("utf-8", "replace"), digest_size=3).hexdigest()
    begins = " ".join(prompt.system.split())[:SYSTEM_CHARACTERS].strip()
    return [*names, f"system:{digest} {begins}"]


def _kind_of_text(answer: ArmAnswer, *, asks_for_json: bool) -> str:
    text = answer.text.strip()
    if asks_for_json or structured(text) is not None:
        return "json"
    if _CODE.search(text):
        return "code"
    if _NUMBER.fullmatch(text):
        return "number"
    return "label" if len(text) <= LABEL_CHARACTERS and "\n" not in text and len(text.split()) <= 4 else "prose"


def _asks_for_json(record: PairRecord) -> bool:
    wanted = record.request.get("response_format")
    text = record.request.get("text")
    if not isinstance(wanted, dict) and isinstance(text, dict):
        wanted = text.get("format")  # of the Responses API
    return isinstance(wanted, dict) and wanted.get("type") in ("json_object", "json_schema")


def _words(text: str) -> list[str]:
    start = text.lstrip()[: OPENING_WORDS * WORD_CHARACTERS * 2]
    if _UNSPACED.match(start):
        return [start[:2], start[2:4]] if len(start) > 2 else [start]
    words = (word.strip(".,:;!?\"'`()[]{}*#<>").lower()[:WORD_CHARACTERS] for word in start.split())
    return [_DIGITS.sub(lambda run: "#" * len(run[0]), word) for word in words if word][:OPENING_WORDS]
