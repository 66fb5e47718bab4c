"""The cost per request of a chat-completions gateway, against a mock upstream; nginx is the yardstick.

Our gateway, with Redis and router.yaml of this folder:  python bench/gateway/bench.py
Another one:    python bench/gateway/bench.py --name other --port 8000 --cmd 'gateway --port {port} --upstream {up1}/v1'
Many, in turn:  python bench/gateway/bench.py --targets targets.json --rounds 3 --out results.jsonl
A table:        python bench/gateway/bench.py --report results.jsonl

A row per target and round goes to stderr, the summary of the target to stdout, both as JSON lines. See README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

from load import HERE, compile_programs, start_upstream
from measure import Bench, Target, measure
from processes import stop
from redis_server import running_redis
from report import Row, summarise, table, with_yardsticks
from yardsticks import nginx_program, yardsticks

OUR_NAME = "distill-router"
TARGET_ALIASES = {"cmd": "command"}
"""What a targets file may call a field of Target."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default=OUR_NAME)
    parser.add_argument("--cmd", help="starts another gateway; {port} {up1} {up2} {here} {work} are filled in")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--path", default="/v1/chat/completions")
    parser.add_argument("--model", default="mock")
    parser.add_argument("--header", action="append", default=[], metavar="'name: value'")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--cwd")
    parser.add_argument("--targets", type=Path, help='{"vars": {…}, "targets": [{"name": …, "port": …, "cmd": …}, …]}')
    parser.add_argument("--only", help="names of targets, with commas between")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--secs", type=float, default=3, help="of each phase")
    parser.add_argument("--quick", action="store_true", help="phases of one second")
    parser.add_argument("--no-yardsticks", action="store_true")
    parser.add_argument("--out", type=Path, help="append the rows to this file")
    parser.add_argument("--report", type=Path, help="only print the table of such a file")
    parser.add_argument("--work", type=Path, default=HERE.parents[1] / ".cache" / "bench", help="programs and logs")
    parser.add_argument("--gateway-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--no-realtime", action="store_true", help="not even as root")
    return parser.parse_args()


def check_tools(arguments: argparse.Namespace) -> None:
    missing = [tool for tool in ("gcc", "taskset") if shutil.which(tool) is None]
    if not arguments.no_yardsticks and nginx_program() is None:
        missing.append("nginx")
    if missing:
        raise SystemExit(f"missing: {', '.join(missing)}; apt install gcc libc6-dev util-linux nginx-light")
    if (os.cpu_count() or 1) < 2:
        raise SystemExit("two cores are needed: one for the gateway, one for the load")


def our_target(arguments: argparse.Namespace) -> Target:
    program = Path(sys.executable).parent / "distill-router"
    command = f"{program} serve --config {{here}}/router.yaml --host 127.0.0.1 --port {{port}}"
    return Target(arguments.name, arguments.port, command=command, cwd=str(arguments.work))


def other_target(arguments: argparse.Namespace) -> Target:
    return Target(
        arguments.name,
        arguments.port,
        command=arguments.cmd,
        path=arguments.path,
        model=arguments.model,
        headers=tuple(arguments.header),
        env=dict(pair.split("=", 1) for pair in arguments.env),
        cwd=arguments.cwd,
    )


def listed_targets(arguments: argparse.Namespace) -> list[Target]:
    listed = json.loads(arguments.targets.read_text())
    variables = {name: os.path.expandvars(value) for name, value in listed.get("vars", {}).items()}
    return [_listed_target(fields, variables) for fields in listed["targets"]]


def _listed_target(fields: dict[str, Any], variables: dict[str, str]) -> Target:
    named = {TARGET_ALIASES.get(name, name): value for name, value in fields.items()}
    return Target(**named | {"headers": tuple(named.get("headers", ())), "vars": variables})


def chosen_targets(arguments: argparse.Namespace, upstream_pid: int) -> list[Target]:
    compared = [] if arguments.no_yardsticks else yardsticks(arguments.work, upstream_pid)
    if arguments.targets:
        compared += listed_targets(arguments)
    else:
        compared.append(other_target(arguments) if arguments.cmd else our_target(arguments))
    if arguments.only:
        compared = [target for target in compared if target.name in arguments.only.split(",")]
    return compared


def run_rounds(arguments: argparse.Namespace, targets: list[Target], upstream_pid: int) -> list[Row]:
    bench = Bench(
        work=arguments.work,
        seconds=1 if arguments.quick else arguments.secs,
        gateway_core=arguments.gateway_core,
        load_core=arguments.load_core,
        realtime=not arguments.no_realtime and os.geteuid() == 0,
        upstream_pid=upstream_pid,
    )
    rows = []
    for number in range(arguments.rounds):
        for target in targets:
            row = measure(target, bench) | {"round": number}
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
            if arguments.out:
                with arguments.out.open("a") as out:
                    out.write(json.dumps(row) + "\n")
    return rows


def main() -> int:
    arguments = parse_arguments()
    if arguments.report:
        print(table(map(json.loads, arguments.report.read_text().splitlines())))
        return 0
    check_tools(arguments)
    compile_programs(arguments.work)
    ours = not (arguments.cmd or arguments.targets)
    redis: AbstractContextManager[None] = running_redis(arguments.work, arguments.load_core) if ours else nullcontext()
    with ExitStack() as stack:
        stack.enter_context(redis)
        upstream = start_upstream(arguments.work, arguments.load_core)
        stack.callback(stop, upstream)
        rows = run_rounds(arguments, chosen_targets(arguments, upstream.pid), upstream.pid)
    summaries = summarise(rows)
    for name in [arguments.name] if arguments.name in summaries else summaries:
        print(json.dumps(with_yardsticks(summaries, name)))
    return int(any("failed" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
