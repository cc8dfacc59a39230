"""`results`: what the database answers, one row a study."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from worker.cli.errors import WRONG_USE
from worker.cli.options import Home, Wide, database_of, settings_of
from worker.cli.screen import (
    WIDE,
    ListRow,
    as_minute,
    as_text,
    below,
    coloured,
    console,
    progress,
    say_error,
    show_list,
    table,
)

if TYPE_CHECKING:
    from rich.console import Console

    from worker.operate.model_changes import ChangeRow
    from worker.operate.results import ResultRow

Row = TypeVar("Row", "ResultRow", "ChangeRow")


class ResultsFormat(StrEnum):
    """How results are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


class OutcomeChoice(StrEnum):
    """The outcomes, gravest first (dicom_io.types.Outcome, which is not imported for `--help`)."""

    PRESENT = "present"
    INCONCLUSIVE = "inconclusive"
    FAILED = "failed"
    ABSENT = "absent"
    OUT_OF_SCOPE = "out_of_scope"


WHEN = "a day (2026-03-01), a moment (2026-03-01T14:30), today or yesterday; local time unless an offset is given"


def results(
    since: Annotated[str | None, typer.Option("--since", metavar="WHEN", help=f"From then on: {WHEN}.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="WHEN", help="Until then, exclusive.")] = None,
    outcome: Annotated[
        OutcomeChoice | None,
        typer.Option("--outcome", metavar="OUTCOME", help=f"Only this one: {', '.join(OutcomeChoice)}."),
    ] = None,
    patient_id: Annotated[str | None, typer.Option("--patient-id", metavar="ID", help="Only this patient.")] = None,
    accession: Annotated[
        str | None, typer.Option("--accession", metavar="NUMBER", help="Only this accession number.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="VERSION", help="Only this model version, or its beginning.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="At most so many; for a table 50.")
    ] = None,
    output: Annotated[
        ResultsFormat, typer.Option("--format", help="How to print or write them.")
    ] = ResultsFormat.TABLE,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write there; needed for Parquet, not for a table.")
    ] = None,
    wide: Wide = False,
    home: Home = None,
) -> None:
    """List results, newest first. Times are of the analysis, or of the arrival where there was none yet."""
    from dicom_io.types import Outcome
    from worker.operate.results import ResultFilter, ResultRow
    from worker.operate.results import results as query

    wanted = ResultFilter(
        since=_moment("--since", since),
        until=_moment("--until", until),
        outcome=None if outcome is None else Outcome(outcome.value),
        patient_id=patient_id,
        accession_number=accession,
        model=model,
    )
    check_out(output, out)
    database = database_of(settings_of(home))
    try:
        if output is ResultsFormat.TABLE:
            shown = limit or 50
            rows = list(islice(query(database, wanted), shown + 1))
            _print(rows[:shown], wide=wide, more=len(rows) > shown)
        else:
            write(ResultRow, query(database, wanted, limit=limit), output, out)
    finally:
        database.close()


def check_out(form: ResultsFormat, out: Path | None) -> None:
    """Refuse a form and a file that do not go together."""
    if form is ResultsFormat.PARQUET and out is None:
        say_error("a Parquet file needs a name", "add --out FILE")
    elif form is ResultsFormat.TABLE and out is not None:
        say_error("a table is only printed", "add --format csv, json or parquet")
    else:
        return
    raise typer.Exit(WRONG_USE)


def _print(rows: list[ResultRow], *, wide: bool, more: bool) -> None:
    screen = console(wide=wide)
    if not rows:
        screen.print("no results match")
        return
    if screen.width >= WIDE:
        _print_table(screen, rows)
    else:
        _print_list(screen, rows)
    if more:
        screen.print(f"the newest {len(rows)}; --limit shows more, --format csv all")


def _print_list(screen: Console, rows: list[ResultRow]) -> None:
    from worker.study.names import short_uid

    columns = ("analysed", "accession", "outcome", "prob.", "boxes", "report")
    entries = [
        ListRow(
            (
                as_minute(row.analysed_at or row.received_at),
                as_text(row.accession_number),
                coloured(row.outcome or row.state),
                as_text(row.probability),
                as_text(row.findings),
                coloured(row.report_state),
            ),
            below(short_uid(row.study_instance_uid), row.patient_id, row.body_part, _reason(row)),
        )
        for row in rows
    ]
    show_list(screen, columns, entries, right=("prob.", "boxes"))


def _print_table(screen: Console, rows: list[ResultRow]) -> None:
    columns = [
        "analysed", "patient", "accession", "body part", "outcome", "probability", "boxes", "report", "study", "reason",
    ]  # fmt: skip
    cells = [
        [
            as_text(row.analysed_at or row.received_at),
            as_text(row.patient_id),
            as_text(row.accession_number),
            as_text(row.body_part),
            coloured(row.outcome or row.state),
            as_text(row.probability),
            as_text(row.findings),
            coloured(row.report_state),
            as_text(row.study_instance_uid),
            as_text(_reason(row)),
        ]
        for row in rows
    ]
    if not any(_reason(row) for row in rows):
        columns, cells = columns[:-1], [each[:-1] for each in cells]
    screen.print(table(None, columns, cells, right=("probability", "boxes")))


def _reason(row: ResultRow) -> str | None:
    """Return the reason where there is something to do or to explain; the others are in CSV and JSON."""
    if row.held_reason is not None:
        return f"waits for a decision: {row.held_reason}"
    if row.report_state == "failed":
        return row.report_reason
    return row.reason if row.outcome in ("failed", "out_of_scope") else None


def write(kind: type[Row], rows: Iterator[Row], form: ResultsFormat, out: Path | None) -> None:
    """Write every row as it comes: to standard output, or to a file which then says how many there are."""
    from worker.operate.result_files import whole_file, write_csv, write_json, write_parquet

    text = write_csv if form is ResultsFormat.CSV else write_json
    if out is None:
        text(kind, rows, sys.stdout)
        return
    with progress() as bar:
        task = bar.add_task("writing", total=None)
        shown = _counted(rows, lambda: bar.advance(task))
        if form is ResultsFormat.PARQUET:
            count = write_parquet(kind, shown, out)
        else:
            with whole_file(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
                count = text(kind, shown, stream)
    console(stderr=True).print(f"{count} rows written to {out}", markup=False, soft_wrap=True)


def _counted(rows: Iterator[Row], advance: Callable[[], None]) -> Iterator[Row]:
    for row in rows:
        yield row
        advance()


def _moment(option: str, text: str | None) -> datetime | None:
    from worker.operate.moments import parse_moment

    if text is None:
        return None
    try:
        return parse_moment(text)
    except ValueError:
        say_error(f"{option} {text!r} is no moment", f"write {WHEN}")
        raise typer.Exit(WRONG_USE) from None
