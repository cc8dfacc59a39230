"""`reanalyze`: the archive seen again with the current model; plan, look at, pause, resume and stop a run."""

from __future__ import annotations

import dataclasses
import time
from contextlib import closing
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from worker.cli.errors import ANSWER_IS_NO
from worker.cli.help import HelpGroup
from worker.cli.options import Home, Json, database_of, settings_of
from worker.cli.screen import as_text, console, print_json, progress, say_error, table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.db.database import Database
    from worker.reanalysis.estimate import Estimate, ItemFailure, RunProgress
    from worker.reanalysis.runs import Request
    from worker.settings.settings import Settings

LOOK_EVERY_SECONDS = 0.5


class Order(StrEnum):
    """In which order of study dates."""

    NEWEST = "newest"
    OLDEST = "oldest"


class Source(StrEnum):
    """What is gone through."""

    STORE = "store"
    ARCHIVE = "archive"


From = Annotated[
    Source, typer.Option("--from", help="What was pushed here, or the archive that BONEWATCH_ARCHIVE names.")
]
Since = Annotated[
    datetime | None,
    typer.Option("--since", formats=["%Y-%m-%d"], metavar="DAY", help="Study dates from this day on (2026-03-01)."),
]
Until = Annotated[
    datetime | None, typer.Option("--until", formats=["%Y-%m-%d"], metavar="DAY", help="Study dates up to this day.")
]
Modalities = Annotated[
    list[str] | None, typer.Option("--modality", metavar="MODALITY", help="Only these (CR, DX); may be repeated.")
]
BodyParts = Annotated[
    list[str] | None, typer.Option("--body-part", metavar="PART", help="Only these (HAND); may be repeated.")
]
InOrder = Annotated[Order, typer.Option("--order", help="In which order of study dates.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="At most so many studies.")]
Run = Annotated[int, typer.Argument(metavar="RUN", help="The run's number, as `bonewatch reanalyze status` shows it.")]

app = typer.Typer(
    cls=HelpGroup,
    help="Have the past analysed with the current model: plan, start, status, pause, resume, stop.",
    no_args_is_help=True,
)


@app.callback()
def _reanalyze() -> None:
    """Have the past analysed with the current model: plan, start, status, pause, resume, stop.

    Studies that the current model has not answered are analysed again by `schedule` and `work` (or `up`), behind
    today's studies; these commands only ask for it.
    """


@app.command("plan")
def plan(
    source: From = Source.STORE,
    since: Since = None,
    until: Until = None,
    modality: Modalities = None,
    body_part: BodyParts = None,
    order: InOrder = Order.NEWEST,
    limit: Limit = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Say how many studies, images and hours a run would take, and begin nothing."""
    settings = settings_of(home)
    request = _checked(settings, _request(source, since, until, modality, body_part, order, limit))
    with closing(database_of(settings)) as database:
        _estimate(database, settings, request, as_json)


@app.command("start")
def start(
    source: From = Source.STORE,
    since: Since = None,
    until: Until = None,
    modality: Modalities = None,
    body_part: BodyParts = None,
    order: InOrder = Order.NEWEST,
    limit: Limit = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show a progress bar until the run has ended.")] = False,
    home: Home = None,
) -> None:
    """Begin a run."""
    settings = settings_of(home)
    request = _checked(settings, _request(source, since, until, modality, body_part, order, limit))
    with closing(database_of(settings)) as database:
        run_id = _ask(database, settings, request)
        if follow:
            _follow(database, run_id)


@app.command("status")
def status(home: Home = None, as_json: Json = False) -> None:
    """Show the newest runs, how far they are, and why studies failed."""
    with closing(database_of(settings_of(home))) as database:
        _show(database, as_json)


@app.command("pause")
def pause(run: Run, home: Home = None) -> None:
    """Let a run rest until it is resumed."""
    _change(run, "paused", home)


@app.command("resume")
def resume(run: Run, home: Home = None) -> None:
    """Let a paused run go on."""
    _change(run, "running", home)


@app.command("stop")
def stop(run: Run, home: Home = None) -> None:
    """End a run for good."""
    _change(run, "stopped", home)


def _request(
    source: Source,
    since: datetime | None,
    until: datetime | None,
    modality: list[str] | None,
    body_part: list[str] | None,
    order: Order,
    limit: int | None,
) -> Request:
    from worker.reanalysis.runs import Request

    return Request(
        source=source.value,
        since=since.date() if since else None,
        until=until.date() if until else None,
        modalities=tuple(modality or ()),
        body_parts=tuple(body_part or ()),
        direction=order.value,
        maximum_studies=limit,
    )


def _checked(settings: Settings, request: Request) -> Request:
    """Return what is to be asked for, with the modalities that are analysed where an archive would be asked for all."""
    from worker.errors import SettingsError
    from worker.queue.bootstrap import archive_request

    if request.source == Source.ARCHIVE and settings.archive is None:
        raise SettingsError("BONEWATCH_ARCHIVE: is not set, so there is no archive to ask")
    return archive_request(settings, request)


def _ask(database: Database, settings: Settings, request: Request) -> int:
    from worker.db.person import user
    from worker.db.tables import utc_now
    from worker.reanalysis.runs import start as start_run

    version = _model_version(settings)
    run_id = start_run(database, request, model_version=version, asked_by=user(), now=utc_now())
    if run_id is None:
        raise typer.Exit(ANSWER_IS_NO)
    console().print(f"re-analysis {run_id} with model {escape(version)} begins at the scheduler's next step")
    return run_id


def _model_version(settings: Settings) -> str:
    from models.manifest import SHIPPED, read_manifest

    return read_manifest(settings.installed_bundle() or SHIPPED).version


def _estimate(database: Database, settings: Settings, request: Request, as_json: bool) -> None:
    from worker.reanalysis.estimate import estimate_store

    version, processes = _model_version(settings), settings.analysis_processes
    if request.source == Source.ARCHIVE:
        found = _count_archive(database, settings, request, version)
    else:
        found = estimate_store(database, request, model_version=version, processes=processes)
    if as_json:
        print_json({**dataclasses.asdict(found), "hours": found.hours})
    else:
        console().print(_in_words(found))


def _count_archive(database: Database, settings: Settings, request: Request, version: str) -> Estimate:
    from worker.db.tables import utc_now
    from worker.process.logs import configure_logs
    from worker.queue.bootstrap import archive_parts
    from worker.reanalysis.archive_estimate import estimate_archive

    configure_logs("console", "WARNING")  # what libraries complain of is no part of the answer
    parts = archive_parts(settings, database)
    if parts is None:
        raise typer.Exit(ANSWER_IS_NO)
    with progress() as bar:
        task = bar.add_task("asking the archive", total=None)
        return estimate_archive(
            database, parts, request, model_version=version, processes=settings.analysis_processes,
            clock=utc_now, tell=lambda words: bar.update(task, description=words),
        )  # fmt: skip


def _in_words(found: Estimate) -> str:
    counts = f"{found.studies} studies, {found.images} images"
    if found.counted_to is not None:
        counts = f"{counts} up to {found.counted_to} (there may be more: narrow it with --since and --until)"
    if found.hours is None:
        return f"{counts}; no analysis was measured yet, so nobody knows how long that takes"
    return (
        f"{counts}, about {found.hours:.2f} hours of analysis "
        f"({found.seconds_per_study:.2f} s a study, {found.processes} at a time)"
    )


def _change(run_id: int, state: str, home: Home) -> None:
    from worker.db.person import user
    from worker.db.tables import utc_now
    from worker.reanalysis.runs import change_state

    with closing(database_of(settings_of(home))) as database:
        if not change_state(database, run_id, state, who=user(), now=utc_now()):
            say_error(f"re-analysis {run_id} cannot become {state}", "bonewatch reanalyze status shows all runs")
            raise typer.Exit(ANSWER_IS_NO)
    console().print(f"re-analysis {run_id} is {state} now")


def _show(database: Database, as_json: bool) -> None:
    from worker.reanalysis.estimate import item_failures
    from worker.reanalysis.estimate import progress as runs

    found = runs(database)
    failures = item_failures(database, [run.run_id for run in found])
    if as_json:
        print_json([_as_object(run, failures) for run in found])
    elif not found:
        console().print("no re-analysis was ever asked for")
    else:
        columns = ("run", "source", "state", "model", "by", "since", "taken up", "to retrieve",
                   "done", "failed", "reason")  # fmt: skip
        console().print(table("Re-analysis, newest first", columns, [_row(run) for run in found]))
        if failures:
            rows = [tuple(map(as_text, dataclasses.astuple(each))) for each in failures]
            console().print(table("Studies that failed", ("run", "code", "reason", "studies"), rows))


def _as_object(run: RunProgress, failures: Iterable[ItemFailure]) -> dict[str, object]:
    why = [
        {"reason_code": each.reason_code, "reason": each.reason, "studies": each.studies}
        for each in failures
        if each.run_id == run.run_id
    ]
    return {**dataclasses.asdict(run), "failures": why}


def _row(run: RunProgress) -> tuple[str, ...]:
    return tuple(
        as_text(value)
        for value in (run.run_id, run.source, run.state, run.model_version, run.asked_by, run.created_at,
                      run.taken_up, run.to_retrieve, run.done, run.failed, run.reason)
    )  # fmt: skip


def _follow(database: Database, run_id: int) -> None:
    """Show how far a run is until it has ended or waits for a person."""
    from worker.reanalysis.estimate import progress as runs

    with progress() as bar:
        task = bar.add_task(f"re-analysis {run_id}", total=None)
        while True:
            (run,) = [each for each in runs(database, run_id=run_id) if each.run_id == run_id]
            bar.update(task, total=run.taken_up or None, completed=run.done + run.failed)
            bar.update(task, description=escape(run.reason or f"re-analysis {run_id}"))
            if run.state in {"finished", "stopped", "paused"}:
                break
            time.sleep(LOOK_EVERY_SECONDS)
    console().print(
        f"re-analysis {run_id} {run.state}: {run.done} done, {run.failed} failed"
        + (f"; {escape(run.reason)}" if run.reason else "")
    )
    if run.state != "finished" or run.failed:
        raise typer.Exit(ANSWER_IS_NO)
