"""`init` and `settings`: what this site has chosen, written down and shown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from worker.cli.errors import NOT_USABLE, WRONG_USE
from worker.cli.options import Home, Json
from worker.cli.screen import console, print_json, say_error

if TYPE_CHECKING:
    from worker.settings.settings import Settings

MASK = "********"


def init(
    home: Home = None,
    force: Annotated[bool, typer.Option("--force", help="Write it anew; the old one is kept beside it.")] = False,
) -> None:
    """Write the settings file: every setting with its default and what it does, none of them set. Asks nothing."""
    from worker.settings.file import write_template
    from worker.settings.settings import file_to_write

    path = file_to_write(home)
    try:
        earlier = write_template(path, replace=force)
    except FileExistsError:
        say_error(f"{path} exists already: nothing was written", "edit it, or write it anew with --force")
        raise typer.Exit(WRONG_USE) from None
    except OSError as error:
        say_error(f"{path} cannot be written: {error.strerror}", "name another folder with --home, or see whose it is")
        raise typer.Exit(NOT_USABLE) from None
    screen = console()
    screen.print(f"written: {path}", markup=False, soft_wrap=True)
    if earlier is not None:
        screen.print(f"the earlier one is {earlier}", markup=False, soft_wrap=True)
    screen.print("Say in it where reports go (destinations) and who may push (allowed_callers). Then: bonewatch up")


def settings(home: Home = None, as_json: Json = False) -> None:
    """Print every setting that is in force and where its value comes from; secrets are masked."""
    from worker.settings.settings import PREFIX, read_settings

    found, set_by = read_settings(home=home)
    rows = [
        {"name": name, "value": value, "from": _origin(set_by.get(name), str(found.config), PREFIX)}
        for name, value in _values(found).items()
    ]
    if as_json:
        print_json({"file": None if found.config is None else str(found.config), "settings": rows})
        return
    screen = console()
    screen.print(f"[bold]settings file:[/] {escape(_file(found))}", soft_wrap=True)
    for title, shown in (
        ("set here", [row for row in rows if row["from"] != "default"]),
        ("defaults", [row for row in rows if row["from"] == "default"]),
    ):
        screen.print(f"\n[bold]{title}[/]")
        for row in shown:
            origin = "" if row["from"] == "default" else f"  [dim]\\[{escape(row['from'])}][/]"
            screen.print(f"{row['name']} = {escape(_text(row['value']))}{origin}", soft_wrap=True)
        if not shown:
            screen.print("nothing")


def _file(found: Settings) -> str:
    from worker.settings.file import NAME

    if found.config is None:
        return f"none; {found.home / NAME} would be read, and bonewatch init writes it"
    return str(found.config)


def _values(found: Settings) -> dict[str, Any]:
    """Return each setting's value as JSON has it, in the order of the settings file, secrets as a mask."""
    from worker.settings.file import names_in_template
    from worker.settings.settings import SECRETS

    values = found.model_dump(mode="json", exclude_none=True)
    values |= {name: MASK for name in SECRETS if name in values}
    values["allowed_callers"] = [
        caller.ae_title if caller.host is None else f"{caller.ae_title}@{caller.host}"
        for caller in found.allowed_callers
    ]
    fields = type(found).model_fields
    return {name: values.get(name) for name in names_in_template() if name in fields}


def _origin(by: str | None, file: str, prefix: str) -> str:
    if by is None:
        return "default"
    if by == file:
        return "file"
    return f"environment: {by}" if by.startswith(prefix) else by


def _text(value: object) -> str:
    return "unset" if value is None else json.dumps(value, ensure_ascii=False)
