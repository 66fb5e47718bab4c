"""The helm chart, rendered by a real helm."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]


class HelmRefused(Exception):
    """Helm's own words."""


@dataclass(frozen=True)
class Chart:
    helm: Path
    path: Path
    release: str = "ci"

    def render(self, *values: Path, **settings: Any) -> Rendered:
        """`helm template` with values files, and settings such as `redis__enabled=False`. Raises HelmRefused."""
        arguments = [argument for path in values for argument in ("-f", str(path))]
        for name, value in settings.items():
            arguments += _setting(name.replace("__", "."), value)
        return Rendered(self._run("template", self.release, str(self.path), *arguments))

    def lint(self, *values: Path) -> str:
        """`helm lint --strict`. Raises HelmRefused."""
        return self._run("lint", "--strict", str(self.path), *(a for path in values for a in ("-f", str(path))))

    def _run(self, *arguments: str) -> str:
        done = subprocess.run([self.helm, *arguments], capture_output=True, text=True, check=False, timeout=60)
        # Values of the wrong kind are overridden with no more than a warning.
        if done.returncode or "warning" in done.stderr.lower():
            raise HelmRefused(done.stdout + done.stderr)
        return done.stdout


def _setting(path: str, value: Any) -> list[str]:
    if isinstance(value, str):
        return ["--set-string", f"{path}={value}"]
    if isinstance(value, Path):
        return ["--set-file", f"{path}={value}"]
    return ["--set", f"{path}={json.dumps(value)}"]


@dataclass(frozen=True)
class Rendered:
    text: str

    @cached_property
    def manifests(self) -> list[Manifest]:
        return [manifest for manifest in yaml.safe_load_all(self.text) if manifest]

    def of_kind(self, kind: str) -> list[Manifest]:
        return [manifest for manifest in self.manifests if manifest["kind"] == kind]

    def one(self, kind: str) -> Manifest:
        (manifest,) = self.of_kind(kind)
        return manifest

    @property
    def router_yaml(self) -> str:
        text: str = self.one("ConfigMap")["data"]["router.yaml"]
        return text

    def pod_specs(self) -> Iterator[Manifest]:
        for manifest in self.manifests:
            if "template" in manifest.get("spec", {}):
                yield manifest["spec"]["template"]["spec"]

    @property
    def gateway(self) -> Manifest:
        """The gateway's Pod."""
        template: Manifest = self.one("Deployment")["spec"]["template"]
        return template
