"""The comparators by name: those that need no settings, and those of the configuration.

A new kind is a file, its settings in `router.comparator_settings`, a line in `_build` here, and a place in the order of
`auto` where that fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from router.comparator_settings import (
    BUILT_IN,
    AnyComparator,
    AutoSettings,
    CodeSettings,
    CommandSettings,
    JsonSettings,
    JudgeSettings,
    LabelSettings,
    NumberSettings,
    ProseSettings,
    ToolCallsSettings,
)
from router.evidence.compare.auto import Auto
from router.evidence.compare.base import Answer, Comparator, PureComparator, Services, Verdict
from router.evidence.compare.command import Command
from router.evidence.compare.exact import Exact
from router.evidence.compare.json_diff import Rules
from router.evidence.compare.json_value import JsonValue
from router.evidence.compare.judge import Judge
from router.evidence.compare.label import Label
from router.evidence.compare.number import Number
from router.evidence.compare.outcomes import outcome_verdict
from router.evidence.compare.prose import Prose
from router.evidence.compare.quantity import Tolerance
from router.evidence.compare.sandbox import Sandbox
from router.evidence.compare.source_code import SourceCode
from router.evidence.compare.tested_code import TestedCode
from router.evidence.compare.threaded import Threaded
from router.evidence.compare.tool_calls import ToolCalls

# Who says whether a kind fits, in the order that `auto` asks; prose is what is left.
_ORDER: tuple[PureComparator, ...] = (ToolCalls(), JsonValue(), SourceCode(), Number(), Label())


GATE_PROGRAMS = 4  # side by side, of gates: a client waits for them, so that they do not wait behind audits


class UnknownComparator(ValueError):
    """A comparator name that is neither built in nor configured."""


class Comparators:
    """All comparators of one configuration. Its settings are checked before, by `comparator_problems`.

    `gate_programs`: where gates run the user's commands.
    """

    def __init__(self, settings: Mapping[str, AnyComparator] = MappingProxyType({})) -> None:
        self.names = (*BUILT_IN, *settings)
        self.gate_programs = Sandbox(GATE_PROGRAMS)
        self._sandbox = Sandbox()
        self._by_name: dict[str, Comparator] = {
            "exact": Threaded(Exact()),
            "label": Threaded(Label()),
            "number": Threaded(Number()),
            "json": Threaded(JsonValue()),
            "tool_calls": Threaded(ToolCalls()),
            "code": Threaded(SourceCode()),
            "prose": Prose(),
        }
        for name, each in sorted(settings.items(), key=lambda item: _refers(item[1])):
            self._by_name[name] = self._build(name, each)
        self._by_name["auto"] = self._auto("auto", AutoSettings(kind="auto"))
        self._tool_calls = self._by_name["tool_calls"]

    def get(self, name: str) -> Comparator:
        """Raises `UnknownComparator`, naming the known ones."""
        try:
            return self._by_name[name]
        except KeyError:
            raise UnknownComparator(f"unknown comparator '{name}'; known: {', '.join(self.names)}") from None

    async def compare(
        self, name: str, request: Mapping[str, Any], teacher: Answer, student: Answer, services: Services
    ) -> Verdict:
        """The verdict on one pair: outcome classes first, then the comparator named; no tool call is overlooked.

        `request` is the client's decoded body. Raises `UnknownComparator`, and nothing for what a model wrote.
        """
        chosen = self.get(name)
        outcome = outcome_verdict(teacher, student, request)
        if outcome is not None:
            return outcome
        if (teacher.called or student.called) and not chosen.applies(request, teacher, student):
            chosen = self._tool_calls
        return await chosen.compare(request, teacher, student, services)

    def _build(self, name: str, settings: AnyComparator) -> Comparator:
        match settings:
            case LabelSettings():
                return Threaded(Label.of(settings.aliases, name))
            case NumberSettings():
                return Threaded(Number(_tolerance(settings), name))
            case JsonSettings():
                return Threaded(JsonValue(Rules.of(settings.rules), name))
            case ToolCallsSettings():
                rules = {tool: Rules.of(each) for tool, each in settings.rules.items()}
                return Threaded(ToolCalls(MappingProxyType(rules), name))
            case CodeSettings(test=None):
                return Threaded(SourceCode(name))
            case CodeSettings():
                return TestedCode(settings, settings.test or (), self._sandbox, SourceCode(name))
            case ProseSettings():
                return Prose(self.get(settings.judge) if settings.judge else None, name)
            case JudgeSettings():
                return Judge(settings.model, settings.criteria, settings.max_tokens, name)
            case CommandSettings():
                return Command(settings.argv, settings.timeout_s, self._sandbox, name)
            case AutoSettings():
                return self._auto(name, settings)

    def _auto(self, name: str, settings: AutoSettings) -> Auto:
        chosen = settings.chosen()
        alternatives = tuple((kind, self.get(chosen[kind.name])) for kind in _ORDER)
        return Auto(alternatives, self.get(chosen["prose"]), name)


def _refers(settings: AnyComparator) -> int:
    """Those that others name are built first."""
    return {"prose": 1, "auto": 2}.get(settings.kind, 0)


def _tolerance(settings: NumberSettings) -> Tolerance:
    return Tolerance(Decimal(str(settings.tolerance_rel)), Decimal(str(settings.tolerance_abs)))
