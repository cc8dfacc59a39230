"""`ui`: the web page; `page-password`: who may look at it."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from worker.cli.errors import WRONG_USE
from worker.cli.options import Home, database_of, settings_of
from worker.cli.screen import console, say_error


class RoleChoice(StrEnum):
    """What a person may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"


def ui(home: Home = None) -> None:
    """Serve the web page: analyse an X-ray, worklist, studies, operations, the model's card."""
    from worker.process.logs import configure_logs
    from worker.ui.access.login_methods import check_page
    from worker.ui.serve import serve

    settings = settings_of(home)
    configure_logs(settings.log_format, settings.log_level)
    methods = check_page(settings)
    # The page's script runs in this process and reads its settings from the environment.
    os.environ.update(settings.as_environment())
    database = database_of(settings)
    try:
        serve(settings, database, methods)
    finally:
        database.close()


def page_password(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who: letters, digits, and . _ @ -")],
    role: Annotated[
        RoleChoice, typer.Option("--role", help="A viewer looks; an operator may press buttons, too.")
    ] = RoleChoice.VIEWER,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="BONEWATCH_UI_PASSWORD_FILE, else <home>/page-passwords."),
    ] = None,
    home: Home = None,
) -> None:
    """Ask for a password and let this person look at the page; again: change role and password."""
    from worker.ui.access.people import set_password

    settings = settings_of(home)
    path = file or settings.ui_password_file or settings.home / "page-passwords"
    password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    try:
        set_password(path, name, role.value, password)
    except ValueError as error:
        say_error(str(error))
        raise typer.Exit(WRONG_USE) from None
    except OSError as error:
        say_error(f"{path} cannot be written: {error.strerror}")
        raise typer.Exit(WRONG_USE) from None
    console().print(f"{name} may look as {role.value}: BONEWATCH_UI_PASSWORD_FILE={path}", markup=False, soft_wrap=True)
