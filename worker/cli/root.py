"""All commands in one place, in the order in which `--help` lists them."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from worker.cli import (
    analyze,
    changes,
    db,
    demo,
    doctor,
    evaluate,
    forget,
    health,
    models,
    purge,
    reanalyze,
    results,
    services,
    site,
    status,
    train,
    ui,
)
from worker.cli.errors import Group

SERVICES = "Services"
LOOK = "Look and act"
TRY = "Try it"
SETUP = "Set up"

app = typer.Typer(
    name="bonewatch",
    cls=Group,
    help="Watch a clinical archive for bone fractures. Decision support, never a diagnosis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"bonewatch {version('bonewatch')}")
        except PackageNotFoundError:
            typer.echo("bonewatch (not installed)")
        raise typer.Exit


@app.callback()
def _root(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="The settings file, before or behind the command; else BONEWATCH_CONFIG, else HOME/bonewatch.toml.",
        ),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if config is not None:
        # A variable: whatever the command starts is to read the same file.
        os.environ["BONEWATCH_CONFIG"] = str(config.expanduser().absolute())


app.command("demo", rich_help_panel=TRY)(demo.demo)
app.command("analyze", rich_help_panel=TRY)(analyze.analyze)
app.command("evaluate", rich_help_panel=TRY)(evaluate.evaluate)
app.command("up", rich_help_panel=SERVICES)(services.up)
app.command("listen", rich_help_panel=SERVICES)(services.listen)
app.command("work", rich_help_panel=SERVICES)(services.work)
app.command("schedule", rich_help_panel=SERVICES)(services.schedule)
app.command("ui", rich_help_panel=SERVICES)(ui.ui)
app.command("health", rich_help_panel=SERVICES)(health.health)
app.command("broker", hidden=True)(services.broker)
app.command("changes", rich_help_panel=LOOK)(changes.changes)
app.command("status", rich_help_panel=LOOK)(status.status)
app.command("results", rich_help_panel=LOOK)(results.results)
app.command("jobs", rich_help_panel=LOOK)(status.jobs)
app.command("retry", rich_help_panel=LOOK)(status.retry)
app.command("purge", rich_help_panel=LOOK)(purge.purge)
app.command("forget", rich_help_panel=LOOK)(forget.forget)
app.add_typer(reanalyze.app, name="reanalyze", rich_help_panel=LOOK)
app.command("init", rich_help_panel=SETUP)(site.init)
app.command("settings", rich_help_panel=SETUP)(site.settings)
app.command("doctor", rich_help_panel=SETUP)(doctor.doctor)
app.command("page-password", rich_help_panel=SETUP)(ui.page_password)
app.add_typer(db.app, name="db", rich_help_panel=SETUP)
app.add_typer(models.app, name="models", rich_help_panel=SETUP)
app.add_typer(train.app, name="train", rich_help_panel=SETUP)
