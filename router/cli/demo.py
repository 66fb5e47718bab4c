"""`distill-router demo`: two tiny real models, a real Redis and the gateway as processes of their own, and traffic."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import yaml
from rich.console import Console

from router.cli import demo_learn
from router.cli.demo_report import Figures, collect, show
from router.cli.demo_traffic import ROUTE, Sent, send_all
from router.errors import ConfigError
from router.lifeline import end_with_parent, stop
from router.settings import load
from serving.demo.tasks import workload

CALIBRATION = Path(__file__).resolve().parents[2] / "serving" / "demo" / "calibration.json"
READY_S = 30.0
STOP_S = 15.0
INTERRUPTED = 130
SEED = 7
REQUESTS, LEARN_REQUESTS = 300, 3_000
COMMAND = Path(sys.executable).with_name("distill-router")


def run_demo(
    *, once: bool, traffic: bool, learns: bool, requests: int | None, port: int, json_path: Path | None
) -> int:
    """Run the demo; the exit status, 0 when every request was answered. Raises ConfigError when it cannot start."""
    console = Console()
    _require_free(port)
    _require_writable(json_path)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console.print(
        "[bold]distill-router demo[/]: the models are toys (0.1 and 0.8 million parameters), trained for this;"
    )
    console.print("the prices are configured figures, not anybody's bill.\n")
    started = time.monotonic()
    status = INTERRUPTED
    with tempfile.TemporaryDirectory(prefix="distill-router-demo-") as folder, contextlib.suppress(KeyboardInterrupt):
        config_path = _write_config(Path(folder), port)
        with _processes(config_path, Path(folder), port):
            console.print(f"Ready after {time.monotonic() - started:.1f} s at http://127.0.0.1:{port}/v1\n")
            if traffic:
                count = requests or (LEARN_REQUESTS if learns else REQUESTS)
                status = _traffic(console, config_path, port, count, json_path, learns=learns)
            else:
                status = 0
            if not once:
                _next_steps(console, port, config_path)
                signal.pause()
    return status


def demo_config(folder: Path, port: int, teacher_port: int, student_port: int) -> dict[str, object]:
    """The demo's configuration: route `auto`, policy `cascade`, a teacher budget; three of ten requests are audited,
    and every escalation is compared. Route `learned` waits for a trained policy."""
    return {
        "server": {"host": "127.0.0.1", "port": port, "auth": "none"},
        "redis": {"url": "embedded", "data_dir": str(folder / "redis")},
        "evidence": {"spool_dir": str(folder / "spool")},
        "ledger": {"state_dir": str(folder / "ledger")},
        "models": {
            "teacher": _model(teacher_port, {"input": 2.0, "output": 8.0}, ["tools", "logprobs", "n"]),
            "student": _model(student_port, {"input": 0.2, "output": 0.8}, ["logprobs", "n"]),
        },
        "routes": {
            "auto": {
                "teacher": "teacher",
                "student": "student",
                "policy": {"kind": "cascade", "escalate_at": 0.3, "calibration": json.loads(CALIBRATION.read_text())},
                "audit": {
                    "rate": 0.3,
                    "targeted": {"escalations": 1.0},
                    "confirm": 0.1,
                    "comparator": "exact",
                    "max_in_flight": 256,
                },
            },
            demo_learn.LEARNED: demo_learn.learned_route(),
        },
        "budgets": {"teacher-day": {"window": "24h", "limit_usd": 5.0, "counts": "teacher", "on_spent": "student"}},
    }


def _model(port: int, price: dict[str, float], supports: list[str]) -> dict[str, object]:
    return {
        "base_urls": [f"http://127.0.0.1:{port}/v1"],
        "price": price,
        "context_tokens": 512,
        "bytes_per_token": 1.0,
        "supports": supports,
        "training_use": "allow",
        "max_in_flight": 256,
    }


def _write_config(folder: Path, port: int) -> Path:
    path = folder / "router.yaml"
    path.write_text(yaml.safe_dump(demo_config(folder, port, _free_port(), _free_port()), sort_keys=False))
    return path


@contextlib.contextmanager
def _processes(config_path: Path, folder: Path, port: int) -> Iterator[None]:
    """The two engines and the gateway; ready when the context begins, gone when it ends."""
    models = load(config_path).config.models
    running: list[subprocess.Popen[bytes]] = []
    try:
        for name, model in models.items():
            model_port = model.base_urls[0].rpartition(":")[2].removesuffix("/v1")
            running.append(_start(folder, name, "embedded", "--model", name, "--port", model_port))
        running.append(_start(folder, "gateway", "serve", "--config", str(config_path)))
        urls = [f"{model.base_urls[0]}/models" for model in models.values()] + [f"http://127.0.0.1:{port}/readyz"]
        for url in urls:
            _wait(url, running, folder)
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave half of them behind
        for process in reversed(running):
            stop(process, STOP_S)


def _start(folder: Path, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    """A process of this program, out of the terminal's reach: Ctrl-C is for the demo, which stops them in order."""
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "router.cli", *arguments],
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )


