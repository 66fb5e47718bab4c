"""Keys and tokens: by the prefix that their issuer documents, or by a name beside a random value.

Prefixes: OpenAI, Anthropic and this gateway (sk-), AWS, GitHub, GitLab, Slack, Google, Stripe, npm, PyPI, Hugging Face,
SendGrid. Forms: JSON web tokens (RFC 7519), bearer tokens (RFC 6750), PEM and PGP private keys (RFC 7468, RFC 4880),
passwords in addresses (RFC 3986).
A value beside a name ("api_key = …") counts where it is long, has letters and digits, and looks random.
Not found: passwords that are words.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from router.export.redact.base import Pattern, Span

_PREFIXED = re.compile(
    r"(?<![A-Za-z0-9_-])(?:"
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}"
    r"|gh[opsur]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}|glpat-[A-Za-z0-9_-]{20,255}"
    r"|xox[abeprs]-[A-Za-z0-9-]{10,255}|xapp-[A-Za-z0-9-]{20,255}"
    r"|AIza[A-Za-z0-9_-]{35}|(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,255}|whsec_[A-Za-z0-9]{24,255}"
    r"|npm_[A-Za-z0-9]{36}|pypi-AgEI[A-Za-z0-9_-]{20,255}|hf_[A-Za-z0-9]{30,255}"
    r"|SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}"
    r")(?![A-Za-z0-9_-])"
)
_JWT = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,8192}\.eyJ[A-Za-z0-9_-]{4,8192}\.[A-Za-z0-9_-]*")
_BEARER = re.compile(r"(?i)(?<![^\W_])bearer\s+(?P<value>[A-Za-z0-9._~+/-]{16,}={0,2})")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----(?:(?!-----)[A-Za-z0-9+/=\s\\:,.()-])*"
    r"-----END (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----"
)
_IN_ADDRESS = re.compile(r"(?<=://)[^\s:/@\[\]]{0,128}:(?P<value>[^\s/@\[\]\"'\\]{1,128})@(?=[\w\[])")
_SK = re.compile(r"(?<![A-Za-z0-9_-])sk-[A-Za-z0-9_-]{16,255}")
_NAMED = re.compile(
    r"(?i)(?:api[_ -]?key|access[_ -]?key|secret(?:[_ -]?(?:access[_ -]?)?key)?|token|passw(?:or)?d|pwd|credential)"
    r"[\"']?\s{0,3}(?:[:=]|is)\s{0,3}[\"']?(?P<value>[A-Za-z0-9+/_.=~-]{16,512})"
)
_RANDOM_BITS = 3.2  # per character; English words are below 3.1 at this length


def random_looking(value: str) -> bool:
    """Letters and digits, and of high entropy: bits per character of its own distribution."""
    if not (re.search("[0-9]", value) and re.search("[A-Za-z]", value)):
        return False
    counts = Counter(value)
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts.values()) >= _RANDOM_BITS


class Random:
    """Matches whose value looks random."""

    def __init__(self, pattern: Pattern) -> None:
        self._pattern = pattern

    def find(self, text: str) -> Iterator[Span]:
        return (span for span in self._pattern.find(text) if random_looking(text[span.start : span.end]))


PRIVATE_KEY = Pattern("PRIVATE_KEY", _PRIVATE_KEY, marker="PRIVATE KEY")
TOKENS = (
    Pattern("TOKEN", _PREFIXED),
    Pattern("TOKEN", _JWT, marker="eyJ"),
    Random(Pattern("TOKEN", _SK, marker="sk-")),
    Random(Pattern("TOKEN", _BEARER)),
    Random(Pattern("TOKEN", _NAMED)),
)
PASSWORD = Pattern("PASSWORD", _IN_ADDRESS, marker="://")
