"""Names and places by Microsoft Presidio, beside the patterns. Needs the extra `privacy` and a spaCy model.

Presidio finds them with a language model, so it misses some and takes other words for names; English only.
Source: https://microsoft.github.io/presidio/analyzer/
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any, Protocol

from router.errors import ConfigError
from router.export.redact.base import PLACEHOLDER, Span

SPACY_MODEL = "en_core_web_lg"
ENTITIES = {
    "PERSON": "PERSON",
    "LOCATION": "LOCATION",
    "NRP": "GROUP",
    "US_SSN": "ID",
    "US_PASSPORT": "ID",
    "US_DRIVER_LICENSE": "ID",
    "UK_NHS": "ID",
    "MEDICAL_LICENSE": "ID",
    "CRYPTO": "WALLET",
}
MIN_SCORE = 0.5


class Result(Protocol):
    entity_type: str
    start: int
    end: int


class Analyzer(Protocol):
    """What is used of `presidio_analyzer.AnalyzerEngine`."""

    def analyze(self, text: str, language: str, entities: list[str], score_threshold: float) -> list[Any]: ...


class Presidio:
    def __init__(self, analyzer: Analyzer) -> None:
        self._analyzer = analyzer

    def find(self, text: str) -> Iterator[Span]:
        if not any(c.isalpha() for c in text):
            return
        taken = [match.span() for match in PLACEHOLDER.finditer(text)]
        found: list[Result] = self._analyzer.analyze(
            text=text, language="en", entities=list(ENTITIES), score_threshold=MIN_SCORE
        )
        for one in found:
            if one.start < one.end and not any(one.start < end and start < one.end for start, end in taken):
                yield Span(one.start, one.end, ENTITIES[one.entity_type], text[one.start : one.end].casefold())


def load_presidio() -> Presidio:
    """Raises ConfigError that says what to install. The model is not fetched here: Presidio would, unasked."""
    if importlib.util.find_spec("presidio_analyzer") is None:
        raise ConfigError(
            "--redact presidio: presidio-analyzer is missing; the extra `privacy` brings it: "
            "pip install 'distill-router[privacy]'"
        )
    if importlib.util.find_spec(SPACY_MODEL) is None:
        raise ConfigError(f"--redact presidio: the language model is missing: python -m spacy download {SPACY_MODEL}")
    from presidio_analyzer import AnalyzerEngine  # type: ignore[import-not-found]  # of the extra `privacy`

    return Presidio(AnalyzerEngine())
