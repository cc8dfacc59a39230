"""`forget`: a study whose data must go."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal

from worker.cli.errors import ANSWER_IS_NO
from worker.cli.options import Home, Json, database_of, settings_of
from worker.cli.screen import console, print_json, say_error

if TYPE_CHECKING:
    from worker.operate.forget import StudyData


def forget(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Its Study Instance UID, or its accession number.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; say what would be removed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Remove everything of one study: files, answers, reports, and every row. The PACS keeps what it has.

    Refused while images of it arrive, or an analysis or a report of it is on its way. One event stays, without patient
    data: who asked for it, when, and how much it was. What the PACS sends again is a new study to bonewatch.
    """
    from worker.db.base import utc_now
    from worker.db.person import user
    from worker.operate.forget import data_of
    from worker.operate.forget import forget as remove
    from worker.storage.stores import store_of
    from worker.study.names import study_named

    settings = settings_of(home)
    database = database_of(settings)
    try:
        uid = study_named(database, study)
        found = data_of(database, uid)
        if dry_run or found.obstacle is not None:
            _say("would remove", found, as_json)
            if found.obstacle is not None:
                say_error(f"the study cannot be forgotten now: {found.obstacle}", "try again when that has ended")
                raise typer.Exit(ANSWER_IS_NO)
            return
        if not yes:
            _say("would remove", found, as_json=False)
            typer.confirm("Remove this study for good?", abort=True, err=True)
        removed = remove(database, store_of(settings), uid, by=user(), now=utc_now())
    finally:
        database.close()
    _say("removed", removed, as_json)


def _say(verb: str, found: StudyData, as_json: bool) -> None:
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    console().print(
        f"{verb}: {found.instances} instances ({decimal(found.size_bytes)} here), {found.answers} analyses, "
        f"{found.reports} reports, {found.quarantined} files in quarantine, of study {found.study_instance_uid}",
        soft_wrap=True,
    )
