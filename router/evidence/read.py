"""Reading evidence back for the command line: from Redis and from what still waits in the spool. Blocking."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import msgspec
import redis
from pydantic import ValidationError

from router.bundled_redis import running_url
from router.errors import ConfigError
from router.evidence.records import PairRecord
from router.evidence.redis import TIMEOUT_S, Unreachable
from router.evidence.spool import read_spool
from router.evidence.writer import AGREEMENTS, DECISIONS, DISAGREEMENTS
from router.record.row import DecisionRow, decode_row
from router.settings import Settings

PAGE = 500


class Evidence:
    """What a gateway with these settings has written."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._redis = _connect(settings)

    def pairs(self, *, agreements: bool = True) -> Iterator[PairRecord]:
        """Pair records, disagreements first, each once. Records of a version this program does not know are skipped."""
        seen: set[str] = set()
        for stream in (DISAGREEMENTS, AGREEMENTS) if agreements else (DISAGREEMENTS,):
            for data in self.records(stream):
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

    def rows(self) -> Iterator[DecisionRow]:
        """Decision rows, oldest first, each once: a replay that a crash interrupted repeats some."""
        seen: set[str] = set()
        for data in self.records(DECISIONS):
            with contextlib.suppress(msgspec.DecodeError):
                row = decode_row(data)
                if row.id not in seen:
                    seen.add(row.id)
                    yield row

    def records(self, stream: str) -> Iterator[bytes]:
        """Every record of a stream, then those in the spool. Raises ConfigError when Redis does not answer."""
        start = "-"
        while self._redis is not None and (page := self._page("XRANGE", stream, start, "+", PAGE)):
            yield from (data for _, data in page)
            start = f"({page[-1][0]}"
        yield from read_spool(self._settings.config.evidence.spool_dir, stream)

    def _page(self, command: str, stream: str, low: str, high: str, count: int) -> list[tuple[str, bytes]]:
        assert self._redis is not None
        return _entries(_execute(self._redis, command, stream, low, high, "COUNT", count))


def _connect(settings: Settings) -> redis.Redis | None:
    config = settings.config.redis
    if config is None:
        return None
    url = config.url
    if url == "embedded":
        running = running_url(config.data_dir)
        if running is None:
            raise ConfigError(
                f"redis: no gateway runs a bundled Redis in {config.data_dir}; start one, or set redis.url"
            )
        url = running
    secret = settings.secrets.redis_password
    password = secret.get_secret_value() if secret else None
    options = {"password": password} if password else {}
    return redis.Redis.from_url(url, socket_timeout=TIMEOUT_S + 2, socket_connect_timeout=TIMEOUT_S, **options)


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
