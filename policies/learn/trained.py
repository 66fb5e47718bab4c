"""What a trained policy is to everything that uses it, and the slot in which a process keeps the current one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from policies.gate.answer import StudentAnswer
from policies.query import Query, Vector

if TYPE_CHECKING:
    from policies.learn.artifact import CalibrationSet

FILE = "file:"
"""Begins the name of a slot that a file fills, not the store: `file:KIND:PATH`."""


@dataclass(frozen=True, slots=True)
class Score:
    """`loss` in [0, 1]: the expected harm of serving the student. `novelty` in [0, 1]: how unlike the training data."""

    loss: float
    novelty: float = 0.0


class Trained(Protocol):
    """A fitted estimator; immutable, so that a swap is one assignment."""

    @property
    def kind(self) -> str:
        """The kind of policy that it is for: difficulty, cascade."""

    @property
    def after(self) -> Literal["request", "sentence", "answer"]:
        """When it is asked: before the student, after its first sentence, or after its whole answer."""

    @property
    def version(self) -> str:
        """A digest of all its parameters."""

    @property
    def encoder(self) -> str:
        """The encoder whose vectors it reads, by its name; '' where it reads none."""

    @property
    def report(self) -> Mapping[str, Any]:
        """The training report: data, settings tried, held-out figures, reliability; JSON values only."""

    @property
    def calibration_set(self) -> CalibrationSet | None:
        """Out-of-sample pairs from which a floor may start; None where the examples were of no audited traffic."""

    def score(self, query: Query, answer: StudentAnswer | None = None) -> Score:
        """The expected loss of one request; `answer` is what a gate looks at and a difficulty estimator ignores."""


Encode = Callable[[str], Awaitable[Vector | None]]


class Slot:
    """Holds the version in force. Readers take `current` once per decision; None: nothing has been promoted yet.

    `encode`: gives a text's vector, or None where it does not come in time; None without an encoder.
    """

    __slots__ = ("current", "encode", "name")

    def __init__(self, name: str, current: Trained | None = None) -> None:
        self.name = name
        self.current = current
        self.encode: Encode | None = None


class Slots:
    """Every slot of a process by name, made when it is first asked for; they outlive a reload."""

    def __init__(self) -> None:
        self._slots: dict[str, Slot] = {}

    def named(self, name: str) -> Slot:
        """The slot of a trained policy such as `auto:difficulty`."""
        return self._slots.setdefault(name, Slot(name))

    def __iter__(self) -> Iterator[Slot]:
        return iter(list(self._slots.values()))
