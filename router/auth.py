"""Who calls: an API key as it is configured, or nobody in particular where authentication is off."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from router.errors import Forbidden, Unauthorized
from router.settings import Config, Permission


@dataclass(frozen=True, slots=True)
class Caller:
    """`routes` None: every route. `records` False: the tenant's requests stay out of sampling and records."""

    name: str
    tenant: str
    routes: frozenset[str] | None
    permissions: frozenset[Permission]
    records: bool

    def allows(self, route: str) -> bool:
        return self.routes is None or route in self.routes

    def require(self, permission: Permission, what: str) -> None:
        """Raises Forbidden, naming the permission that is missing."""
        if permission not in self.permissions:
            raise Forbidden(f"{what} needs the permission '{permission}', which this API key does not have")


ANYBODY = Caller("", "", None, frozenset({"override", "force_model", "admin"}), True)


class Authenticator:
    """Looks callers up by the SHA-256 of their key, so that the configuration holds no secret."""

    def __init__(self, config: Config) -> None:
        self._open = config.server.auth == "none"
        self._callers = {
            bytes.fromhex(key.sha256): Caller(
                key.name,
                key.tenant,
                None if key.routes is None else frozenset(key.routes),
                frozenset(key.permissions),
                key.tenant not in config.tenants or config.tenants[key.tenant].audit == "on",
            )
            for key in config.keys
        }

    def caller(self, headers: list[tuple[bytes, bytes]]) -> Caller:
        """The caller behind a request's headers. Raises Unauthorized."""
        if self._open:
            return ANYBODY
        for name, value in headers:
            if name == b"authorization":
                scheme, _, token = value.partition(b" ")
                if scheme.lower() != b"bearer":
                    raise Unauthorized("expected the header 'Authorization: Bearer API_KEY'")
                caller = self._callers.get(sha256(token.strip()).digest())
                if caller is None:
                    raise Unauthorized("incorrect API key provided")
                return caller
        raise Unauthorized("no API key: send it in the header 'Authorization: Bearer API_KEY'")
