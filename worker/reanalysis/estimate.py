"""What a run would take, and how far one is: counted by the database, in constant memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import func, literal, select, text
from sqlalchemy.orm import Session

from worker.db.database import Database
from worker.db.tables import ANSWER, Instance, Job, ReanalysisItem, ReanalysisRun, Study
from worker.reanalysis.runs import Request, RunView
from worker.reanalysis.store import unanswered

MEASURED_JOBS = 1000
GIVEN_UP = "its analysis was given up; `bonewatch jobs` says why"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would be about; `hours` is None where no analysis was measured yet.

    `counted_to` is the study date (YYYY-MM-DD) up to which an archive was counted, None where that is all of it.
    """

    studies: int
    images: int
    seconds_per_study: float | None
    processes: int
    counted_to: str | None = None

    @property
    def hours(self) -> float | None:
        """How long the analysis would take with so many processes."""
        if self.seconds_per_study is None:
            return None
        return self.studies * self.seconds_per_study / self.processes / 3600


@dataclass(frozen=True, slots=True)
class RunProgress:
    """A row of `v_reanalysis`."""

    run_id: int
    source: str
    model_version: str
    state: str
    reason: str | None
    asked_by: str
    created_at: datetime
    finished_at: datetime | None
    found: int
    to_retrieve: int
    retrieved: int
    queued: int
    done: int
    failed: int

    @property
    def taken_up(self) -> int:
        """How many studies the run has taken up by now."""
        return self.to_retrieve + self.retrieved + self.queued + self.done + self.failed


def estimate_store(database: Database, request: Request, *, model_version: str, processes: int) -> Estimate:
    """Count what a run over the own store would be about."""
    condition = unanswered(request, model_version)
    with database.read() as session:
        studies = session.scalar(select(func.count()).select_from(Study).where(condition)) or 0
        of_these = Instance.study_id.in_(select(Study.id).where(condition))
        images = session.scalar(
            select(func.coalesce(func.sum(Instance.number_of_frames), 0)).where(
                of_these, Instance.out_of_scope_reason.is_(None)
            )
        )
        seconds = measured_seconds(session)
    if request.maximum_studies is not None and studies > request.maximum_studies:
        images = round((images or 0) * request.maximum_studies / studies)
        studies = request.maximum_studies
    return Estimate(studies, images or 0, seconds, processes)


def yet_to_take_up(view: RunView) -> Request:
    """Return what a run has still to take up: its request, less what is planned; what is queued is no part of it."""
    run, most = view.run, view.request.maximum_studies
    if run.planned_at is not None:
        return replace(view.request, maximum_studies=0)
    return view.request if most is None else replace(view.request, maximum_studies=max(most - run.planned, 0))


def measured_seconds(session: Session) -> float | None:
    """Return the mean seconds that the newest analyses took, a study."""
    newest = (
        select(Job.analysis_seconds)
        .where(Job.state == "done", Job.purpose == ANSWER, Job.analysis_seconds.is_not(None))
        .order_by(Job.id.desc())
        .limit(MEASURED_JOBS)
        .subquery()
    )
    return session.scalar(select(func.avg(newest.c.analysis_seconds)))


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """How many studies of a run failed for the same reason."""

    run_id: int
    reason_code: str | None
    reason: str | None
    studies: int


def item_failures(database: Database, run_ids: Sequence[int], limit: int = 20) -> tuple[ItemFailure, ...]:
    """Return why studies of these runs failed, newest run and most frequent reason first, so many reasons at most."""
    item, studies = ReanalysisItem, func.count()
    before = (
        select(item.run_id, item.reason_code, item.reason, studies)
        .where(item.run_id.in_(run_ids), item.state == "failed")
        .group_by(item.run_id, item.reason_code, item.reason)
    )
    # From the few jobs that failed to their runs: see `v_reanalysis`.
    given_up = (
        select(item.run_id, literal("analysis"), literal(GIVEN_UP), studies)
        .join(Job, Job.id == item.job_id)
        .where(Job.state == "failed", (item.run_id + 0).in_(run_ids))
        .group_by(item.run_id)
    )
    with database.read() as session:
        found = [ItemFailure(*row) for each in (before, given_up) for row in session.execute(each)]
    return tuple(sorted(found, key=lambda each: (-each.run_id, -each.studies))[:limit])


def progress(database: Database, *, run_id: int | None = None, limit: int = 20) -> tuple[RunProgress, ...]:
    """Return how far a run is, or the newest ones, newest first."""
    names = RunProgress.__dataclass_fields__
    moments = ("created_at", "finished_at")
    only = "" if run_id is None else "WHERE run_id = :run_id "
    query = f"SELECT {', '.join(names)} FROM v_reanalysis {only}ORDER BY run_id DESC LIMIT :limit"  # noqa: S608 - our own words
    columns = {name: ReanalysisRun.__table__.c[name].type for name in moments}
    parameters = {"limit": limit} | ({} if run_id is None else {"run_id": run_id})
    with database.read() as session:
        rows = session.execute(text(query).columns(**columns), parameters)
        return tuple(RunProgress(**row) for row in rows.mappings())
