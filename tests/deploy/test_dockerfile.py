"""The Dockerfile, without building it."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"


def final_stage() -> list[str]:
    """The instructions after the last FROM."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line and not line.startswith("#")]
    start = max(number for number, line in enumerate(lines) if line.startswith("FROM "))
    return lines[start:]


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_image_runs_as_a_numbered_user_that_is_not_root() -> None:
    (user,) = [line.removeprefix("USER ").partition(":")[0] for line in final_stage() if line.startswith("USER ")]
    assert int(user) > 0


def test_the_final_stage_installs_nothing() -> None:
    assert not [line for line in final_stage() if "pip" in line or "apt" in line]


def test_everything_the_dockerfile_copies_reaches_the_builder() -> None:
    admitted = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [line.split()[1:-1] for line in DOCKERFILE.read_text().splitlines() if line.startswith("COPY ")]
    sources = {source for instruction in copied if "--from=build" not in instruction for source in instruction}
    assert sources == admitted
    assert all((ROOT / source).exists() for source in sources)
