"""Reading evidence back for the command line: from Redis and from what still waits in the spool. Blocking."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import redis
from pydantic import ValidationError

from router.errors import ConfigError
from router.evidence.records import PairRecord
from router.evidence.redis import Unreachable, connect_blocking
from router.evidence.spool import read_spool
from router.evidence.writer import AGREEMENTS, DECISIONS, DISAGREEMENTS
from router.record.row import DecisionRow, decode_row
from router.settings import Settings

PAGE = 500
SKEW_S = 300.0  # how far Redis' clock may be behind a gateway's


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back a stream goes. `oldest_s`: when its oldest record was written, by Redis' clock; None: it is empty.

    `trimmed`: whether older ones may have been there.
    """

    oldest_s: float | None
    trimmed: bool


class Evidence:
    """What a gateway with these settings has written."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._redis = connect_blocking(settings, "evidence")

    def pairs(self, *, agreements: bool = True, since: float = 0.0) -> Iterator[PairRecord]:
        """Pair records, disagreements first, each once. Records of a version this program does not know are skipped.

        `since` leaves out what was written before, about: see `records`.
        """
        seen: set[str] = set()
        for stream in (DISAGREEMENTS, AGREEMENTS) if agreements else (DISAGREEMENTS,):
            for data in self.records(stream, since):
                with contextlib.suppress(ValidationError):
                    record = PairRecord.model_validate_json(data)
                    if record.id not in seen:
                        seen.add(record.id)
                        yield record

    def latest(self, stream: str, count: int) -> tuple[str, list[bytes]]:
        """The last `count` records of a stream, oldest first, and the entry id to go on from."""
        waiting = list(read_spool(self._settings.config.evidence.spool_dir, stream))[-count:]
        page = [] if self._redis is None else self._page("XREVRANGE", stream, "+", "-", count)
        last = page[0][0] if page else "0"
        return last, [*(data for _, data in reversed(page)), *waiting][-count:]

    def after(self, stream: str, last: str) -> tuple[str, list[bytes]]:
        """What came after the entry id `last`, waiting up to a second; and the id to go on from."""
        if self._redis is None:
            raise ConfigError("redis: following needs Redis; without it evidence is in the spool only")
        reply = _execute(self._redis, "XREAD", "COUNT", PAGE, "BLOCK", 1000, "STREAMS", stream, last)
        entries = _entries(reply[0][1]) if reply else []
        return (entries[-1][0] if entries else last), [data for _, data in entries]

    def rows(self, since: float = 0.0) -> Iterator[DecisionRow]:
        """Decision rows, oldest first, each once: a replay that a crash interrupted repeats some.

        `since` leaves out what was written before, about: see `records`.
        """
        seen: set[str] = set()
        for data in self.records(DECISIONS, since):
            with contextlib.suppress(msgspec.DecodeError):
                row = decode_row(data)
                if row.id not in seen:
                    seen.add(row.id)
                    yield row

    def records(self, stream: str, since: float = 0.0) -> Iterator[bytes]:
        """Every record of a stream, then those in the spool. Raises ConfigError when Redis does not answer.

        `since` (Unix time) skips what was in the stream by then; clocks may differ by `SKEW_S`, so some of it comes.
        """
        start = f"{max(0, int((since - SKEW_S) * 1000))}"
        while self._redis is not None and (page := self._page("XRANGE", stream, start, "+", PAGE)):
            yield from (data for _, data in page)
            start = f"({page[-1][0]}"
        yield from read_spool(self._settings.config.evidence.spool_dir, stream)

    def reach(self) -> Reach:
        """How far back the decision rows in Redis go. Raises ConfigError when Redis does not answer."""
        if self._redis is None:
            return Reach(None, trimmed=False)
        oldest = self._page("XRANGE", DECISIONS, "-", "+", 1)
        if not oldest:
            return Reach(None, trimmed=False)
        return Reach(int(oldest[0][0].partition("-")[0]) / 1000, self._trimmed(self._redis))

    def _trimmed(self, client: redis.Redis) -> bool:
        """From Redis 7 on it counts what was ever added; before, a bound that has not been reached must do."""
        try:
            stream, memory = client.xinfo_stream(DECISIONS), client.info("memory")
        except Unreachable as error:
            raise ConfigError(f"redis: no answer: {error}") from error
        added = stream.get("entries-added")
        if added is not None:
            return bool(added > stream["length"])
        return bool(stream["length"] >= self._settings.config.evidence.decisions_max or memory["maxmemory"])

    def _page(self, command: str, stream: str, low: str, high: str, count: int) -> list[tuple[str, bytes]]:
        assert self._redis is not None
        return _entries(_execute(self._redis, command, stream, low, high, "COUNT", count))


def _execute(client: redis.Redis, *command: object) -> list[tuple[bytes, list[tuple[bytes, list[bytes]]]]]:
    try:
        reply = client.execute_command(*command)  # type: ignore[no-untyped-call]  # untyped there
    except Unreachable as error:
        raise ConfigError(f"redis: no answer: {error}") from error
    return list(reply.items() if isinstance(reply, dict) else reply or [])


def _entries(reply: object) -> list[tuple[str, bytes]]:
    """Entry id and record of each entry of a stream reply; entries without a record (deleted) are left out."""
    assert isinstance(reply, list)
    entries = []
    for entry_id, fields in reply:
        values = list(fields.values()) if isinstance(fields, dict) else list(fields or [])[1::2]
        if values:
            entries.append((entry_id.decode(), values[0]))
    return entries
