"""Where the other books are read: hourly sums from the ledger's Redis, counters from gateways' /metrics. Blocking."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import redis
from prometheus_client.parser import text_string_to_metric_families

from router.errors import ConfigError
from router.evidence.redis import Unreachable
from router.ledger.names import hour_key
from router.record.metrics import PREFIX
from router.report.books import COST, TEACHER, Counters, HourlySums, add_up

HOURS_AT_ONCE = 100
TIMEOUT_S = 10.0
START = "start_time_seconds"
LABELS = {COST: ("route", "tenant", "model", "origin"), TEACHER: ("route", "tenant", "basis")}


def read_sums(client: redis.Redis, hours: range) -> HourlySums:
    """The hours that Redis has sums of. Raises ConfigError when it does not answer."""
    sums: HourlySums = {}
    for first in range(0, len(hours), HOURS_AT_ONCE):
        some = hours[first : first + HOURS_AT_ONCE]
        pipeline = client.pipeline(transaction=False)
        for hour in some:
            pipeline.hgetall(hour_key(hour))
        try:
            replies = cast(list[dict[bytes, bytes]], pipeline.execute())
        except Unreachable as error:
            raise ConfigError(f"redis: the ledger's server does not answer: {error}") from error
        for hour, fields in zip(some, replies, strict=True):
            if fields:
                sums[hour] = add_up((name.decode(), int(nano)) for name, nano in fields.items())
    return sums


def read_counters(urls: Iterable[str], api_key: str | None) -> Counters:
    """The counters of money of all gateways together. Raises ConfigError for one that does not answer."""
    counters = Counters()
    for url in urls:
        _add(counters, url, _scrape(url, api_key))
    return counters


def _add(counters: Counters, url: str, text: str) -> None:
    before = len(counters.started)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name.removeprefix(PREFIX)
            if name == START:
                counters.started.append(sample.value)
            elif name in LABELS:
                series = name, tuple(sample.labels[label] for label in LABELS[name])
                counters.usd[series] = counters.usd.get(series, 0.0) + sample.value
    if len(counters.started) == before:
        raise ConfigError(f"--metrics {url}: no {PREFIX}{START}; expected a gateway's /metrics")


def _scrape(url: str, api_key: str | None) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(f"--metrics {url}: expected http(s)://HOST[:PORT][/metrics]")
    address = url if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}/metrics"
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        with urlopen(Request(address, headers=headers), timeout=TIMEOUT_S) as answer:
            return str(answer.read().decode())
    except HTTPError as error:
        hint = "; it is protected: give --api-key-file" if error.code in (401, 403) else ""
        raise ConfigError(f"--metrics {url}: status {error.code}{hint}") from error
    except (URLError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--metrics {url}: no answer: {error}") from error
