"""The language of a prompt in words, for slices; short texts and languages without a profile go by their script."""

from __future__ import annotations

from types import MappingProxyType

from router.language import language as code_of
from router.language import script

_LANGUAGES = MappingProxyType(
    {
        "en": "English",
        "de": "German",
        "fr": "French",
        "es": "Spanish",
        "it": "Italian",
        "pt": "Portuguese",
        "nl": "Dutch",
        "pl": "Polish",
        "sv": "Swedish",
        "tr": "Turkish",
        "ru": "Russian",
        "uk": "Ukrainian",
    }
)
_SCRIPTS = MappingProxyType(
    {
        "Latin": "Latin letters",
        "Cyrillic": "Cyrillic letters",
        "Arabic": "Arabic letters",
        "Hangul": "Korean",
        "Kana": "Japanese",
        "Han": "Chinese",
    }
)
OTHER = "another script"


def language(text: str) -> str:
    """A language's name, or that of a script; '' for a text without letters."""
    if not any(map(str.isalpha, text)):
        return ""
    found = script(text, least_letters=1)
    if found in ("Latin", "Cyrillic") and (code := code_of(text)):
        return _LANGUAGES[code]
    return _SCRIPTS.get(found, found) if found else OTHER
