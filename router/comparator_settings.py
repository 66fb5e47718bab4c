"""The comparators of the configuration: `comparators:`, a mapping from a name to a kind and its settings.

    comparators:
      invoices: {kind: json, rules: {$.created_at: ignore, $.total: {tolerance_abs: 0.01}, $.lines: unordered}}
      referee: {kind: judge, model: third-model}
      careful: {kind: prose, judge: referee}
      mine: {kind: auto, json: invoices, prose: careful}

`routes.*.audit.comparator` names one of them, or a kind that needs no settings (`BUILT_IN`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from router.evidence.compare.json_path import parse_path
from router.setting_types import Block, Name, Seconds

BUILT_IN = ("exact", "label", "number", "json", "tool_calls", "code", "prose", "auto")

DEFAULT_CRITERIA = (
    "Which answer serves the person who asked better: is it correct, complete, and what was asked for? Length, style "
    "and politeness alone do not count."
)

Tolerance = Annotated[float, Field(ge=0, le=1e18, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Argv = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]


def _rule(value: Any) -> Any:
    return {"compare": value} if isinstance(value, str) else value


def _path(value: str) -> str:
    """`$`, then `.name`, `["name"]`, `[0]`, `.*` or `[*]`. Raises ValueError."""
    parse_path(value)
    return value


class JsonRule(Block):
    """How the values below one path are compared."""

    compare: Literal["exact", "ignore", "unordered", "text"] = Field(
        default="exact",
        description="ignore: anything goes; unordered: an array as a multiset; text: case and punctuation do not count",
    )
    tolerance_rel: Tolerance = Field(default=0, description="of numbers, as a share of the larger")
    tolerance_abs: Tolerance = Field(default=0, description="of numbers")
    similarity: Share | None = Field(default=None, description="of texts: words in common, in order, that are enough")


Rules = dict[
    Annotated[str, AfterValidator(_path)], Annotated[JsonRule, BeforeValidator(_rule, json_schema_input_type=Any)]
]


class LabelSettings(Block):
    """Short answers that name one of a few things."""

    kind: Literal["label"]
    aliases: dict[str, tuple[str, ...]] = Field(default={}, description="a label, and other spellings of it")

    @model_validator(mode="after")
    def _distinct(self) -> LabelSettings:
        owners: dict[str, str] = {}
        for label, aliases in self.aliases.items():
            for alias in (label, *aliases):
                owner = owners.setdefault(alias.casefold().strip(), label)
                if owner != label:
                    raise ValueError(f"'{alias}' is an alias of both '{owner}' and '{label}'")
        return self


class NumberSettings(Block):
    """The final number of an answer; either tolerance is enough."""

    kind: Literal["number"]
    tolerance_rel: Tolerance = 0
    tolerance_abs: Tolerance = 0


class JsonSettings(Block):
    """JSON by value, with rules for paths; the most specific rule that fits a path counts."""

    kind: Literal["json"]
    rules: Rules = Field(default={})


class ToolCallsSettings(Block):
    """Tool calls, with rules for the paths of each tool's arguments."""

    kind: Literal["tool_calls"]
    rules: dict[str, Rules] = Field(default={}, description="by the tool's name")


