"""One server has one name, whatever else its address says; two servers have two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from router.evidence.destination import destination
from router.settings import Config, Secrets, Settings
from tests.support.gateway import two_models


def settings_for(redis: Any) -> Settings:
    config = two_models("http://t", "http://s", **({"redis": redis} if redis else {}))
    return Settings(config=Config.model_validate(config), secrets=Secrets())


def named(redis: Any, running: str | None = None) -> str:
    """`running`: the address of the server, where the configuration does not say it."""
    url = running or (redis if isinstance(redis, str) else redis and redis["url"])
    return destination(settings_for(redis), url)


@pytest.mark.parametrize(
    "url",
    ["redis://host", "redis://host:6379/0", "redis://:secret@host:6379", "redis://ann:secret@host", "rediss://host"],
)
def test_neither_a_password_nor_what_goes_without_saying_changes_the_name(url: str) -> None:
    assert named(url) == named("redis://host:6379/0")
    assert "secret" not in named(url)


def test_other_servers_and_other_databases_have_other_names() -> None:
    urls = ["redis://a", "redis://b", "redis://a:6380", "redis://a/1", "unix:///run/a.sock", "unix:///run/b.sock"]
    evidence = {"url": "redis://a", "evidence_url": "redis://c"}
    assert len({named(None), *map(named, urls), named(evidence)}) == len(urls) + 2


def test_a_bundled_server_keeps_its_name_over_restarts(tmp_path: Path) -> None:
    redis = {"url": "embedded", "data_dir": str(tmp_path)}
    assert named(redis, "unix:///tmp/1/redis.sock") == named(redis, "unix:///tmp/2/redis.sock")
    assert named(redis, "unix:///tmp/1/redis.sock") != named(redis | {"data_dir": "x"}, "unix:///tmp/1/redis.sock")
    evidence = redis | {"evidence_url": "redis://c"}
    assert named(evidence, "unix:///tmp/1/redis.sock") == named("redis://c")
