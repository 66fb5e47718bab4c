"""`distill-router keys`: create, list, revoke, against a real Redis."""

from __future__ import annotations

import hashlib
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from rich.console import Console
from typer.testing import CliRunner, Result

from router.cli import app
from router.cli.keys import as_table
from router.ledger.names import API_KEYS, API_KEYS_VERSION
from tests.support.gateway import two_models

FILE_HASH = "ab" * 32


@pytest.fixture
def path(tmp_path: Path, redis_folder: Path, embedded: redis.Redis) -> Path:
    return written(tmp_path, {"url": "embedded", "data_dir": str(redis_folder)})


def written(folder: Path, where: Any) -> Path:
    config = two_models("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1", models={"max_output_tokens": 10})
    config["server"]["auth"] = "keys"
    config["keys"] = [{"name": "in-file", "sha256": FILE_HASH, "tenant": "acme"}]
    config["redis"] = where
    path = folder / "router.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def keys(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", arguments[0], "--config", str(path), *arguments[1:]])


def created(path: Path, *arguments: str) -> str:
    done = keys(path, "create", *arguments)
    assert done.exit_code == 0, done.stderr
    return done.stdout.strip()


def listed(path: Path) -> dict[str, dict[str, Any]]:
    done = keys(path, "list", "--json")
    assert done.exit_code == 0, done.stderr
    return {key["name"]: key for key in json.loads(done.stdout)}


@pytest.mark.parametrize("command", ["", "create", "list", "revoke"])
def test_every_command_explains_itself(command: str) -> None:
    done = CliRunner().invoke(app, ["keys", *command.split(), "--help"])
    assert done.exit_code == 0 and "Usage:" in done.stdout


def test_a_key_is_printed_once_and_only_its_hash_is_kept(path: Path, embedded: redis.Redis) -> None:
    key = created(path, "--name", "blue")
    assert key.startswith("sk-dr-") and len(key) > 40 and "\n" not in key
    stored: Any = embedded.hgetall(API_KEYS)
    assert list(stored) == [hashlib.sha256(key.encode()).hexdigest().encode()]
    assert key not in repr(stored)
    assert embedded.get(API_KEYS_VERSION) == b"1"
    assert created(path, "--name", "green") != key


def test_everything_that_was_asked_for_is_listed(path: Path) -> None:
    created(
        path,
        *("--name", "blue", "--tenant", "acme", "--route", "auto", "--route", "elsewhere"),
        *("--permission", "override", "--permission", "admin", "--requests-per-minute", "60"),
        *("--tokens-per-minute", "1000", "--expires", "2036-01-31"),
        *("--budget", "50/month", "--budget", "2.50/24h"),
    )
    blue = listed(path)["blue"]
    budgets = blue.pop("budgets")
    created_at = datetime.fromisoformat(blue.pop("created"))
    assert abs((datetime.now(UTC) - created_at).total_seconds()) < 3600
    assert blue == {
        "name": "blue",
        "tenant": "acme",
        "routes": ["auto", "elsewhere"],
        "permissions": ["override", "admin"],
        "requests_per_minute": 60,
        "tokens_per_minute": 1000,
        "expires": "2036-01-31T00:00:00Z",
        "source": "redis",
    }
    assert [(b["limit_usd"], b["window"], b["counts"], b["on_spent"]) for b in budgets] == [
        (50, "month", "all", "refuse"),
        (2.5, "24h", "all", "refuse"),
    ]


def test_a_period_is_counted_from_now(path: Path) -> None:
    created(path, "--name", "blue", "--expires", "90d")
    left = datetime.fromisoformat(listed(path)["blue"]["expires"]) - datetime.now(UTC)
    assert timedelta(days=89) < left <= timedelta(days=90)


def test_the_list_shows_file_and_redis_and_no_hash(path: Path, embedded: redis.Redis) -> None:
    key = created(path, "--name", "blue", "--budget", "5/day")
    embedded.hset(API_KEYS, "cd" * 32, '{"name": "broken"}')
    done = keys(path, "list")
    for word in ("in-file", "acme", "blue", "5 USD/day", "file", "redis", "broken", "cannot be used"):
        assert word in done.stdout
    for hidden in (key, FILE_HASH, "cd" * 32, hashlib.sha256(key.encode()).hexdigest()):
        assert hidden not in done.stdout
        assert hidden not in keys(path, "list", "--json").stdout


