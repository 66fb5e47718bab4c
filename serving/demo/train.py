"""Trains the demo's teacher from scratch and distils its student: `python -m serving.demo.train`.

Needs the extra `train` (torch, transformers). The teacher learns every task from right answers; the student learns
from the teacher's own greedy answers (sequence-level distillation, Kim and Rush 2016, arXiv:1606.07947), nearly all of
them to easy prompts. Writes the checkpoints, report.json and REPORT.md.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import torch

from serving.demo.checkpoint import STUDENT_SHAPE, TEACHER_SHAPE, load_checkpoint, new_model, save_checkpoint
from serving.demo.corpus import IGNORED, Batch, Mix, Renderer, batches, draw_examples
from serving.demo.evaluate import MAX_ANSWER_TOKENS, quick_accuracy, record_training, write_report
from serving.demo.generate import greedy_answers
from serving.demo.tasks import MAX_WORD_LETTERS, STUDENT_REVERSE_LETTERS, Example

HERE = Path(__file__).parent

TEACHER_MIX: Mix = {
    ("upper", 0): 2.0,
    ("add1", 0): 0.5,
    ("add2", 0): 4.0,
    ("reverse", 0): 2.0,
    **{("reverse", letters): 0.5 for letters in range(6, MAX_WORD_LETTERS + 1)},
    ("sort", 0): 2.0,
    **{("sort", letters): 0.5 for letters in range(6, MAX_WORD_LETTERS + 1)},
    ("json", 0): 1.3,
    ("tool_call", 0): 1.0,
}
# Mostly what the student is for. The few hard prompts, about 4%, let its accuracy fall slowly with a word's length and
# teach it to be unsure where it is wrong, which is what a cascade reads.
STUDENT_MIX: Mix = {
    ("upper", 0): 4.0,
    ("add1", 0): 2.0,
    **{("reverse", letters): 1.0 for letters in range(1, STUDENT_REVERSE_LETTERS + 1)},
    **{("reverse", letters): 0.006 for letters in range(STUDENT_REVERSE_LETTERS + 1, MAX_WORD_LETTERS + 1)},
    ("add2", 0): 0.12,
    ("sort", 0): 0.12,
    ("json", 0): 0.04,
    ("tool_call", 0): 0.04,
}


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train: linear warm-up, then a cosine down to nothing."""

    steps: int
    examples_per_step: int
    peak_rate: float
    warmup_steps: int = 100

    def rate(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.peak_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.peak_rate * 0.5 * (1 + math.cos(math.pi * done))


TEACHER_SCHEDULE = Schedule(steps=2800, examples_per_step=128, peak_rate=2e-3)
STUDENT_SCHEDULE = Schedule(steps=3500, examples_per_step=128, peak_rate=3e-3)


def fit(
    name: str, model: Any, schedule: Schedule, draw: Callable[[int], Sequence[Example]], renderer: Renderer, rng: Random
) -> None:
    """Train in place, printing loss, speed and accuracy on held-out prompts as it goes."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
    started, losses = time.monotonic(), []
    for step in range(schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        losses.append(_step(model, optimizer, batches(draw(schedule.examples_per_step), renderer, rng)))
        if (step + 1) % 50 == 0:
            recent, speed = sum(losses[-50:]) / 50, (step + 1) / (time.monotonic() - started)
            print(f"{name} step {step + 1}/{schedule.steps} loss {recent:.4f} {speed:.2f} steps/s", flush=True)
        if (step + 1) % 300 == 0:
            print(f"{name} held out: {quick_accuracy(model, renderer)}", flush=True)


def _step(model: Any, optimizer: Any, step_batches: Sequence[Batch]) -> float:
    """One update over all buckets of a step; the loss is the mean over its answer tokens."""
    answer_tokens = sum(int((batch.labels != IGNORED).sum()) for batch in step_batches)
    total = 0.0
    for batch in step_batches:
        logits = model(input_ids=batch.tokens, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        (loss / answer_tokens).backward()
        total += float(loss.detach())
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return total / answer_tokens


def train_teacher(schedule: Schedule, renderer: Renderer, seed: int) -> Any:
    torch.manual_seed(seed)
    rng, model = Random(seed), new_model(TEACHER_SHAPE)
    fit("teacher", model, schedule, lambda count: draw_examples(TEACHER_MIX, count, rng), renderer, rng)
    return model


def distil_student(teacher: Any, schedule: Schedule, pool_size: int, renderer: Renderer, seed: int) -> Any:
    """Train a student on what the teacher answers, right or wrong."""
    torch.manual_seed(seed)
    rng, model = Random(seed), new_model(STUDENT_SHAPE)
    pool = draw_examples(STUDENT_MIX, pool_size, rng)
    answers = greedy_answers(teacher, renderer.tokenizer, [renderer.example_ids(e) for e in pool], MAX_ANSWER_TOKENS)
    taught = [replace(example, answer=answer.text) for example, answer in zip(pool, answers, strict=True)]
    agreed = sum(a.answer == b.answer for a, b in zip(pool, taught, strict=True))
    print(f"student learns from {pool_size} answers of the teacher, {agreed} of them right", flush=True)
    fit("student", model, schedule, lambda count: rng.choices(taught, k=count), renderer, rng)
    return model


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serving.demo.train", description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE, help="gets checkpoints/, report.json and REPORT.md")
    parser.add_argument("--threads", type=int, default=1, help="of torch; one is fastest on a shared machine")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--teacher-steps", type=int, default=TEACHER_SCHEDULE.steps)
    parser.add_argument("--student-steps", type=int, default=STUDENT_SCHEDULE.steps)
    parser.add_argument("--student-answers", type=int, default=40_000, help="how many the teacher gives it to learn")
    parser.add_argument("--student-only", action="store_true", help="keep the teacher that is there")
    parser.add_argument("--evaluate-only", action="store_true", help="keep both and write the report anew")
    return parser.parse_args(argv)


def _run(steps: int, seed: int, started: float, arguments: Sequence[str]) -> dict[str, Any]:
    """What the report says of one training."""
    command = shlex.join(["python", "-m", "serving.demo.train", *arguments])
    return {"command": command, "seed": seed, "steps": steps, "seconds": round(time.monotonic() - started)}


def main(argv: Sequence[str]) -> None:
    arguments, renderer = _arguments(argv), Renderer()
    torch.set_num_threads(arguments.threads)
    folders = {name: arguments.out / "checkpoints" / name for name in ("teacher", "student")}
    if not (arguments.student_only or arguments.evaluate_only):
        started, schedule = time.monotonic(), replace(TEACHER_SCHEDULE, steps=arguments.teacher_steps)
        save_checkpoint(train_teacher(schedule, renderer, arguments.seed), TEACHER_SHAPE, folders["teacher"])
        record_training(arguments.out, "teacher", _run(schedule.steps, arguments.seed, started, argv))
    if not arguments.evaluate_only:
        started, schedule = time.monotonic(), replace(STUDENT_SCHEDULE, steps=arguments.student_steps)
        teacher, seed = load_checkpoint(folders["teacher"]), arguments.seed + 1
        student = distil_student(teacher, schedule, arguments.student_answers, renderer, seed)
        save_checkpoint(student, STUDENT_SHAPE, folders["student"])
        record_training(arguments.out, "student", _run(schedule.steps, seed, started, argv))
    models = {name: load_checkpoint(folder) for name, folder in folders.items()}
    write_report(arguments.out, models, renderer)


if __name__ == "__main__":
    main(sys.argv[1:])
