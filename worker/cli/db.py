"""`db upgrade`."""

from __future__ import annotations

import typer

from worker.cli.help import HelpGroup
from worker.cli.options import Home, settings_of
from worker.cli.screen import console

app = typer.Typer(cls=HelpGroup, help="The database's tables.", no_args_is_help=True)


@app.callback()
def _db() -> None:
    """The database's tables."""  # noqa: D401 - the help of a group of commands


@app.command("upgrade")
def upgrade(home: Home = None) -> None:
    """Bring the database to this version's tables; make it where there is none. `up` does it by itself."""
    from worker.db.database import upgrade as upgrade_database

    url = settings_of(home).sqlalchemy_url()
    before, after = upgrade_database(url)
    if before == after:
        words = f"is at revision {after} already"
    else:
        words = f"was brought from {before or 'nothing'} to revision {after}"
    console().print(f"the database {url} {words}", markup=False, soft_wrap=True)