def test_no_value_of_the_list_is_cut(path: Path) -> None:
    created(path, "--name", "a-key-with-a-long-name", "--route", "a-route-with-a-long-name", "--expires", "2036-01-31")
    piped = keys(path, "list").stdout
    for word in ("a-key-with-a-long-name", "a-route-with-a-long-name", "2036-01-31T00:00"):
        assert word in piped
    assert "…" not in piped
    terminal = Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None)
    terminal.print(as_table(list(listed(path).values())))
    assert isinstance(terminal.file, io.StringIO)
    lines = terminal.file.getvalue().splitlines()
    assert "…" not in "".join(lines) and max(map(len, lines)) <= 80
    expires = "".join(line.split("│")[8].strip() for line in lines if line.startswith("│"))
    assert "2036-01-31T00:00" in expires


def test_revoking_removes_it_also_a_broken_one(path: Path, embedded: redis.Redis) -> None:
    created(path, "--name", "blue")
    embedded.hset(API_KEYS, "cd" * 32, '{"name": "broken"}')
    for name in ("blue", "broken"):
        assert keys(path, "revoke", name).stdout == f"revoked: {name}\n"
    assert embedded.hlen(API_KEYS) == 0
    assert embedded.get(API_KEYS_VERSION) == b"3"
    done = keys(path, "revoke", "blue")
    assert done.exit_code == 2 and "there is no API key 'blue'" in done.stderr


def test_json_output_holds_the_key(path: Path) -> None:
    shown = json.loads(created(path, "--name", "blue", "--json"))
    assert shown["key"].startswith("sk-dr-") and shown["name"] == "blue"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--name", "in-file"), "the configuration file has an API key 'in-file'"),
        (("--name", "a b"), "name: a name is letters"),
        (("--name", "a", "--tenant", "@"), "tenant: a name is letters"),
        (("--name", "a", "--permission", "root"), "permissions.0: "),
        (("--name", "a", "--expires", "soon"), "expires: expected a day or a time"),
        (("--name", "a", "--expires", "2020-01-01"), "is in the past"),
        (("--name", "a", "--budget", "50"), "--budget 50: expected USD/WINDOW"),
        (("--name", "a", "--budget", "-5/day"), "--budget -5/day: expected USD/WINDOW"),
        (("--name", "a", "--budget", "5/week"), "budgets.0.window: unknown window 'week'"),
        (("--name", "a", "--budget", "9999999999/day"), "budgets.0.limit_usd: "),
        (("--name", "a", "--budget", "5/day", "--budget", "6/day"), "two budgets per day"),
        (("--name", "a", "--tokens-per-minute", "99999999999"), "tokens_per_minute: "),
    ],
)
def test_mistakes_are_named_and_nothing_is_created(
    path: Path, embedded: redis.Redis, arguments: tuple[str, ...], words: str
) -> None:
    done = keys(path, "create", *arguments)
    assert done.exit_code == 2
    assert words in done.stderr and str(path) in done.stderr
    assert not embedded.exists(API_KEYS)


def test_a_name_is_given_once(path: Path) -> None:
    created(path, "--name", "blue")
    done = keys(path, "create", "--name", "blue")
    assert done.exit_code == 2 and "there is an API key 'blue' already" in done.stderr


def test_a_key_of_the_file_cannot_be_revoked(path: Path) -> None:
    done = keys(path, "revoke", "in-file")
    assert done.exit_code == 2 and "remove it there" in done.stderr


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (None, "redis: these keys are kept in Redis, and none is configured"),
        ("redis://127.0.0.1:1/0", "redis: no answer"),
        ({"url": "embedded", "data_dir": "nowhere"}, "redis: no gateway runs a bundled Redis in nowhere"),
    ],
)
def test_without_redis_it_says_so(tmp_path: Path, where: Any, words: str) -> None:
    done = keys(written(tmp_path, where), "create", "--name", "a")
    assert done.exit_code == 2 and words in done.stderr