class CodeSettings(Block):
    """Code by its syntax; with `test` by what the user's own command says (exit status 0: the code is right)."""

    kind: Literal["code"]
    test: Argv | None = Field(
        default=None, description="argv, run in a fresh folder that holds the code and request.json"
    )
    file: str = Field(default="answer.py", pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 10
    cpu_s: int = Field(default=10, ge=1, le=600)
    memory_mb: int = Field(default=512, ge=16, le=65_536)
    file_mb: int = Field(default=16, ge=0, le=4096, description="the largest file that it may write")
    processes: int = Field(default=32, ge=1, le=4096, description="processes and threads; not enforced for root")


class ProseSettings(Block):
    """Texts: cheap checks, and a judge for what they leave open."""

    kind: Literal["prose"]
    judge: Name | None = Field(
        default=None, description="a comparator of kind judge; without one the unclear counts as harm"
    )


class JudgeSettings(Block):
    """A model compares the answers blind, in both orders."""

    kind: Literal["judge"]
    model: Name
    criteria: str = Field(default=DEFAULT_CRITERIA, min_length=1, max_length=10_000)
    max_tokens: int = Field(default=512, ge=16, le=32_768)


class CommandSettings(Block):
    """The user's own program: a JSON object on standard input, a verdict as JSON on standard output."""

    kind: Literal["command"]
    argv: Argv
    timeout_s: Seconds = 10


class AutoSettings(Block):
    """Chooses by request and answer; another comparator may stand for a kind."""

    kind: Literal["auto"]
    label: Name = "label"
    number: Name = "number"
    json_: Name = Field(default="json", alias="json")
    tool_calls: Name = "tool_calls"
    code: Name = "code"
    prose: Name = "prose"

    @model_serializer(mode="wrap")
    def _as_written(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """`json` is a method of the base class, so that the field has an underscore; dumps say `json`."""
        fields: dict[str, Any] = dump(self)
        return {name.rstrip("_"): value for name, value in fields.items()}

    def chosen(self) -> dict[str, str]:
        """The comparator that stands for each kind."""
        return {
            "label": self.label,
            "number": self.number,
            "json": self.json_,
            "tool_calls": self.tool_calls,
            "code": self.code,
            "prose": self.prose,
        }


AnyComparator = (
    LabelSettings
    | NumberSettings
    | JsonSettings
    | ToolCallsSettings
    | CodeSettings
    | ProseSettings
    | JudgeSettings
    | CommandSettings
    | AutoSettings
)
ComparatorSettings = Annotated[AnyComparator, Field(discriminator="kind")]
KINDS = ("label", "number", "json", "tool_calls", "code", "prose", "judge", "command", "auto")


@dataclass(frozen=True, slots=True)
class Use:
    """A place of the configuration that names a comparator for the answers of `arms`."""

    path: str
    comparator: str
    arms: frozenset[str]


def comparator_problems(
    comparators: Mapping[str, AnyComparator], models: Collection[str], uses: Iterable[Use]
) -> list[str]:
    """Names that mean nothing, and judges that would judge their own answers; each with its path in the file."""
    known = [*BUILT_IN, *comparators]
    problems = [f"comparators.{name}: a built-in comparator has this name" for name in comparators if name in BUILT_IN]
    for name, settings in comparators.items():
        problems += [f"comparators.{name}.{problem}" for problem in _own_problems(settings, comparators, models)]
    for use in uses:
        if use.comparator not in known:
            problems.append(f"{use.path}: unknown comparator '{use.comparator}'; known: {', '.join(known)}")
        problems += [
            f"{use.path}: '{use.comparator}' asks the judge '{judge}', whose model '{model}' is an arm of this route; "
            "a model does not judge its own answers"
            for judge, model in sorted(_judges(use.comparator, comparators).items())
            if model in use.arms
        ]
    return problems


def _own_problems(
    settings: AnyComparator, comparators: Mapping[str, AnyComparator], models: Collection[str]
) -> Iterator[str]:
    match settings:
        case JudgeSettings() if settings.model not in models:
            yield f"model: unknown model '{settings.model}'; known: {', '.join(models)}"
        case ProseSettings() if settings.judge is not None:
            judges = [name for name, each in comparators.items() if each.kind == "judge"]
            if settings.judge not in judges:
                yield (
                    f"judge: '{settings.judge}' is no comparator of kind judge; there are: "
                    f"{', '.join(judges) or 'none'}"
                )
        case AutoSettings():
            for kind, chosen in settings.chosen().items():
                yield from (f"{kind}: {problem}" for problem in _choice_problems(chosen, comparators))


def _choice_problems(chosen: str, comparators: Mapping[str, AnyComparator]) -> Iterator[str]:
    possible = [
        *(name for name in BUILT_IN if name != "auto"),
        *(name for name, each in comparators.items() if each.kind != "auto"),
    ]
    if chosen not in possible:
        yield f"'{chosen}' cannot stand here; possible: {', '.join(possible)}"


def _judges(name: str, comparators: Mapping[str, AnyComparator]) -> dict[str, str]:
    """The judges that a comparator may ask, and their models."""
    match comparators.get(name):
        case JudgeSettings(model=model):
            return {name: model}
        case ProseSettings(judge=str(judge)):
            asked = comparators.get(judge)
            return {judge: asked.model} if isinstance(asked, JudgeSettings) else {}
        case AutoSettings() as auto:
            kinds = {
                chosen for chosen in auto.chosen().values() if not isinstance(comparators.get(chosen), AutoSettings)
            }
            return {judge: model for kind in kinds for judge, model in _judges(kind, comparators).items()}
    return {}
