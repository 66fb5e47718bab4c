"""Issuing API keys into Redis and listing them beside those of the file: the same for the command line and the API."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from router.errors import BadRequest
from router.key_settings import KeyTerms, key_budget_overlaps
from router.keys.record import KeyRecord, name_in, shown
from router.keys.store import KeyStore
from router.settings import Config


async def issue(store: KeyStore, config: Config, terms: KeyTerms) -> tuple[str, KeyRecord]:
    """Create a key. It is given back here and nowhere else. Raises BadRequest, Conflict, Unavailable."""
    now = datetime.now(UTC).replace(microsecond=0)
    if problems := list(_problems(terms, config, now)):
        raise BadRequest("\n".join(problems))
    record = KeyRecord(created=now, **dict(terms))
    return await store.create(record, names_in_file(config)), record


def names_in_file(config: Config) -> set[str]:
    return {key.name for key in config.keys}


async def listed(store: KeyStore | None, config: Config) -> list[dict[str, Any]]:
    """All keys by name, without hashes. A record that cannot be used has `unreadable`, so that it can be revoked."""
    keys = [shown(key) for key in config.keys]
    found = await store.snapshot() if store else None
    for data in found.records.values() if found else ():
        try:
            keys.append(shown(KeyRecord.model_validate_json(data)))
        except ValidationError:
            keys.append({"name": name_in(data), "source": "redis", "unreadable": True})
    return sorted(keys, key=lambda key: key["name"] or "")


def _problems(terms: KeyTerms, config: Config, now: datetime) -> Iterator[str]:
    if terms.expires is not None and terms.expires <= now:
        yield f"expires: {terms.expires.isoformat()} is in the past"
    for problem in key_budget_overlaps(terms.own_budgets(), config.budgets):
        yield f"budgets: {problem}"
    for _, budget in terms.own_budgets():
        for model in config.unbounded_models(budget.counts):
            yield (
                f"budgets: models.{model} is counted, so that its dearest call must be known: "
                "set its max_output_tokens in the configuration"
            )
