"""`changes`: what the present model says of old studies that an earlier one did not."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.errors import ANSWER_IS_NO
from worker.cli.options import Home, database_of, settings_of
from worker.cli.results import ResultsFormat, check_out, write
from worker.cli.screen import as_text, coloured, console, say_error, table

if TYPE_CHECKING:
    from worker.db.database import Database
    from worker.operate.model_changes import ChangeRow
    from worker.settings.settings import Settings


def changes(
    from_model: Annotated[
        str | None, typer.Option("--from", metavar="VERSION", help="The earlier model; the last one before --to.")
    ] = None,
    to_model: Annotated[
        str | None, typer.Option("--to", metavar="VERSION", help="The later model; the current one.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Studies whose outcome is the same, too.")] = False,
    shadow: Annotated[bool, typer.Option("--shadow", help="What --to, or the bundle in shadow, said so.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="At most so many; for a table 50.")
    ] = None,
    output: Annotated[
        ResultsFormat, typer.Option("--format", help="How to print or write them.")
    ] = ResultsFormat.TABLE,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write there; needed for Parquet, not for a table.")
    ] = None,
    home: Home = None,
) -> None:
    """List the studies of which two models say different things, new possible fractures first."""
    from worker.operate.model_changes import ChangeRow
    from worker.operate.model_changes import changes as query

    check_out(output, out)
    settings = settings_of(home)
    database = database_of(settings)
    try:
        if shadow:
            earlier, later = _beside_shadow(settings, from_model, to_model)
        else:
            earlier, later = _models(database, settings, from_model, to_model)
        if output is ResultsFormat.TABLE:
            shown = limit or 50
            rows = list(islice(query(database, earlier, later, unchanged=everything, shadow=shadow), shown + 1))
            _print(rows[:shown], earlier, later, more=len(rows) > shown)
        else:
            found = query(database, earlier, later, unchanged=everything, shadow=shadow, limit=limit)
            write(ChangeRow, found, output, out)
    finally:
        database.close()


def _models(database: Database, settings: Settings, before: str | None, after: str | None) -> tuple[str, str]:
    from models.manifest import SHIPPED, read_manifest
    from worker.operate.model_changes import earlier_model

    later = after or read_manifest(settings.installed_bundle() or SHIPPED).version
    earlier = before or earlier_model(database, later)
    if earlier is None:
        say_error(f"no model but {later} has answered yet", "name two with --from and --to")
        raise typer.Exit(ANSWER_IS_NO)
    return earlier, later


def _beside_shadow(settings: Settings, before: str | None, after: str | None) -> tuple[str, str]:
    from models.manifest import SHIPPED, read_manifest
    from worker.settings.current_bundle import shadow_bundle

    folder = shadow_bundle(settings.home)
    if after is None and folder is None:
        say_error("no bundle runs in shadow here", "name one that did with --to, or bonewatch models shadow VERSION")
        raise typer.Exit(ANSWER_IS_NO)
    later = after or read_manifest(folder or SHIPPED).version
    return before or read_manifest(settings.installed_bundle() or SHIPPED).version, later


def _print(rows: list[ChangeRow], earlier: str, later: str, *, more: bool) -> None:
    screen = console()
    if not rows:
        screen.print(f"no study has another outcome by {later} than by {earlier}", markup=False, soft_wrap=True)
        return
    columns = ("kind", "before", "now", "probability", "difference", "analysed", "patient", "accession", "study")
    cells = [
        [
            row.kind.replace("_", " "),
            coloured(row.from_outcome),
            coloured(row.to_outcome),
            as_text(row.to_probability),
            _difference(row),
            as_text(row.analysed_at),
            as_text(row.patient_id),
            as_text(row.accession_number),
            row.study_instance_uid,
        ]
        for row in rows
    ]
    screen.print(f"from {earlier} to {later}", markup=False, soft_wrap=True)
    screen.print(table(None, columns, cells, right=("probability", "difference")))
    if more:
        screen.print(f"the first {len(cells)}; --limit shows more, --format csv all")


def _difference(row: ChangeRow) -> str:
    if row.from_probability is None or row.to_probability is None:
        return "-"
    return f"{row.to_probability - row.from_probability:+.3f}"