def _wait(url: str, running: list[subprocess.Popen[bytes]], folder: Path) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        with contextlib.suppress(URLError, OSError), urlopen(url, timeout=2) as answer:
            if answer.status == 200:
                return
        if any(process.poll() is not None for process in running) or time.monotonic() > deadline:
            logs = "\n".join(f"--- {log.name}\n{log.read_text()[-2000:]}" for log in sorted(folder.glob("*.log")))
            raise ConfigError(f"the demo did not start: {url} does not answer\n{logs}")
        time.sleep(0.02)


def _traffic(
    console: Console, config_path: Path, port: int, requests: int, json_path: Path | None, *, learns: bool
) -> int:
    examples = workload(requests, SEED)
    sent: list[Sent] = asyncio.run(send_all(console, f"http://127.0.0.1:{port}", examples))
    figures: Figures = collect(load(config_path), sent)
    show(console, figures)
    told = figures.as_json()
    if learns:
        learned = demo_learn.learn(console, config_path, port, requests)
        demo_learn.show(console, learned)
        told["learned"] = learned.as_json()
    if json_path:
        json_path.write_text(json.dumps(told, indent=2) + "\n")
    return 0 if figures.answered == figures.requests else 1


def _next_steps(console: Console, port: int, config_path: Path) -> None:
    base = f"http://127.0.0.1:{port}/v1"
    console.print("\n[bold]Try next[/] (Ctrl-C stops everything):\n", highlight=False)
    for line in (
        f"curl -si {base}/chat/completions -H 'content-type: application/json' \\",
        """  -d '{"model": "auto", "messages": [{"role": "user", "content": "upper cat"}]}'""",
        "",
        f"{Path(sys.executable)}    # it has the openai client",
        "from openai import OpenAI",
        f'client = OpenAI(base_url="{base}", api_key="none")',
        'answer = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "sort banana"}])',
        "print(answer.choices[0].message.content)",
        "",
        f"{COMMAND} advise --config {config_path}",
        f"{COMMAND} retention --config {config_path}",
        f"{COMMAND} losses --config {config_path} --html losses.html",
        f"{COMMAND} disagreements tail --config {config_path}",
        f"{COMMAND} disagreements export --config {config_path} --format trl-dpo --out train.jsonl",
        f"{COMMAND} policy train --from redis --config {config_path} --route {ROUTE} --promote",
        f"{COMMAND} costs report --config {config_path} --since 1h",
        f"curl -s {base}/router/budgets",
        f"curl -s http://127.0.0.1:{port}/metrics | grep distill_router_cost",
    ):
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _require_free(port: int) -> None:
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigError(f"port {port} is taken ({error.strerror}); choose another with --port") from None


def _require_writable(path: Path | None) -> None:
    """Before the work is done, not after it."""
    if path is None:
        return
    try:
        path.open("a").close()
    except OSError as error:
        raise ConfigError(f"--json {path}: {error.strerror or error}") from None


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
