"""What an estimator may look at of a request: texts, structure, and who sent it. The same live and from records."""

from __future__ import annotations

from dataclasses import dataclass

from policies.learn.text import sample


@dataclass(frozen=True, slots=True)
class Vector:
    """What an encoder makes of a text; only an estimator that was trained with that encoder can use it."""

    encoder: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """`system`: every instruction beside the conversation; `last`: the last user message; `whole`: what all
    the conversation says, without instructions.

    `turns`: user messages; `tools`: how many are offered; `needs`: as in `RequestView`; `output_tokens`: the limit that
    the client set. `tenant`, `key` and `route` are who asks, '' where unknown. `vector`: of the last user turn, where
    the route has an encoder.
    """

    system: str = ""
    last: str = ""
    whole: str = ""
    turns: int = 1
    tools: int = 0
    needs: frozenset[str] = frozenset()
    output_tokens: int | None = None
    tenant: str = ""
    key: str = ""
    route: str = ""
    vector: Vector | None = None

    @property
    def encoded(self) -> str:
        """The text that an encoder is given: sampled, as encoders take no more than so much, and never empty."""
        return sample(self.last or self.whole) or " "
