"""`distill-router disagreements label`: a person says whose mistake a disagreement is, once or one after the other."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from heapq import nlargest
from pathlib import Path

import redis
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from router.cli.disagreements import printable, prompt_of, said
from router.errors import ConfigError
from router.evidence.archive.source import Source, sources
from router.evidence.find import ID, milliseconds
from router.evidence.labels import MAX_NOTE, new_label
from router.evidence.records import ArmAnswer, PairRecord, TriageLabel
from router.evidence.redis import Unreachable, connect_blocking
from router.evidence.streams import LABELS, shard_key, shard_of
from router.settings import Settings, load

KEYS: dict[str, TriageLabel] = {
    "s": "student_wrong",
    "t": "teacher_wrong",
    "e": "equivalent",
    "a": "ambiguous",
}
SKIP, QUIT = "", "q"
AT_MOST = 1000
ASKED = "[s]tudent wrong, [t]eacher wrong, [e]quivalent, [a]mbiguous, Enter skips, [q]uit: "


class Labels:
    """Writes labels to the Redis of a configuration. Raises ConfigError where none is configured or it is away."""

    def __init__(self, settings: Settings, by: str, note: str) -> None:
        client = connect_blocking(settings, "evidence")
        if client is None:
            raise ConfigError("redis: labels are kept in Redis, and none is configured")
        if len(note) > MAX_NOTE:
            raise ConfigError(f"--note: at most {MAX_NOTE} characters")
        self._redis: redis.Redis = client
        self._config = settings.config.evidence
        self._by = by
        self._note = note

    def write(self, pair_id: str, label: TriageLabel) -> None:
        record = new_label(pair_id, label, by=self._by, note=self._note)
        key = shard_key(shard_of(pair_id, self._config.shards), LABELS)
        try:
            self._redis.xadd(key, {"r": record.model_dump_json()}, maxlen=self._config.pairs_max, approximate=True)
        except Unreachable as error:
            raise ConfigError(f"redis: no answer: {error}") from error

    def close(self) -> None:
        self._redis.close()


def run_label(config_path: Path, pair: str | None, verdict: TriageLabel | None, note: str, by: str) -> None:
    """Label one pair; without `verdict` ask for it, without `pair` for every disagreement that no person has labelled,
    the latest first. Raises ConfigError."""
    settings = load(config_path, upstream_keys=False)
    if verdict is None and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError(f"asking needs a terminal; without one: label PAIR {'|'.join(KEYS.values())}")
    labels = Labels(settings, by, note)
    try:
        if pair is not None and verdict is not None:
            labels.write(_known(sources(settings, ()), pair).id, verdict)
            print(f"{pair}: {verdict}")
            return
        source = sources(settings, ())
        asked = unlabelled(source) if pair is None else [_known(source, pair)]
        with suppress(KeyboardInterrupt, EOFError):
            ask(Console(), asked, labels)
    finally:
        labels.close()


def unlabelled(source: Source) -> list[PairRecord]:
    """The disagreements without a label, the latest first; as many as anyone reads at a time."""
    pairs = (pair for pair in source.pairs(agreements=False) if not (pair.triage and pair.triage.basis == "human"))
    return nlargest(AT_MOST, pairs, key=lambda pair: pair.time)


def ask(console: Console, pairs: Iterable[PairRecord], labels: Labels) -> None:
    """Show one pair after the other and write what is said of it, at once, so that stopping loses nothing."""
    written = 0
    for pair in pairs:
        _show(console, pair)
        answer = _answer(console)
        if answer == QUIT:
            break
        if answer != SKIP:
            labels.write(pair.id, KEYS[answer])
            written += 1
    console.print(f"{written} labelled", highlight=False)


def _known(source: Source, pair_id: str) -> PairRecord:
    """Raises ConfigError."""
    if not ID.fullmatch(pair_id):
        raise ConfigError(f"pair {printable(pair_id)!r}: a pair's id is 22 hex digits, as `disagreements tail` says it")
    since = milliseconds(pair_id) / 1000
    found = next((pair for pair in source.pairs(since=since - 1) if pair.id == pair_id), None)
    if found is None:
        raise ConfigError(f"pair {pair_id} is unknown: neither Redis nor the spool has it")
    return found


def _answer(console: Console) -> str:
    while True:
        said_so = console.input(ASKED, markup=False).strip().lower()
        if said_so in KEYS or said_so in (SKIP, QUIT):
            return said_so


def _show(console: Console, pair: PairRecord) -> None:
    console.print(Rule(f"{pair.id} {pair.route}, {pair.sample}"))
    for name, text in (
        ("prompt", prompt_of(pair)),
        ("teacher", said(pair.teacher)),
        *_second(pair.second),
        ("student", said(pair.student)),
        ("diff", pair.verdict.diff),
        ("told", _told(pair)),
    ):
        console.print(Text.assemble((f"{name:8}", "bold"), printable(text, keep="\n\t")))


def _second(second: ArmAnswer | None) -> list[tuple[str, str]]:
    return [("again", said(second))] if second else []


def _told(pair: PairRecord) -> str:
    """What the machine makes of it."""
    by = f"{pair.verdict.kind}, by {pair.verdict.comparator}"
    return f"{pair.triage.label} ({pair.triage.basis}); {by}" if pair.triage else by
