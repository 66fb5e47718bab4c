"""Who may import whom, that importing does nothing, and that one module reads the environment."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("policies", "router", "serving")
# Each may import itself and these of ours. `router/cli` starts the demo's models.
ALLOWED = {"policies": set(), "router": {"policies"}, "router.cli": {"policies", "serving"}, "serving": {"policies"}}
# The engine asks BLAS for one thread before numpy is imported.
READS_ENVIRONMENT = {"router.settings", "serving.embedded.server"}
MEASURE = """
import importlib, json, os, psutil, sys, threading
before = dict(os.environ)
for name in json.loads(sys.stdin.read()):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "transformers"):  # of the extra `train`
            raise
threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
sockets = [str(link) for link in psutil.Process().net_connections("all")]
children = [str(child) for child in psutil.Process().children()]
changed = {name for name, _ in before.items() ^ dict(os.environ).items()}
print(json.dumps([threads, sockets, children, sorted(changed)]))
"""


def modules() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, inside functions and under TYPE_CHECKING too."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module or ""


def rule_for(module: str) -> set[str]:
    place = max((name for name in ALLOWED if module == name or module.startswith(f"{name}.")), key=len)
    return ALLOWED[place] | {module.partition(".")[0]}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_place_allows(module: str) -> None:
    ours = {name.partition(".")[0] for name in imported(MODULES[module])} & {*PACKAGES, "tests", "bench"}
    assert ours <= rule_for(module)


def test_only_the_settings_touch_the_environment() -> None:
    touching = {
        name
        for name, path in MODULES.items()
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "putenv")
    }
    assert touching <= READS_ENVIRONMENT


def test_importing_starts_nothing() -> None:
    """No thread, no socket, no process, no change of the environment."""
    names = [name for name in MODULES if not name.endswith("__main__")]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], input=json.dumps(names), capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[], [], [], []]


def test_the_command_line_and_the_settings_import_no_metrics() -> None:
    """prometheus-client reads where workers share their metrics when it is imported: that must be known before."""
    program = "import router.cli, router.server, sys; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
