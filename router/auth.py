"""Who calls: an API key of the file or of Redis, or nobody in particular where authentication is off."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256

from router.budget_settings import Budget
from router.errors import Forbidden, Unauthorized, Unavailable
from router.key_settings import KeyTerms, Limits, Permission
from router.keys.record import KeyRecord
from router.limits.bucket import Kind, Limit, Scope
from router.settings import Config

RETRY_S = 1.0


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Caller:
    """`routes` None: every route. `records` False: the tenant's requests stay out of sampling and records.

    One object for as long as its key and the configuration stay as they are, compared by identity: what is worked out
    for a caller can be kept by it. `budgets`: the key's own, by name. `expires`: Unix time.
    """

    name: str
    tenant: str
    routes: frozenset[str] | None
    permissions: frozenset[Permission]
    records: bool
    limits: tuple[Limit, ...] = ()
    budgets: tuple[tuple[str, Budget], ...] = ()
    expires: float | None = None

    def allows(self, route: str) -> bool:
        return self.routes is None or route in self.routes

    def require(self, permission: Permission, what: str) -> None:
        """Raises Forbidden, naming the permission that is missing."""
        if permission not in self.permissions:
            raise Forbidden(f"{what} needs the permission '{permission}', which this API key does not have")


ANYBODY = Caller("", "", None, frozenset({"override", "force_model", "admin"}), True)


class Authenticator:
    """Looks callers up by the SHA-256 of their key, so that neither the file nor Redis holds a secret.

    `awaits_stored`: keys in Redis have not been read yet, so that an unknown key may be one of them.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._open = config.server.auth == "none"
        self._of_file = {bytes.fromhex(key.sha256): _caller(key, config) for key in config.keys}
        self._names = frozenset(key.name for key in config.keys)
        self._stored: dict[bytes, tuple[KeyRecord, Caller]] = {}
        self._callers: Mapping[bytes, Caller] = self._of_file
        self.awaits_stored = False

    def adopt(self, records: Mapping[bytes, KeyRecord]) -> list[str]:
        """From now on these keys of Redis are known, by their digests. Gives what is wrong with them, in words."""
        problems = []
        stored = {}
        for digest, record in records.items():
            if record.name in self._names:
                problems.append(f"API key '{record.name}' in Redis is ignored: the file has a key of this name")
                continue
            known = self._stored.get(digest)
            stored[digest] = known if known and known[0] is record else (record, _caller(record, self._config))
            problems += _unknown_routes(record, self._config)
        self._stored = stored
        self._callers = {digest: caller for digest, (_, caller) in stored.items()} | self._of_file
        self.awaits_stored = False
        return problems

    def callers(self) -> Collection[Caller]:
        """One for every known key."""
        return self._callers.values()

    def named(self, name: str) -> Caller | None:
        """The caller whose key has this name."""
        if self._open:
            return ANYBODY if name == ANYBODY.name else None
        return next((caller for caller in self._callers.values() if caller.name == name), None)

    def caller(self, headers: list[tuple[bytes, bytes]]) -> Caller:
        """The caller behind a request's headers. Raises Unauthorized, Unavailable."""
        if self._open:
            return ANYBODY
        for name, value in headers:
            if name == b"authorization":
                scheme, _, token = value.partition(b" ")
                if scheme.lower() != b"bearer":
                    raise Unauthorized("expected the header 'Authorization: Bearer API_KEY'")
                return self._known(token.strip())
        raise Unauthorized("no API key: send it in the header 'Authorization: Bearer API_KEY'")

    def _known(self, token: bytes) -> Caller:
        """Never asks Redis: guessing keys must not cost it anything."""
        caller = self._callers.get(sha256(token).digest())
        if caller is None:
            if self.awaits_stored:
                raise Unavailable("API keys cannot be read from Redis yet; try again", retry_after_s=RETRY_S)
            raise Unauthorized("incorrect API key provided")
        if caller.expires is not None and time.time() >= caller.expires:
            raise Unauthorized(f"the API key '{caller.name}' has expired; ask for a new one")
        return caller


def _caller(key: KeyTerms, config: Config) -> Caller:
    tenant = config.tenants.get(key.tenant)
    return Caller(
        key.name,
        key.tenant,
        None if key.routes is None else frozenset(key.routes),
        frozenset(key.permissions),
        tenant is None or tenant.audit == "on",
        (*_limits("key", key.name, key), *(_limits("tenant", key.tenant, tenant) if tenant else ())),
        key.own_budgets(),
        key.expires.timestamp() if key.expires else None,
    )


def _limits(scope: Scope, member: str, limits: Limits) -> Collection[Limit]:
    amounts: tuple[tuple[Kind, int | None], ...] = (
        ("requests", limits.requests_per_minute),
        ("tokens", limits.tokens_per_minute),
    )
    return [Limit(scope, member, kind, amount) for kind, amount in amounts if amount is not None]


def _unknown_routes(record: KeyRecord, config: Config) -> list[str]:
    known = config.callable_names()
    return [
        f"API key '{record.name}' in Redis names the route '{route}', which is not configured here"
        for route in record.routes or ()
        if route not in known
    ]
