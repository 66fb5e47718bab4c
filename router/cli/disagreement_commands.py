"""`distill-router disagreements …`: look at pairs, label them, archive them, export a training set, erase a person."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from router.cli.options import ConfigPath, Json, bad_config

disagreements = typer.Typer(
    help="The pairs in which teacher and student disagree: look, label, archive, export, erase.", no_args_is_help=True
)

INCOMPLETE = 3
Format = Literal[
    "openai-sft",
    "openai-dpo",
    "trl-sft",
    "trl-dpo",
    "trl-kto",
    "sharegpt",
    "llamafactory",
    "axolotl",
    "prompts",
    "parquet",
]
Label = Literal["student_wrong", "teacher_wrong", "equivalent", "ambiguous"]
Archives = Annotated[
    list[str] | None, typer.Option("--archive", help="A folder or s3://… written by `archive`; repeatable.")
]


@disagreements.command()
def tail(
    config: ConfigPath,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    json: Json = False,
) -> None:
    """The latest disagreements."""
    from router.cli.disagreements import run_tail
    from router.errors import ConfigError

    try:
        run_tail(config, count, follow, as_json=json)
    except ConfigError as error:
        raise bad_config(config, error) from None


@disagreements.command()
def stats(config: ConfigPath, json: Json = False) -> None:
    """Pairs by route, verdict and whose mistake it was."""
    from router.cli.disagreements import run_stats
    from router.errors import ConfigError

    try:
        run_stats(config, as_json=json)
    except ConfigError as error:
        raise bad_config(config, error) from None


@disagreements.command()
def label(
    config: ConfigPath,
    pair: Annotated[
        str | None, typer.Argument(help="The pair's id. Left out: one after the other is asked for.")
    ] = None,
    verdict: Annotated[Label | None, typer.Argument(help="Whose mistake it is.")] = None,
    note: Annotated[str, typer.Option(help="Why.")] = "",
    by: Annotated[str, typer.Option(help="Who says so.", envvar="USER")] = "",
) -> None:
    """Say whose mistake a disagreement is; what a person says counts more than every other sign."""
    from router.cli.label import run_label
    from router.errors import ConfigError

    try:
        run_label(config, pair, verdict, note, by)
    except ConfigError as error:
        raise bad_config(config, error) from None


@disagreements.command()
def archive(
    config: ConfigPath,
    to: Annotated[str, typer.Option(help="A folder, or s3://bucket/prefix.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until interrupted.")] = False,
    json: Json = False,
) -> None:
    """Take rows, pairs and labels out of Redis into Parquet files, each exactly once."""
    from router.cli.archive import run_archive
    from router.errors import ConfigError

    try:
        run_archive(config, to, follow, as_json=json)
    except ConfigError as error:
        raise bad_config(config, error) from None


@disagreements.command()
def export(
    config: ConfigPath,
    out: Annotated[Path, typer.Option(help="The file to write; its manifest is put beside it.")],
    target: Annotated[Format, typer.Option("--format", help="What the trainer reads.")] = "openai-sft",
    archive: Archives = None,
    route: Annotated[str | None, typer.Option(help="Only this route.")] = None,
    split: Annotated[Literal["train", "val", "test", "all"], typer.Option(help="Fixed by conversation.")] = "train",
    since: Annotated[str | None, typer.Option(help="24h, 7d, 4w back, or a date.")] = None,
    slices: Annotated[
        list[str] | None, typer.Option("--slice", help="Only this slice of the loss map; repeatable.")
    ] = None,
    verdict: Annotated[
        list[str] | None,
        typer.Option(help="student_wrong (the default), teacher_wrong, equivalent, ambiguous, agree; repeatable."),
    ] = None,
    balance: Annotated[
        bool,
        typer.Option(
            "--balance", help="As many of each --slice as of the rarest; without --slice, of each kind of answer."
        ),
    ] = False,
    max_per_cluster: Annotated[int, typer.Option(min=1, help="Of prompts that are nearly the same.")] = 1,
    redact: Annotated[Literal["on", "presidio", "off"], typer.Option(help="Personal data and secrets.")] = "on",
) -> None:
    """Write a training set, linted for its format. Refused where the teacher's `training_use` does not allow it."""
    from router.errors import ConfigError

    try:
        from router.cli.export import run_export
    except ImportError as error:
        problem = f"{error.name} is missing; the extra `export` brings it: pip install 'distill-router[export]'"
        raise bad_config(config, ConfigError(problem)) from None
    try:
        typer.echo(
            run_export(
                config,
                out,
                target=target,
                archives=archive or (),
                route=route,
                split=split,
                since=since,
                slices=slices or (),
                verdicts=verdict or ("student_wrong",),
                balance=balance,
                max_per_cluster=max_per_cluster,
                redact=redact,
            )
        )
    except ConfigError as error:
        raise bad_config(config, error) from None


@disagreements.command()
def erase(
    config: ConfigPath,
    subject: Annotated[str, typer.Option(help="key:NAME, or user:ID as requests say it.")],
    archive: Archives = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove what a person or key said: from Redis, the spool and archives; later exports leave it out.

    Exit status 3 where something is left, or an archive was not named.
    """
    from router.cli.erase import run_erase
    from router.errors import ConfigError

    try:
        told, complete = run_erase(config, subject, archive or (), yes)
    except ConfigError as error:
        raise bad_config(config, error) from None
    typer.echo(told)
    if not complete:
        raise typer.Exit(INCOMPLETE)
