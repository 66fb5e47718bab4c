"""The command line, `distill-router`. Each command imports what it needs when it runs, so that `--help` is fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from router.cli.disagreement_commands import disagreements
from router.cli.options import BAD_CONFIG, ConfigPath, Json, bad_config
from router.cli.policy_commands import policy

app = typer.Typer(
    name="distill-router",
    help="Serve a distilled student where the loss does not matter, and its teacher where it does.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(disagreements, name="disagreements")
app.add_typer(policy, name="policy")
models = typer.Typer(help="Measure the models.", no_args_is_help=True)
app.add_typer(models, name="models")
costs = typer.Typer(help="What was spent, and what the student saved.", no_args_is_help=True)
app.add_typer(costs, name="costs")

keys = typer.Typer(help="API keys that are kept in Redis.", no_args_is_help=True)
app.add_typer(keys, name="keys")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("distill-router"))
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Serve a distilled student where the loss does not matter, and its teacher where it does."""


@app.command()
def serve(
    config: ConfigPath,
    host: Annotated[str | None, typer.Option(help="Overrides server.host.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Overrides server.port.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Overrides server.workers.")] = None,
) -> None:
    """Run the gateway. SIGHUP, or a change of the file, reloads the configuration; SIGTERM drains."""
    from router.errors import ConfigError
    from router.server import serve as run

    try:
        run(config, host, port, workers)
    except ConfigError as error:
        raise bad_config(config, error) from None


@app.command()
def check(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", envvar="DISTILL_ROUTER_CONFIG", help="The configuration file (YAML)."),
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of the configuration.")] = False,
) -> None:
    """Validate a configuration and print what is in effect, secrets masked. A mistake: exit status 2."""
    import json

    import yaml

    from router.errors import ConfigError
    from router.setting_warnings import open_to_all, warnings
    from router.settings import Config, load, masked

    if schema:
        typer.echo(json.dumps(Config.model_json_schema(), indent=2))
        return
    if config is None:
        typer.echo("give --config FILE, or --schema", err=True)
        raise typer.Exit(BAD_CONFIG)
    try:
        settings = load(config)
    except ConfigError as error:
        raise bad_config(config, error) from None
    typer.echo(yaml.safe_dump(masked(settings), sort_keys=False), nl=False)
    server = settings.config.server
    for warning in filter(None, [open_to_all(server, server.host), *warnings(settings.config)]):
        typer.echo(f"{config}: warning: {warning}", err=True)


