"""What the documentation shows is there: where links lead, configurations that load, commands with their options."""

from __future__ import annotations

import os
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import typer.main
import yaml
from typer.core import TyperGroup

from router.cli import app
from router.settings import Config, Model, Route, parse
from router.yaml_text import parse_mapping
from tests.support.gateway import two_models
from tests.support.router_process import Router
from tests.support.upstream_thread import UpstreamThread

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "bench" / "gateway" / "README.md"])
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
MODELS = ("teacher", "student", "big", "large", "small", "other-small", "third", "third-model", "embedder")
STANDS_FOR = {"[…]": "[http://127.0.0.1:9101/v1]", '"…"': f"{'ab' * 32}"}  # what a reader is to fill in
COMMANDS = typer.main.get_command(app)


def fences(page: Path, *languages: str) -> Iterator[Any]:
    text = page.read_text()
    for found in FENCE.finditer(text):
        if found[2] in languages:
            place = f"{page.relative_to(ROOT)}:{text[: found.start()].count(chr(10)) + 1}"
            yield pytest.param(textwrap.dedent(found[3]), id=place)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def configured(block: dict[str, Any]) -> dict[str, Any]:
    """The block where it belongs in a configuration: whole, its top level, of a model, of a route, or of a cascade."""
    if {"server", "models", "routes"} <= block.keys():
        return block
    models: dict[str, Any] = {
        name: {"base_urls": ["http://127.0.0.1:9/v1"], "price": {"input": 2, "output": 8}, "max_output_tokens": 99}
        for name in MODELS
    }
    route: dict[str, Any] = {"teacher": "teacher", "student": "student"}
    whole = {"server": {"auth": "keys"}, "redis": "embedded", "models": models, "routes": {"auto": route}}
    if block.keys() <= Config.model_fields.keys():
        routes = {name: route | other for name, other in block.get("routes", {"auto": {}}).items()}
        return whole | block | {"models": models | block.get("models", {}), "routes": routes}
    if block.keys() <= Model.model_fields.keys():
        models["teacher"] |= block
    elif block.keys() <= Route.model_fields.keys():
        route |= block
    else:
        route["policy"] = {"kind": "cascade"} | block
    return whole


@pytest.mark.parametrize("text", [block for page in PAGES for block in fences(page, "yaml")])
def test_every_configuration_shown_is_one_that_loads(text: str) -> None:
    for shown, stands_for in STANDS_FOR.items():
        text = text.replace(shown, stands_for)
    parse(yaml.safe_dump(configured(parse_mapping(text))), {}, upstream_keys=False)


def command_lines(page: Path) -> Iterator[Any]:
    """Of blocks, with the lines that they go on in, and between backticks."""
    text = page.read_text().replace("\\\n", " ")
    for number, line in enumerate(
        dict.fromkeys(re.findall(r"(?:^ *(?:\$ )?|`)(distill-router [^`\n]+)", text, re.MULTILINE))
    ):
        yield pytest.param(line, id=f"{page.relative_to(ROOT)}-{number}")


@pytest.mark.parametrize("line", [line for page in PAGES for line in command_lines(page)])
def test_every_command_shown_is_there_with_its_options(line: str) -> None:
    words = shlex.split(re.sub(r"[\[\]]", " ", line), comments=True)[1:]
    command: Any = COMMANDS
    while isinstance(command, TyperGroup) and words:
        command = command.commands.get(words.pop(0))
    assert command, line
    known = {"--help"} | {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    shown = [word for word in words if word.startswith("--")]
    assert not {word.partition("=")[0] for word in shown} - known, line


def test_the_policy_shown_serves_as_the_plug_in_of_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = ROOT / "docs" / "policies.md"
    (code,), (entry_points,) = ([shown.values[0] for shown in fences(page, kind)] for kind in ("python", "toml"))
    folder, metadata = tmp_path / "my_package", tmp_path / "my_package-1.dist-info"
    folder.mkdir()
    metadata.mkdir()
    (folder / "curfew.py").write_text(code)
    group, _, point = entry_points.replace('"', "").partition("\n")
    (metadata / "entry_points.txt").write_text(group.replace("project.entry-points.", "") + f"\n{point}")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    policy = {"kind": "curfew", "max_prompt_bytes": 100_000}
    with UpstreamThread() as models, Router(tmp_path, two_models(models.url, models.url, policy=policy)) as router:
        status, _ = router.ask()
        assert status == 200
        assert router.metric("decisions_total", route="auto", model="student", reason="curfew:day") == 1
