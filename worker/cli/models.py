"""`models`: the bundles of this machine's home, which one answers, which one runs in shadow, and who said so."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.errors import NOT_USABLE, WRONG_USE
from worker.cli.help import HelpGroup
from worker.cli.options import Home, Json, database_of, require_home, settings_of
from worker.cli.screen import as_text, console, print_json, say_error, table

if TYPE_CHECKING:
    from worker.bundles.changes import HeldBundle
    from worker.settings.settings import Settings

app = typer.Typer(
    cls=HelpGroup, help="The models of this machine: list, install, promote, shadow, history.", no_args_is_help=True
)


@app.callback()
def _models() -> None:
    """The models of this machine."""  # noqa: D401 - the help of a group of commands


@app.command("list")
def list_models(home: Home = None, as_json: Json = False) -> None:
    """List the bundles that ship or were installed, and which of them is used."""
    from worker.bundles.changes import held_bundles

    settings = settings_of(home)
    if home is not None:
        require_home(settings)
    found = held_bundles(settings.home)
    forced = settings.bundle
    if as_json:
        rows = [
            {"version": each.version, "folder": str(each.folder), "shipped": each.shipped, "obstacle": each.obstacle,
             "current": each.current and forced is None, "shadow": each.shadow}
            for each in found
        ]  # fmt: skip
        print_json({"bundles": rows, "BONEWATCH_BUNDLE": None if forced is None else str(forced)})
        return
    cells = [
        [_use(each, forced=forced is not None), each.version,
         "ships with bonewatch" if each.shipped else "installed", as_text(each.obstacle)]
        for each in found
    ]  # fmt: skip
    console().print(table(None, ("used", "version", "where from", "what is wrong"), cells))
    if forced is not None:
        console().print(f"BONEWATCH_BUNDLE is set and wins: {forced}", markup=False, soft_wrap=True)


def _use(bundle: HeldBundle, *, forced: bool) -> str:
    if bundle.current and not forced:
        return "current"
    return "in shadow" if bundle.shadow else "-"


@app.command("install")
def install(
    folder: Annotated[Path, typer.Argument(metavar="BUNDLE_FOLDER", help="The bundle to copy to this home.")],
    home: Home = None,
) -> None:
    """Check a bundle and copy it to this home; nothing uses it until it is promoted."""
    from worker.bundles.promotion import install as copy

    settings = settings_of(home)
    with _home_errors(settings):
        version = copy(folder, settings.home)
    console().print(f"installed {version}; to use it: bonewatch models promote {version}", markup=False, soft_wrap=True)


@app.command("promote")
def promote(
    bundle: Annotated[
        str | None, typer.Argument(metavar="[VERSION_OR_FOLDER]", help="The bundle to use from now on.")
    ] = None,
    shipped: Annotated[bool, typer.Option("--shipped", help="Go back to the bundle that ships.")] = False,
    home: Home = None,
) -> None:
    """Make a bundle the one that is used from now on, and record who said so."""
    settings = settings_of(home)
    if (bundle is None) is not shipped:
        say_error("name a bundle's version or folder, or say --shipped", "bonewatch models list")
        raise typer.Exit(WRONG_USE)
    make_current(settings, None if bundle is None else _folder_of(bundle, settings.home))


@app.command("shadow")
def shadow(
    bundle: Annotated[
        str | None, typer.Argument(metavar="[VERSION_OR_FOLDER]", help="The bundle to run in shadow from now on.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Let no bundle run in shadow.")] = False,
    home: Home = None,
) -> None:
    """Let a second bundle see what is pushed, too: its answers are stored and never sent; record who said so."""
    from datetime import datetime

    from worker.bundles.changes import record_change
    from worker.bundles.promotion import end_shadow, run_in_shadow

    settings = settings_of(home)
    if (bundle is None) is not off:
        say_error("name a bundle's version or folder, or say --off", "bonewatch models list")
        raise typer.Exit(WRONG_USE)
    database, now = database_of(settings), datetime.now().astimezone()
    try:
        with _home_errors(settings):
            if bundle is None:
                done = end_shadow(settings.home, now, lambda change: record_change(database, change))
            else:
                folder = _folder_of(bundle, settings.home)
                done = run_in_shadow(folder, settings.home, now, lambda change: record_change(database, change))
    finally:
        database.close()
    screen = console()
    if done is None:
        screen.print("no bundle ran in shadow")
    elif done.after is None:
        screen.print(f"{done.before or 'the bundle'} runs in shadow no longer", markup=False, soft_wrap=True)
    else:
        screen.print(f"in shadow: {done.after}; to compare: bonewatch changes --shadow", markup=False, soft_wrap=True)


@app.command("history")
def history(
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="At most so many.")] = 50,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List who had which model used or run in shadow, on which machine, newest first."""
    from worker.bundles.changes import history as query

    database = database_of(settings_of(home))
    try:
        found = query(database, limit)
    finally:
        database.close()
    names = ("at", "changed_by", "host", "role", "before_version", "after_version")
    rows = [{name: getattr(each, name) for name in names} for each in found]
    if as_json:
        print_json(rows)
    elif not rows:
        console().print("no model was ever changed")
    else:
        cells = [[as_text(value) for value in row.values()] for row in rows]
        console().print(table(None, ("when", "who", "machine", "as", "before", "after"), cells))


def make_current(settings: Settings, folder: Path | None) -> None:
    """Promote a bundle, None for the one that ships; say what changed."""
    from datetime import datetime

    from models.manifest import SHIPPED
    from worker.bundles.changes import record_change
    from worker.bundles.promotion import promote as change

    if settings.bundle is not None:
        advice = "unset it, or let it name the new bundle"
        say_error(f"BONEWATCH_BUNDLE is set to {settings.bundle}: it wins over whatever is promoted", advice)
        raise typer.Exit(WRONG_USE)
    database = database_of(settings)
    try:
        with _home_errors(settings):
            done = change(
                folder or SHIPPED,
                settings.home,
                datetime.now().astimezone(),
                lambda promotion: record_change(database, promotion),
            )
    finally:
        database.close()
    screen = console()
    screen.print(f"current is {done.after}; before it was {done.before or 'unreadable'}", markup=False, soft_wrap=True)
    screen.print("workers of this home take it up before their next study; reports that are out stay as they are")


def _folder_of(bundle: str, home: Path) -> Path:
    """Return the folder of an installed version, else the folder that has this name."""
    from worker.bundles.changes import held_bundles

    named = [each.folder for each in held_bundles(home) if each.version == bundle]
    return named[0] if named else Path(bundle)


@contextlib.contextmanager
def _home_errors(settings: Settings) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        say_error(f"{settings.home} cannot be written to: {error.strerror}", "see that it belongs to you and has room")
        raise typer.Exit(NOT_USABLE) from None
