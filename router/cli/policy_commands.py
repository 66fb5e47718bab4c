"""`distill-router policy …`: train, score, judge and replay policies, and say which trained one is in force."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from router.cli.options import BAD_CONFIG, ConfigPath, Json, bad_config

policy = typer.Typer(help="Policies that learn: train, judge, promote, replay.", no_args_is_help=True)

REFUSED = 3
Format = Literal["auto", "jsonl", "routellm", "routerbench"]
OptionalConfig = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="DISTILL_ROUTER_CONFIG", help="The configuration file (YAML), for Redis."),
]
LogSources = Annotated[
    list[str], typer.Option("--from", help="redis, an archive, or a file of pairs or of decision rows; repeatable.")
]
LogRoute = Annotated[str, typer.Option("--route", help="The route whose policy is looked at.")]
LogSince = Annotated[str, typer.Option("--since", help="24h, 7d, 4w back, or a date; of Redis and archives.")]
ReplayTrained = Annotated[
    str | None, typer.Option("--trained", help="NAME@NUMBER or a file, instead of the trained policy in force.")
]
Confidence = Annotated[float, typer.Option(min=0.5, max=0.9999, help="Of intervals and bounds.")]
Kind = Annotated[str, typer.Option("--policy", help="difficulty, cascade.")]


@policy.command()
def train(
    sources: Annotated[
        list[str], typer.Option("--from", help="redis, an archive, or a file of pairs or scored rows; repeatable.")
    ],
    config: OptionalConfig = None,
    route: Annotated[str, typer.Option(help="The route whose pairs are learned from.")] = "auto",
    kind: Annotated[str, typer.Option(help="difficulty, cascade.")] = "difficulty",
    since: Annotated[str, typer.Option(help="24h, 7d, 4w back, or a date.")] = "90d",
    out: Annotated[Path | None, typer.Option(help="Write the trained policy to this file: a new one.")] = None,
    promote: Annotated[bool, typer.Option("--promote", help="Put it in force in all gateways.")] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write the training report with its reliability plot: .html or .svg.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the folds inside the training.")] = 0,
    json: Json = False,
) -> None:
    """Train a policy on audited pairs; settings are chosen by cross-validation, the report says how well it does.

    Exit status 3 where there are too few labels to learn from.
    """
    from router.cli.policy_store import run_train
    from router.trained.train import TrainingRefused

    with _told(config, TrainingRefused):
        told = run_train(
            config,
            sources=sources,
            route=route,
            kind=kind,
            since=since,
            out=out,
            promote=promote,
            report_path=report,
            seed=seed,
            as_json=json,
        )
    typer.echo(told)


@policy.command("list")
def list_policies(config: ConfigPath, json: Json = False) -> None:
    """The trained policies that are kept, by name; which is in force."""
    from router.cli.policy_store import run_list

    with _told(config):
        typer.echo(run_list(config, as_json=json))


@policy.command()
def show(
    what: Annotated[str, typer.Argument(help="NAME, NAME@NUMBER such as auto:difficulty@3, or a file.")],
    config: OptionalConfig = None,
    report: Annotated[Path | None, typer.Option(help="Write the report with its plot: .html or .svg.")] = None,
    json: Json = False,
) -> None:
    """The training report of a trained policy."""
    from router.cli.policy_store import run_show

    with _told(config):
        typer.echo(run_show(config, what=what, report_path=report, as_json=json))


@policy.command()
def promote(
    what: Annotated[str, typer.Argument(help="NAME@NUMBER, or NAME for its newest version.")],
    config: ConfigPath,
    file: Annotated[Path | None, typer.Option(help="Keep this trained policy first, and promote it.")] = None,
) -> None:
    """Put a trained policy in force in all gateways, within about a second."""
    from router.cli.policy_store import run_promote

    with _told(config):
        typer.echo(run_promote(config, what=what, file=file))


@policy.command()
def rollback(name: Annotated[str, typer.Argument(help="Such as auto:difficulty.")], config: ConfigPath) -> None:
    """Put in force again what was before."""
    from router.cli.policy_store import run_rollback

    with _told(config):
        typer.echo(run_rollback(config, name=name))


@policy.command()
def score(
    train: Annotated[
        list[Path], typer.Option(help="Rows with both scores to learn from: a file or a folder; repeatable.")
    ],
    data: Annotated[
        list[Path], typer.Option(help="Rows to score; their labels are not read. A file or a folder; repeatable.")
    ],
    scores_out: Annotated[Path, typer.Option(help='Written: {"id": …, "score": …}, a line a row.')],
    policy: Kind = "difficulty",
    form: Annotated[Format, typer.Option("--format", help="Of both tables.")] = "auto",
    teacher: Annotated[str | None, typer.Option(help="The model in this place, where the table has several.")] = None,
    student: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the folds inside the training.")] = 0,
) -> None:
    """Train a policy on judged rows and score others: a higher score is more worth the teacher.

    Exit status 3 where there are too few labels to learn from.
    """
    from policies.judge.wide import Pair
    from router.cli.policy_judge import Tables, run_score

    with _judged():
        typer.echo(run_score(Tables(form, Pair(teacher, student)), policy, train, data, scores_out, seed), err=True)


@policy.command()
def evaluate(
    data: Annotated[list[Path], typer.Option(help="Rows with both scores: a file or a folder; repeatable.")],
    policy: Annotated[
        list[str] | None, typer.Option(help="difficulty, cascade; repeatable: the first against the others.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Every row is ranked by a policy trained on the other folds.")] = 5,
    seeds: Annotated[int, typer.Option(min=1, help="So many ways of making the folds; figures are means.")] = 1,
    train_limit: Annotated[int | None, typer.Option(min=1, help="Learn from so many rows at most.")] = None,
    form: Annotated[Format, typer.Option("--format", help="Of the table.")] = "auto",
    teacher: Annotated[str | None, typer.Option(help="The model in this place, where the table has several.")] = None,
    student: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    teacher_usd: Annotated[float | None, typer.Option(min=0, help="Of a request, for the savings.")] = None,
    student_usd: Annotated[float | None, typer.Option(min=0, help="Of a request, for the savings.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the cost-quality curves to this SVG file.")] = None,
    json: Json = False,
) -> None:
    """Judge policies out of fold on rows whose two answers were scored, next to random, oracle and either model alone.

    Exit status 3 where there are too few labels to learn from.
    """
    from policies.judge.evaluate import Plan
    from policies.judge.wide import Pair
    from router.cli.policy_judge import Tables, prices, run_evaluate

    with _judged():
        told = run_evaluate(
            Tables(form, Pair(teacher, student)),
            data,
            policy or ["difficulty"],
            Plan(folds, seeds, train_limit),
            prices(teacher_usd, student_usd),
            plot,
            as_json=json,
        )
    typer.echo(told)


@policy.command()
def replay(
    config: ConfigPath,
    sources: LogSources,
    route: LogRoute = "auto",
    since: LogSince = "7d",
    trained: ReplayTrained = None,
    confidence: Confidence = 0.95,
    json: Json = False,
) -> None:
    """What the policy of a candidate configuration would have cost and lost on logged traffic, next to the logged one.

    Exit status 3 where the log says nothing of the candidate.
    """
    from router.cli.policy_replay import Asked, NoSupport, run_replay

    with _told(config, NoSupport):
        typer.echo(run_replay(Asked(config, sources, route, since, trained, confidence, json)))


@policy.command()
def tune(
    config: ConfigPath,
    sources: LogSources,
    route: LogRoute = "auto",
    since: LogSince = "7d",
    trained: ReplayTrained = None,
    max_loss: Annotated[
        float | None, typer.Option(min=0.0001, max=0.9999, help="Acceptable loss, a share of requests.")
    ] = None,
    confidence: Confidence = 0.95,
    json: Json = False,
) -> None:
    """Operating points of a route's policy on logged traffic: what each saves and loses, with the YAML to set.

    Exit status 3 where the log says nothing of the candidate.
    """
    from router.cli.policy_replay import Asked, NoSupport, run_tune

    with _told(config, NoSupport):
        typer.echo(run_tune(Asked(config, sources, route, since, trained, confidence, json), max_loss))


@contextmanager
def _told(config: Path | None, *refusals: type[Exception]) -> Iterator[None]:
    """A mistake in the configuration or an option ends with its message and status 2, a refusal with status 3."""
    from router.errors import ConfigError

    try:
        yield
    except refusals as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(REFUSED) from None
    except ConfigError as error:
        if config is not None:
            raise bad_config(config, error) from None
        typer.echo(str(error), err=True)
        raise typer.Exit(BAD_CONFIG) from None


@contextmanager
def _judged() -> Iterator[None]:
    """What is wrong with a table or a training ends with its message and the status that it names."""
    from router.cli.policy_judge import JudgeError

    try:
        yield
    except JudgeError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.status) from None