@app.command()
def embedded(
    model: Annotated[str, typer.Option(help="teacher, student, or a folder with a Llama checkpoint.")],
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve one model with the embedded engine (numpy, small checkpoints)."""
    from serving.embedded.errors import CheckpointError
    from serving.embedded.server import run

    try:
        run(model, host, port)
    except CheckpointError as error:
        typer.echo(f"--model {model}: {error}", err=True)
        raise typer.Exit(BAD_CONFIG) from None


@app.command()
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Exit after the table; 0 if every request was answered.")
    ] = False,
    no_traffic: Annotated[bool, typer.Option("--no-traffic", help="Only serve.")] = False,
    learn: Annotated[
        bool, typer.Option("--learn", help="Then train a difficulty policy on the comparisons, and try it.")
    ] = False,
    requests: Annotated[
        int | None, typer.Option(min=1, help="Requests to send; default: 300, with --learn 3000.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of the gateway.")] = 8080,
    json: Annotated[Path | None, typer.Option(help="Write the figures to this file.")] = None,
) -> None:
    """A real teacher and student (toys), Redis and the gateway between them; mixed traffic; a table of what it cost."""
    from router.cli.demo import run_demo
    from router.errors import ConfigError

    try:
        status = run_demo(once=once, traffic=not no_traffic, learns=learn, requests=requests, port=port, json_path=json)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(BAD_CONFIG) from None
    raise typer.Exit(status)


@app.command()
def advise(
    config: ConfigPath,
    route: Annotated[str, typer.Option(help="The route to look at.")] = "auto",
    max_loss: Annotated[
        float, typer.Option(min=0.0001, max=0.9999, help="Acceptable loss, a share of requests.")
    ] = 0.05,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.9999, help="Of the bound on the loss.")] = 0.95,
    json: Json = False,
) -> None:
    """What routing would save, at which loss, by the pairs seen so far; or how many more pairs it needs."""
    from router.cli.advise import run_advise
    from router.errors import ConfigError

    try:
        typer.echo(run_advise(config, route, max_loss, confidence, as_json=json))
    except ConfigError as error:
        raise bad_config(config, error) from None


@app.command()
def retention(
    config: ConfigPath,
    route: Annotated[str | None, typer.Option(help="Only this route.")] = None,
    json: Json = False,
) -> None:
    """What the student keeps of the teacher, live: route loss and retention with intervals, by route and slice."""
    from router.cli.retention import run_retention
    from router.errors import ConfigError

    try:
        typer.echo(run_retention(config, route, as_json=json))
    except ConfigError as error:
        raise bad_config(config, error) from None


@app.command()
def losses(
    config: ConfigPath,
    route: Annotated[str, typer.Option(help="The route to look at.")] = "auto",
    since: Annotated[str, typer.Option(help="24h, 7d, 4w back, or a date.")] = "7d",
    archive: Annotated[list[str] | None, typer.Option(help="Also read this archive; repeatable.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a report to this file.")] = None,
    json: Json = False,
) -> None:
    """The loss map: what the compression dropped, by slice, and what mending it is worth."""
    from router.cli.losses import run_losses
    from router.errors import ConfigError

    try:
        typer.echo(run_losses(config, route, since, archive or (), html, as_json=json))
    except ConfigError as error:
        raise bad_config(config, error) from None


@costs.command()
def report(
    config: ConfigPath,
    since: Annotated[str, typer.Option(help="24h, 7d, 4w back, or a date: 2026-11-01, 2026-11-01T09:00.")] = "7d",
    until: Annotated[str | None, typer.Option(help="Likewise; what begins then is left out. Default: now.")] = None,
    timezone: Annotated[str, typer.Option(help="Of dates and days, such as Europe/Berlin.")] = "UTC",
    by: Annotated[str, typer.Option(help="Lines for each of these; also key.")] = "day,route,tenant,model,origin",
    output: Annotated[Literal["table", "csv", "parquet", "json"], typer.Option("--format")] = "table",
    out: Annotated[Path | None, typer.Option(help="A file that is not there yet. Default: standard output.")] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(help="A gateway's /metrics, to compare its counters with the rows; once for each gateway."),
    ] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="Holds an admin key, where /metrics wants one.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit status 3 when the books differ.")] = False,
) -> None:
    """Money by day, route, tenant, key, model and origin, beside what the teacher alone would have cost.

    It ends with whether the decision rows, Redis' hourly sums and the gateways' counters agree.
    """
    from router.cli.costs import run_report
    from router.errors import ConfigError

    try:
        status = run_report(
            config,
            since=since,
            until=until,
            timezone=timezone,
            by=by,
            output=output,
            out=out,
            metrics=metrics or (),
            api_key_file=api_key_file,
            strict=strict,
        )
    except ConfigError as error:
        raise bad_config(config, error) from None
    raise typer.Exit(status)


@models.callback()
def _models() -> None:
    """A group, also while it has one command."""


@models.command()
def calibrate(
    model: Annotated[str, typer.Argument(help="A model of the configuration; it must be running, and idle.")],
    config: ConfigPath,
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="For prefill, and for decode.")] = 20,
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Requests at a time; left out: searched for.")
    ] = None,
    gpu_hour_usd: Annotated[
        float | None, typer.Option(min=0, help="Of one GPU, for the printed block; default: as configured.")
    ] = None,
    gpus: Annotated[float | None, typer.Option(min=0, help="For the printed block; default: as configured.")] = None,
    json: Json = False,
) -> None:
    """Measure what a self-hosted model can do, for its price by the GPU-hour: prefill and decode tokens per second."""
    from router.cli.calibrate import CalibrationError, Machines, run_calibrate
    from router.errors import ConfigError

    machines = Machines(gpu_hour_usd, gpus)
    try:
        typer.echo(run_calibrate(config, model, seconds, concurrency, machines, as_json=json))
    except ConfigError as error:
        raise bad_config(config, error) from None
    except CalibrationError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


@keys.command("create")
def create_key(
    config: ConfigPath,
    name: Annotated[str, typer.Option(help="Shown in rows and metrics of money; no other key may have it.")],
    tenant: Annotated[str, typer.Option(help="Whose key it is.")] = "default",
    route: Annotated[list[str] | None, typer.Option(help="A route it may use; repeatable. Default: all.")] = None,
    permission: Annotated[list[str] | None, typer.Option(help="override, force_model, admin; repeatable.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1)] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1)] = None,
    expires: Annotated[str | None, typer.Option(help="90d, 12h, or a date such as 2027-01-31 (UTC).")] = None,
    budget: Annotated[list[str] | None, typer.Option(help="USD/WINDOW: 50/month, 5/24h; repeatable.")] = None,
    json: Json = False,
) -> None:
    """Create an API key and print it, this once: only its SHA-256 is kept. It works within about a second."""
    from router.cli.keys import run_create
    from router.errors import ConfigError

    try:
        created = run_create(
            config,
            name=name,
            tenant=tenant,
            routes=route or (),
            permissions=permission or (),
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            expires=expires,
            budgets=budget or (),
            as_json=json,
        )
    except ConfigError as error:
        raise bad_config(config, error) from None
    typer.echo(created)


@keys.command("list")
def list_keys(config: ConfigPath, json: Json = False) -> None:
    """The API keys of the file and of Redis; no hashes, no secrets."""
    from router.cli.keys import run_list
    from router.errors import ConfigError

    try:
        run_list(config, as_json=json)
    except ConfigError as error:
        raise bad_config(config, error) from None


@keys.command("revoke")
def revoke_key(config: ConfigPath, name: Annotated[str, typer.Argument(help="The key's name.")]) -> None:
    """Refuse an API key from now on, within about a second. Running answers finish."""
    from router.cli.keys import run_revoke
    from router.errors import ConfigError

    try:
        typer.echo(run_revoke(config, name))
    except ConfigError as error:
        raise bad_config(config, error) from None
