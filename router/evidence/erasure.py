"""Who has been erased, and until when: tombstones, which every reader of evidence obeys.

A tombstone is the hash of a subject and the time of the erasure. What the subject said before that time is dropped
wherever it turns up again: in a spool that is replayed, an old archive, a later export. What came after it is kept.
The hash keeps the name out of sight, no more: who knows a name can find out whether it was erased.

It knows neither how a record is stored nor how it is removed there: see `router.cli.erase`.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Literal, cast

import msgspec
import redis

from router.errors import ConfigError
from router.evidence.redis import Unreachable, connect_blocking
from router.evidence.streams import shard_key
from router.settings import Settings

# A hash on the evidence's Redis: subject's hash -> Unix seconds.
TOMBSTONES = shard_key(0, "erased")
# A set: every archive that was ever written from this Redis.
ARCHIVES = shard_key(0, "archives")
Users = list[str] | tuple[str, ...]  # the names of one end user; no text, which would be read letter by letter
FOLDER = "erased"  # in the spool's folder, and in an archive
_NAME = re.compile(r"(?P<digest>[0-9a-f]{32})-(?P<ms>\d{1,15})\.json")
_LATER = """
local known = redis.call('HGET', KEYS[1], ARGV[1])
if not known or tonumber(known) < tonumber(ARGV[2]) then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a person asks to erase: an API key's name, or an end user as requests say it."""

    kind: Literal["key", "user"]
    name: str

    @property
    def digest(self) -> str:
        return _digest(self.kind, self.name)

    def said(self, key: str, users: Users) -> bool:
        return self.name == key if self.kind == "key" else self.name in users

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


def parse_subject(text: str) -> Subject:
    """Raises ConfigError."""
    kind, _, name = text.partition(":")
    if kind not in ("key", "user") or not name:
        raise ConfigError(f"--subject {text}: expected key:NAME (an API key's name) or user:ID (as requests say it)")
    return Subject(cast(Literal["key", "user"], kind), name)


class Tombstones:
    """When each erased subject was erased last: its hash -> Unix seconds."""

    def __init__(self, times: Mapping[str, float] | None = None) -> None:
        self.times = dict(times or {})

    def __bool__(self) -> bool:
        return bool(self.times)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tombstones) and self.times == other.times

    __hash__ = None  # type: ignore[assignment]  # they grow

    def joined(self, *others: Tombstones) -> Tombstones:
        """The later time counts."""
        times = dict(self.times)
        for other in others:
            for digest, at in other.times.items():
                times[digest] = max(at, times.get(digest, -math.inf))
        return Tombstones(times)

    def drops(self, key: str, users: Users, said_at: float) -> bool:
        """Whether something said at that time (Unix seconds), with that key and by a user of these names, has been
        erased."""
        if not self.times:
            return False
        return any(
            name and said_at <= self.times.get(_digest(kind, name), -math.inf)
            for kind, name in (("key", key), *(("user", user) for user in users))
        )

    def cover(self, subject: Subject, said_at: float) -> bool:
        """Whether what the subject said at that time (Unix seconds) has been erased."""
        return said_at <= self.times.get(subject.digest, -math.inf)

    def drops_record(self, data: bytes) -> bool:
        """The same for a record's JSON; what is no JSON object of ours tells of nobody and stays."""
        if not self.times:
            return False
        said = who(data)
        return said is not None and self.drops(said.key, said.users, said.time)


class Who(msgspec.Struct):
    """What a pair's or label's JSON tells of its speaker."""

    time: float
    id: str = ""
    key: str = ""
    users: list[str] = []


_who = msgspec.json.Decoder(Who)


def who(data: bytes) -> Who | None:
    """None: not a pair or a label. Decision rows name neither `time` nor `key`: they hold no text, and stay."""
    try:
        return _who.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def load_tombstones(settings: Settings) -> Tombstones:
    """Those that the gateway's Redis and its spool's folder know. Raises ConfigError when Redis does not answer."""
    near = from_names(_names(settings.config.evidence.spool_dir / FOLDER))
    client = connect_blocking(settings, "evidence")
    if client is None:
        return near
    with client:
        return near.joined(read_tombstones(client))


def bury(settings: Settings, subject: Subject, at: float) -> None:
    """Write a tombstone beside the spool and to Redis. Raises ConfigError when it cannot."""
    folder = settings.config.evidence.spool_dir / FOLDER
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / tombstone_name(subject.digest, at)).write_bytes(tombstone_text(at))
    except OSError as error:
        raise ConfigError(f"evidence.spool_dir {folder.parent}: {error.strerror or error}") from error
    client = connect_blocking(settings, "evidence")
    if client is not None:
        with client:
            write_tombstones(client, Tombstones({subject.digest: at}))


def read_tombstones(client: redis.Redis) -> Tombstones:
    """Raises ConfigError when Redis does not answer."""
    try:
        known = cast(dict[bytes, bytes], client.hgetall(TOMBSTONES))
    except Unreachable as error:
        raise ConfigError(f"redis: no answer: {error}") from error
    return Tombstones({digest.decode(): float(at) for digest, at in known.items()})


def write_tombstones(client: redis.Redis, tombstones: Tombstones) -> None:
    """An earlier time never replaces a later one. Raises ConfigError when Redis does not answer."""
    try:
        for digest, at in tombstones.times.items():
            client.eval(_LATER, 1, TOMBSTONES, digest, f"{at:.3f}")
    except Unreachable as error:
        raise ConfigError(f"redis: no answer: {error}") from error


def tombstone_name(digest: str, at: float) -> str:
    """The name of its file, which says it all."""
    return f"{digest}-{round(at * 1000)}.json"


def now_s() -> float:
    """Unix time in whole milliseconds, upwards: every place that keeps a tombstone keeps the same time."""
    return math.ceil(time.time() * 1000) / 1000


def tombstone_text(at: float) -> bytes:
    """For a person who finds the file."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    return msgspec.json.encode({"erased": when, "note": "readers drop what this subject said before; keep this file"})


def from_names(names: Iterable[str]) -> Tombstones:
    """The tombstones of a folder, told from its files' names."""
    found = [match for match in map(_NAME.fullmatch, names) if match]
    return Tombstones().joined(*(Tombstones({match["digest"]: int(match["ms"]) / 1000}) for match in found))


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


@lru_cache(maxsize=4096)
def _digest(kind: str, name: str) -> str:
    return blake2b(f"{kind}:{name}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
