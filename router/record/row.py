"""The decision row: one small text-free JSON object a request, the single source for billing, explanation and replay.

Keys are short and what has its default is left out, so that the usual row takes about 300 bytes. `FIELDS` says what
each key means.
"""

from __future__ import annotations

from types import MappingProxyType

import msgspec

VERSION = 1

FIELDS = MappingProxyType(
    {
        "v": "version of this format",
        "id": "decision id",
        "t": "time, Unix seconds",
        "ep": "endpoint: chat, completions, responses, embeddings",
        "rt": "route, '' for a model asked for by name",
        "tn": "tenant",
        "k": "name of the API key",
        "po": "kind of policy",
        "pv": "version of the policy",
        "f": "features: prompt bytes, abilities needed",
        "s": "scores: mean log-probability (nats), P(student wrong)",
        "q": "of the estimator: expected loss, novelty; both from 0 to 1",
        "th": "threshold that the expected loss, or P(student wrong), was held against",
        "sw": "cost of leaving the conversation's model, nano-USD, paid or not",
        "g": "guards that fired",
        "p": "propensity: P(the teacher was to be chosen)",
        "a": "arm that answered: t, s, or '' for a model by name",
        "m": "model that answered",
        "r": "reason",
        "ch": "charges, one a call: origin, model, nano-USD; input, cached, output, reasoning tokens; 1: estimated",
        "to": "cost of the teacher alone, nano-USD (an estimate)",
        "o": "outcome: ok, cancelled, interrupted, rejected, failed",
        "st": "HTTP status",
        "ms": "latency, milliseconds",
        "tt": "time to the first byte of a stream, milliseconds",
        "au": "probability of being compared, for a request that was drawn",
        "sv": "version of the student that was configured",
        "ns": "1: not to be kept or compared (no-store, or the tenant's setting); counts for no estimate",
        "fo": "1: the client insisted on a model or policy; counts for no estimate",
        "fb": "1: the other arm answered after a failure",
        "n": "failed tries",
    }
)


class RowCharge(msgspec.Struct, array_like=True):
    """One call to a model as the ledger settled it; cost in nano-USD."""

    origin: str
    model: str
    nano: int
    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    estimated: int = 0


class DecisionRow(msgspec.Struct, omit_defaults=True):
    """One request. See `FIELDS`."""

    v: int
    id: str
    t: float
    ep: str
    rt: str = ""
    tn: str = ""
    k: str = ""
    po: str = ""
    pv: str = ""
    f: tuple[int, list[str]] = (0, [])
    s: tuple[float | None, float | None] | None = None
    q: tuple[float, float] | None = None
    th: float | None = None
    sw: int = 0
    g: list[str] = []
    p: float = 0.0
    a: str = ""
    m: str = ""
    r: str = ""
    ch: list[RowCharge] = []
    to: int = 0
    o: str = "ok"
    st: int = 200
    ms: float = 0.0
    tt: float | None = None
    au: float = 0.0
    sv: str = ""
    ns: int = 0
    fo: int = 0
    fb: int = 0
    n: int = 0

    @property
    def c(self) -> dict[str, int]:
        """Nano-dollars by origin; origins that cost nothing are left out."""
        sums: dict[str, int] = {}
        for charge in self.ch:
            if charge.nano:
                sums[charge.origin] = sums.get(charge.origin, 0) + charge.nano
        return sums

    @property
    def tok(self) -> tuple[int, int, int, int]:
        """Tokens of all calls: input, cached input, output, reasoning."""
        return (
            sum(charge.input for charge in self.ch),
            sum(charge.cached for charge in self.ch),
            sum(charge.output for charge in self.ch),
            sum(charge.reasoning for charge in self.ch),
        )

    @property
    def e(self) -> int:
        """1: a usage had to be estimated."""
        return int(any(charge.estimated for charge in self.ch))


_decoder = msgspec.json.Decoder(DecisionRow)
encode_row = msgspec.json.Encoder().encode


def decode_row(data: bytes) -> DecisionRow:
    """Raises msgspec.DecodeError."""
    return _decoder.decode(data)
