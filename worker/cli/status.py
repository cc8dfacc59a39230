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
from worker.cli.options import Home, Json, database_of, settings_of
from worker.cli.screen import as_text, coloured, console, print_json, say_error, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from worker.settings import Settings
    from worker.status import Status


UNANSWERED = (None, "failed", "out_of_scope")
"""Outcomes that have a reason worth a column; those of answers are in JSON."""


class JobState(StrEnum):
    """The states of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


def status(home: Home = None, as_json: Json = False) -> None:
    """Show queues, running work, states, failures with their reasons, waiting deliveries and disk space."""
    from worker.app import create_app
    from worker.queues import CeleryQueue
    from worker.status import snapshot

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
    screen = console()
    _show_counts(screen, found, settings, free)
    _show_held(screen, found)
    _show_running(screen, found)
    _show_reasons(screen, found)
    _show_failures(screen, found)


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
    words = [f"{escape(each.name)} {'schedules' if each.schedules else 'stands by'}" for each in found.schedulers]
    return "; ".join(words) or "[bold red]none runs[/]"


def _reanalysis(found: Status) -> str:
    lines = [
        f"run {run.run_id} over {run.source}: {coloured(run.state)}, {run.done} of {run.taken_up} studies done, "
        f"{run.failed} failed" + (f" ({escape(run.reason)})" if run.reason else "")
        for run in found.reanalysis
    ]
    return "; ".join(lines) or "none"


def _show_held(screen: Console, found: Status) -> None:
    if not found.held_studies:
        return
    from worker.patients import WHAT_TO_DO

    rows = [
        (as_text(each.since), each.study_instance_uid, as_text(each.accession_number), escape(each.reason),
         "yes" if each.reported else "no")
        for each in found.held_studies
    ]  # fmt: skip
    columns = ("since", "study", "accession", "reason", "earlier report")
    screen.print(table("Wait for a decision", columns, rows))
    screen.print(f"what to do: {WHAT_TO_DO}", soft_wrap=True)


def _show_running(screen: Console, found: Status) -> None:
    if found.running:
        rows = [
            (as_text(job.job_id), job.study_instance_uid, as_text(job.claimed_by), as_text(job.started_at),
             as_text(job.attempts), as_text(job.lease_until))
            for job in found.running
        ]  # fmt: skip
        columns = ("job", "study", "worker", "since", "attempt", "lease until")
        screen.print(table("Workers at work", columns, rows, right=("job", "attempt")))


def _show_reasons(screen: Console, found: Status) -> None:
    rows = [("analysis", str(count), escape(reason)) for reason, count in found.waiting_with_reason]
    rows += [("delivery", str(count), escape(reason)) for reason, count in found.deliveries_waiting_with_reason]
    if rows:
        screen.print(table("Waiting, and why", ("what", "how many", "reason"), rows, right=("how many",)))


def _show_failures(screen: Console, found: Status) -> None:
    if found.failures:
        rows = [(as_text(each.at), each.kind, each.study_instance_uid, escape(each.reason)) for each in found.failures]
        screen.print(table("Failed, newest first", ("when", "what", "study", "reason"), rows))
        screen.print("do again: bonewatch retry STUDY_UID, or bonewatch retry --all-failed")


def _free_bytes(folder: Path) -> int:
    """Return the free space where a folder is, or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def jobs(
    state: Annotated[JobState | None, typer.Option("--state", help="Only jobs in this state.")] = None,
    study: Annotated[str | None, typer.Option("--study", metavar="STUDY_UID", help="Only jobs of this study.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List jobs with their states, newest first: one for each analysis of a study, retries included."""
    from worker.results import jobs as query

    database = database_of(settings_of(home))
    try:
        wanted = None if state is None else state.value
        rows = list(islice(query(database, state=wanted, study_instance_uid=study), limit))
    finally:
        database.close()
    if as_json:
        print_json([dataclasses.asdict(row) for row in rows])
        return
    if not rows:
        console().print("no jobs match")
        return
    columns = ["job", "study", "lane", "state", "outcome", "attempts", "revision", "made", "seconds", "model", "reason"]
    cells = [
        [as_text(row.job_id), row.study_instance_uid, row.lane if row.purpose == "answer" else row.purpose,
         coloured(row.state), coloured(row.outcome), as_text(row.attempts), as_text(row.revision),
         as_text(row.created_at), as_text(row.analysis_seconds),
         row.model_version, as_text(row.reason if row.outcome in UNANSWERED else None)]
        for row in rows
    ]  # fmt: skip
    if all(each[-1] == "-" for each in cells):
        columns, cells = columns[:-1], [each[:-1] for each in cells]
    console().print(table(None, columns, cells, right=("job", "attempts", "revision", "seconds")))


def retry(
    study: Annotated[
        str | None, typer.Argument(metavar="STUDY_UID", help="The study to analyse and to report again.")
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
    from worker.retries import needs_analysis, retry_failed, retry_study, revive_deliveries

    if (study is None) is not all_failed:
        say_error("name one study, or give --all-failed", "bonewatch retry STUDY_UID | bonewatch retry --all-failed")
        raise typer.Exit(WRONG_USE)
    settings = settings_of(home)
    version = read_manifest(settings.installed_bundle() or SHIPPED).version
    database = database_of(settings)
    try:
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
