"""A real Prometheus and promtool, and a small client for the questions that the tests ask."""

from __future__ import annotations

import json
import math
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from tests.support.router_process import PATIENCE_S, until
from tests.support.server_process import HOST, free_port

PROMETHEUS_VARIABLE = "DISTILL_ROUTER_TEST_PROMETHEUS"
PROMTOOL_VARIABLE = "DISTILL_ROUTER_TEST_PROMTOOL"
EVERY = "500ms"
STOP_S = 10


@dataclass(frozen=True)
class Promtool:
    """`command`: its path, or a name on the PATH."""

    command: str

    def run(self, *arguments: str | Path, stdin: str = "", cwd: Path | None = None) -> str:
        """Its output; fails with it unless the exit status is 0."""
        done = subprocess.run(
            [self.command, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=cwd,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


class Prometheus:
    """A server that scrapes one gateway and evaluates `rules` twice a second. A context manager."""

    def __init__(self, folder: Path, target: str, rules: list[Path], token: str) -> None:
        self.port = free_port()
        self.log = folder / "prometheus.log"
        self._folder = folder
        self._target, self._token = target, token
        config = {
            "global": {"scrape_interval": EVERY, "scrape_timeout": EVERY, "evaluation_interval": EVERY},
            "rule_files": [str(path) for path in rules],
            "scrape_configs": [
                {
                    "job_name": "distill-router",
                    "authorization": {"credentials": token},
                    "static_configs": [{"targets": [target]}],
                }
            ],
        }
        self.config = folder / "prometheus.yml"
        self.config.write_text(yaml.safe_dump(config))

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    os.environ[PROMETHEUS_VARIABLE],
                    f"--config.file={self.config}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address={HOST}:{self.port}",
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(self._ready, "a ready Prometheus")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        finally:
            self._process.kill()
            self._process.wait()

    def query(self, expression: str) -> list[float]:
        """The finite values of an instant query."""
        found = self._get("query", query=expression)["result"]
        samples = [found] if found and not isinstance(found[0], dict) else [series["value"] for series in found]
        return [value for value in (float(text) for _, text in samples) if math.isfinite(value)]

    def exposition(self) -> str:
        """What it scrapes."""
        headers = {"authorization": f"Bearer {self._token}"}
        request = urllib.request.Request(f"http://{self._target}/metrics", headers=headers)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return str(answer.read().decode())

    def rules(self) -> list[dict[str, Any]]:
        """Every rule with its health."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _ready(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}/-/ready", timeout=PATIENCE_S) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _get(self, path: str, **query: str) -> Any:
        url = f"http://{HOST}:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{query}: {json.load(error)['error']}") from None
