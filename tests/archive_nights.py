"""Runs over an archive, step by step: ask for one, let a night pass, see what became of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from sqlalchemy import func, select, update

from tests.databases import MORNING
from worker.db.tables import Instance, Job, ReanalysisItem, ReanalysisRun
from worker.reanalysis import runs
from worker.reanalysis.reanalysis import step
from worker.reanalysis.runs import ARCHIVE, Request
from worker.study.studies import Models, close_quiet_studies

OLD, NEW, NEWER = "2026-03-01-first+01234567", "2026-09-01-second+89abcdef", "2026-10-01-third+00000000"
DAY = "20260228"


def limited(parts, **values):
    return replace(parts, archive=replace(parts.archive, rule=replace(parts.archive.rule, **values)))


def ask(parts, **values):
    request = Request(source=ARCHIVE, since=date(2026, 2, 25), until=date(2026, 2, 28)) if not values else values["of"]
    return runs.start(parts.database, request, model_version=NEW, asked_by="a test", now=parts.clock())


def night(parts, steps=3):
    """Let time pass: steps, quiet studies that are closed, and jobs that end."""
    for _ in range(steps):
        step(parts)
        close_quiet_studies(
            parts.database, Models(parts.model_version()), quiet_seconds=1, now=parts.clock.now, limit=100
        )
        end_jobs(parts.database)
        parts.clock.advance(5)


def end_jobs(database):
    with database.write() as session:
        session.execute(update(Job).where(Job.state == "queued").values(state="done", finished_at=MORNING))


def items(database):
    with database.read() as session:
        state = func.coalesce(Job.state, ReanalysisItem.state)
        joined = select(ReanalysisItem, state).outerjoin(Job, Job.id == ReanalysisItem.job_id)
        rows = session.execute(joined.order_by(ReanalysisItem.id))
        return [(row.study_instance_uid.removeprefix("2.25."), state, row.reason_code) for row, state in rows]


def the_run(database):
    with database.read() as session:
        return session.scalars(select(ReanalysisRun).order_by(ReanalysisRun.id.desc()).limit(1)).one()


def count(database, *conditions):
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(Job).where(*conditions))


def files(database):
    """Return how many instances have their file."""
    with database.read() as session:
        return session.scalar(
            select(func.count()).select_from(Instance).where(Instance.file_deleted_at.is_(None))
        )  # fmt: skip
