"""`status`, `jobs` and `retry`: how things stand, and doing again what failed."""

from __future__ import annotations

import dataclasses
import shutil
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from worker.cli.errors import ANSWER_IS_NO, WRONG_USE
from worker.cli.options import Home, Json, Wide, database_of, settings_of
from worker.cli.screen import (
    WIDE,
    ListRow,
    as_minute,
    as_text,
    below,
    coloured,
    console,
    print_json,
    say_error,
    show_list,
    table,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import Console

    from worker.operate.results import JobRow
    from worker.operate.status import Status
    from worker.settings.settings import Settings


STUDY = "its Study Instance UID or accession number"
UNANSWERED = (None, "failed", "out_of_scope")
"""Outcomes that have a reason worth a column; those of answers are in JSON."""


class JobState(StrEnum):
    """The states of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


def status(wide: Wide = False, home: Home = None, as_json: Json = False) -> None:
    """Show queues, running work, states, failures with their reasons, waiting deliveries and disk space."""
    from worker.operate.status import snapshot
    from worker.queue.app import create_app
    from worker.study.names import short_uid
    from worker.study.queues import CeleryQueue

    settings = settings_of(home)
    database = database_of(settings)
    try:
        found = snapshot(database, CeleryQueue(create_app(settings)))
    finally:
        database.close()
    free = _free_bytes(settings.store)
    if as_json:
        print_json({**dataclasses.asdict(found), "free_bytes": free})
        return
    screen = console(wide=wide)
    _show_counts(screen, found, settings, free)
    shown = _whole if screen.width >= WIDE else short_uid
    _show_held(screen, found, shown)
    _show_running(screen, found, shown)
    _show_reasons(screen, found)
    _show_failures(screen, found, shown)


def _whole(uid: str) -> str:
    return uid


def _show_counts(screen: Console, found: Status, settings: Settings, free: int) -> None:
    rows: list[tuple[str, str]] = [
        ("broker", escape(f"does not answer: {found.broker_error}") if found.queues is None else "answers"),
        ("messages waiting", _counts(found.queues or {})),
        ("scheduler", _schedulers(found)),
        ("studies receiving", str(found.receiving)),
        *([("waiting for a decision", f"[bold yellow]{found.held}[/]")] if found.held else []),
        ("jobs", _counts(found.jobs)),
        *([("jobs in shadow", _counts(found.shadows))] if found.shadows else []),
        ("outcomes in 24 h", _counts(found.outcomes)),
        ("deliveries", _counts(found.deliveries)),
        ("re-analysis", _reanalysis(found)),
        ("refused in 24 h", str(found.rejections_24h)),
        ("oldest waiting job", as_text(found.oldest_queued_at)),
        ("disk", f"{free / 2**30:.1f} GiB free at {escape(str(settings.store))}"),
    ]
    if found.queues is None:
        rows[0] = (rows[0][0], f"[bold red]{rows[0][1]}[/]")
    screen.print(table("How things stand", ("what", "now"), rows))
    for line in settings.unchosen():
        screen.print(f"[yellow]not chosen yet:[/] {escape(line)}", soft_wrap=True)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{coloured(word)} {count}" for word, count in counts.items()) or "none"


def _schedulers(found: Status) -> str:
    return "; ".join(escape(each.name) for each in found.schedulers) or "[bold red]none runs[/]"


def _reanalysis(found: Status) -> str:
    lines = [
        f"run {run.run_id} over {run.source}: {coloured(run.state)}, {run.done} of {run.taken_up} studies done, "
        f"{run.failed} failed" + (f" ({escape(run.reason)})" if run.reason else "")
        for run in found.reanalysis
    ]
    return "; ".join(lines) or "none"


def _show_held(screen: Console, found: Status, shown: Callable[[str], str]) -> None:
    if not found.held_studies:
        return
    from worker.study.patients import WHAT_TO_DO

    screen.print("\n[bold]Wait for a decision[/]")
    entries = [
        ListRow(
            (as_text(each.since), shown(each.study_instance_uid), as_text(each.accession_number),
             "yes" if each.reported else "no"),
            as_text(each.reason),
        )
        for each in found.held_studies
    ]  # fmt: skip
    show_list(screen, ("since", "study", "accession", "earlier report"), entries, cut=False)
    screen.print(f"what to do: {WHAT_TO_DO}", soft_wrap=True)


def _show_running(screen: Console, found: Status, shown: Callable[[str], str]) -> None:
    if found.running:
        screen.print("\n[bold]Workers at work[/]")
        entries = [
            ListRow(
                (as_text(job.job_id), shown(job.study_instance_uid), as_text(job.started_at), as_text(job.attempts),
                 as_text(job.lease_until)),
                f"by {as_text(job.claimed_by)}",
            )
            for job in found.running
        ]  # fmt: skip
        show_list(screen, ("job", "study", "since", "attempt", "lease until"), entries, right=("job", "attempt"))


def _show_reasons(screen: Console, found: Status) -> None:
    rows = [("analysis", str(count), escape(reason)) for reason, count in found.waiting_with_reason]
    rows += [("delivery", str(count), escape(reason)) for reason, count in found.deliveries_waiting_with_reason]
    if rows:
        screen.print(table("Waiting, and why", ("what", "how many", "reason"), rows, right=("how many",)))


def _show_failures(screen: Console, found: Status, shown: Callable[[str], str]) -> None:
    if found.failures:
        screen.print("\n[bold]Failed, newest first[/]")
        entries = [
            ListRow((as_minute(each.at), each.kind, shown(each.study_instance_uid)), as_text(each.reason))
            for each in found.failures
        ]
        show_list(screen, ("when", "what", "study"), entries, cut=False)
        screen.print("to repeat: bonewatch retry STUDY, or bonewatch retry --all-failed")


def _free_bytes(folder: Path) -> int:
    """Return the free space where a folder is, or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def jobs(
    state: Annotated[JobState | None, typer.Option("--state", help="Only jobs in this state.")] = None,
    study: Annotated[
        str | None, typer.Option("--study", metavar="STUDY", help=f"Only jobs of this study: {STUDY}.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="At most so many.")] = 50,
    wide: Wide = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List jobs with their states, newest first: one for each analysis of a study, retries included."""
    from worker.operate.results import jobs as query
    from worker.study.names import study_named

    database = database_of(settings_of(home))
    try:
        wanted = None if state is None else state.value
        uid = None if study is None else study_named(database, study)
        rows = list(islice(query(database, state=wanted, study_instance_uid=uid), limit))
    finally:
        database.close()
    if as_json:
        print_json([dataclasses.asdict(row) for row in rows])
        return
    screen = console(wide=wide)
    if not rows:
        screen.print("no jobs match")
    elif screen.width >= WIDE:
        _show_job_table(screen, rows)
    else:
        _show_job_list(screen, rows)


def _show_job_list(screen: Console, rows: Sequence[JobRow]) -> None:
    from worker.study.names import short_uid

    columns = ("job", "made", "accession", "state", "outcome", "lane", "tries", "sec.")
    entries = [
        ListRow(
            (as_text(row.job_id), as_minute(row.created_at), as_text(row.accession_number), coloured(row.state),
             coloured(row.outcome), _lane(row), as_text(row.attempts), _seconds(row)),
            below(
                short_uid(row.study_instance_uid),
                f"revision {row.revision}" if row.revision > 1 else None,
                row.reason if row.outcome in UNANSWERED else None,
                row.model_version,
            ),
        )
        for row in rows
    ]  # fmt: skip
    show_list(screen, columns, entries, right=("job", "tries", "sec."))


def _lane(row: JobRow) -> str:
    return row.lane if row.purpose == "answer" else row.purpose


def _seconds(row: JobRow) -> str:
    return "-" if row.analysis_seconds is None else f"{row.analysis_seconds:.1f}"


def _show_job_table(screen: Console, rows: Sequence[JobRow]) -> None:
    columns = ["job", "study", "lane", "state", "outcome", "attempts", "revision", "made", "seconds", "model", "reason"]
    cells = [
        [as_text(row.job_id), row.study_instance_uid, _lane(row),
         coloured(row.state), coloured(row.outcome), as_text(row.attempts), as_text(row.revision),
         as_text(row.created_at), as_text(row.analysis_seconds),
         row.model_version, as_text(row.reason if row.outcome in UNANSWERED else None)]
        for row in rows
    ]  # fmt: skip
    if all(each[-1] == "-" for each in cells):
        columns, cells = columns[:-1], [each[:-1] for each in cells]
    screen.print(table(None, columns, cells, right=("job", "attempts", "revision", "seconds")))


def retry(
    study: Annotated[
        str | None, typer.Argument(metavar="STUDY", help=f"The study to analyse and to report again: {STUDY}.")
    ] = None,
    all_failed: Annotated[
        bool, typer.Option("--all-failed", help="Every study whose latest analysis or delivery failed.")
    ] = False,
    home: Home = None,
) -> None:
    """Do again what failed: a new job with the present model, and deliveries that were given up.

    Old results stay in the database; a new report names the one it replaces. The sweep of `schedule` (or `up`) starts
    the work.
    """
    from models.manifest import SHIPPED, read_manifest
    from worker.operate.retries import needs_analysis, retry_failed, retry_study, revive_deliveries
    from worker.study.names import study_named

    if (study is None) is not all_failed:
        say_error("name one study, or give --all-failed", "bonewatch retry STUDY | bonewatch retry --all-failed")
        raise typer.Exit(WRONG_USE)
    settings = settings_of(home)
    version = read_manifest(settings.installed_bundle() or SHIPPED).version
    database = database_of(settings)
    try:
        study = None if study is None else study_named(database, study)
        unsound = study is not None and needs_analysis(database, study)
        revived = revive_deliveries(database, study_instance_uid=study)
        if study is None:
            made = len(retry_failed(database, model_version=version))
        elif revived and not unsound:
            made = 0  # its analysis is sound: only its report did not arrive
        else:
            made = int(retry_study(database, study, model_version=version) is not None)
    finally:
        database.close()
    console().print(f"new analyses planned: {made}; deliveries revived: {revived}")
    if study is not None and not made and not revived:
        console().print("an analysis of this study is waiting or running already, or its images still arrive")
        raise typer.Exit(ANSWER_IS_NO)
