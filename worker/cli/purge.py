"""`purge`: files that a site no longer keeps here."""

from __future__ import annotations

import dataclasses
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal

from worker.cli.errors import WRONG_USE
from worker.cli.options import Home, Json, database_of, settings_of
from worker.cli.screen import console, print_json, progress, say_error

if TYPE_CHECKING:
    from worker.db.database import Database
    from worker.operate.purge import Purgeable
    from worker.settings.settings import Settings

DAYS = {"d": 1, "w": 7, "y": 365}
LONGEST_DAYS = 365 * 200


def purge(
    older_than: Annotated[
        str,
        typer.Option("--older-than", metavar="AGE", help="Nothing of the study arrived for so long: 365d, 52w, 2y."),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Delete nothing; say what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Delete the files of old studies whose every report is committed. Rows and results stay.

    Kept, whatever their age: studies with work that waits or runs, whose latest analysis failed, or of which a report
    is not committed by every PACS. Images that come again are kept again.
    """
    from worker.db.base import utc_now
    from worker.operate.purge import estimate

    before = utc_now() - _age(older_than)
    settings = settings_of(home)
    database = database_of(settings)
    try:
        found = estimate(database, before)
        if dry_run:
            _say(found, as_json)
            return
        if found.studies and not yes:
            _say(found, as_json=False)
            typer.confirm("Delete these files for good?", abort=True, err=True)
        _purge(database, settings, before, found, as_json)
    finally:
        database.close()


def _purge(database: Database, settings: Settings, before: datetime, found: Purgeable, as_json: bool) -> None:
    from worker.db.person import user
    from worker.operate.purge import purge as files_of
    from worker.storage.stores import store_of

    studies = instances = reports = size_bytes = 0
    with progress() as bar:
        task = bar.add_task("deleting", total=found.studies)
        for removed in files_of(database, store_of(settings), before, by=user()):
            studies, instances = studies + 1, instances + removed.instances
            reports, size_bytes = reports + removed.reports, size_bytes + removed.size_bytes
            bar.advance(task)
    if as_json:
        print_json({"studies": studies, "instances": instances, "reports": reports, "size_bytes": size_bytes})
        return
    console().print(
        f"deleted: the files of {instances} instances ({decimal(size_bytes)}) and {reports} reports, "
        f"of {studies} studies; {found.kept} studies of that age are kept: not all of theirs is done and committed"
    )


def _say(found: Purgeable, as_json: bool) -> None:
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    console().print(
        f"would delete the files of {found.studies} studies: {found.instances} instances, {decimal(found.size_bytes)}; "
        f"{found.kept} studies of that age would be kept: not all of theirs is done and committed"
    )


def _age(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,6})([dwy])", text.strip().lower(), re.ASCII)
    days = int(match[1]) * DAYS[match[2]] if match else 0
    if not 0 < days <= LONGEST_DAYS:
        say_error(f"--older-than {text!r} is no age", "write days, weeks or years: 365d, 52w, 2y")
        raise typer.Exit(WRONG_USE)
    return timedelta(days=days)
