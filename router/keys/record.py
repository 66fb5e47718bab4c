"""An API key as Redis keeps it, under the SHA-256 of the key: JSON, without the key itself."""

from __future__ import annotations

import json
import secrets
from datetime import datetime
from hashlib import sha256
from typing import Any

from router.key_settings import Key, KeyTerms

PREFIX = "sk-dr-"
RANDOM_BYTES = 32


class KeyRecord(KeyTerms):
    """Unknown fields make a record unreadable: what a newer version forbids must not be allowed by an older one."""

    created: datetime


def new_key() -> tuple[str, str]:
    """A new API key and its SHA-256 in hex."""
    key = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    return key, sha256(key.encode()).hexdigest()


def name_in(data: bytes) -> str | None:
    """The name in a record, also where the rest of it cannot be used."""
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return None
    name = record.get("name") if isinstance(record, dict) else None
    return name if isinstance(name, str) else None


def shown(key: Key | KeyRecord) -> dict[str, Any]:
    """A key for people and for the admin API: no hash, no secret."""
    terms = key.model_dump(mode="json", include=set(KeyTerms.model_fields), exclude={"budgets"})
    budgets = [budget.model_dump(mode="json", exclude_none=True) for budget in key.budgets]
    source, created = ("redis", key.created.isoformat()) if isinstance(key, KeyRecord) else ("file", None)
    return {**terms, "budgets": budgets, "created": created, "source": source}
