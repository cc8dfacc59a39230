"""Options that several commands share, and the settings they lead to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from worker.db.database import Database
    from worker.settings.settings import Settings

Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="FOLDER",
        help="The folder that holds settings, database, files and logs; else BONEWATCH_HOME, else ~/.bonewatch.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]

Wide = Annotated[bool, typer.Option("--wide", help="Whole tables with whole UIDs; so from 200 columns on without it.")]


def settings_of(home: Path | None, **overrides: Any) -> Settings:
    """Return the settings of this site; options win over environment and file."""
    from worker.settings.settings import load_settings

    return load_settings(home=home, **overrides)


def require_home(settings: Settings) -> None:
    """Refuse a home that does not exist: nothing is to be seen there, and a typing mistake must not make one.

    Raises
    ------
    worker.errors.NothingAtHome
    """
    from worker.errors import NothingAtHome

    if not settings.home.exists():
        raise NothingAtHome(f"there is nothing at {settings.home}")


def database_of(settings: Settings, **patience: float) -> Database:
    """Open the database, which must have this version's tables; `patience` is `timeout_seconds`."""
    from worker.db.database import open_database

    if settings.database_url is None:
        require_home(settings)
    return open_database(settings.sqlalchemy_url(), **patience)
