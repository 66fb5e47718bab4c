"""What a gate asks beside the student's own answer: further answers to compare it with, and the user's own checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from policies.gate.agreement import Agreement
from policies.gate.checks import Check


@dataclass(frozen=True, slots=True)
class Asks:
    """`checks` by name: an answer that fails one goes to the teacher whatever its score."""

    agreement: Agreement | None = None
    checks: Mapping[str, Check] = field(default_factory=lambda: MappingProxyType({}))

    def __bool__(self) -> bool:
        """Whether anything is asked."""
        return self.agreement is not None or bool(self.checks)
