"""One scheduled training, in a process of its own: `python -m router.trained.job`, told on standard input what to do.

The process ends with its parent and gives way to everything else on the machine. Its last line of standard output says
what came of it.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import Any, Literal

from router.lifeline import end_with_parent

NICENESS = 10
Result = Literal["promoted", "candidate", "too_few"]


@dataclass(frozen=True, slots=True)
class Task:
    """`config`: the configuration's text. `training`: the route's block as JSON. `parent`: the process that asks."""

    config: str
    route: str
    kind: str
    training: dict[str, Any]
    parent: int

    def encoded(self) -> bytes:
        return json.dumps(asdict(self)).encode()


@dataclass(frozen=True, slots=True)
class Outcome:
    """`why`: a sentence for the log. `number` in the store; None: nothing was kept."""

    result: Result
    why: str
    number: int | None = None

    def encoded(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decoded(cls, output: bytes) -> Outcome:
        """The last line of what a job printed. Raises ValueError for anything else."""
        try:
            return cls(**json.loads(output.splitlines()[-1]))
        except (IndexError, TypeError) as error:
            raise ValueError(f"no outcome in {output[-200:]!r}") from error


def main() -> None:
    task = Task(**json.loads(sys.stdin.buffer.read()))
    end_with_parent(task.parent)
    os.nice(NICENESS)
    from router.settings import parse
    from router.trained.retrain import retrain
    from router.trained.settings import Training

    training = Training.model_validate(task.training)
    outcome = retrain(parse(task.config, upstream_keys=False), task.route, task.kind, training)
    sys.stdout.buffer.write(outcome.encoded() + b"\n")


if __name__ == "__main__":
    main()
