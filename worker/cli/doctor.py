"""`doctor`: look at everything that bonewatch needs."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext

import typer
from rich.markup import escape

from worker.cli.errors import ANSWER_IS_NO
from worker.cli.options import Home, Json, settings_of
from worker.cli.screen import console, print_json

MARKS = {"good": "[green]✔[/]", "note": "[yellow]•[/]", "bad": "[bold red]✘[/]"}


def doctor(home: Home = None, as_json: Json = False) -> None:
    """Check settings, disk, database, broker, model, listener, every PACS; say what to do. Status 1 if one is bad."""
    from worker.operate.checks import Verdict, checks
    from worker.process.logs import configure_logs

    settings = settings_of(home)
    configure_logs("console", "CRITICAL")  # each check says in words what libraries complain of
    screen = console()
    done = []
    for name, check in checks(settings):
        with nullcontext() if as_json else screen.status(f"looking at {name}"):
            result = check()
        done.append(result)
        if not as_json:
            screen.print(f"{MARKS[result.verdict.value]} {escape(result.name)}: {escape(result.found)}", soft_wrap=True)
            if result.advice:
                screen.print(f"    [bold]what to do:[/] {escape(result.advice)}", soft_wrap=True)
    if as_json:
        print_json([{**dataclasses.asdict(each), "verdict": each.verdict.value} for each in done])
    if any(each.verdict is Verdict.BAD for each in done):
        raise typer.Exit(ANSWER_IS_NO)
