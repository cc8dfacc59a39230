"""What becomes of the studies that a run took up: their jobs end, and then their runs."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import and_, exists, select, update

from worker.database import Database
from worker.events import record
from worker.jobs import changed_rows
from worker.reanalysis_runs import ACTIVE
from worker.tables import Job, ReanalysisItem, ReanalysisRun

GIVEN_UP = "its analysis was given up; `bonewatch jobs` says why"


def settle(database: Database, *, now: datetime, limit: int) -> int:
    """End the items whose jobs have ended; return how many.

    A job that was given to another model before it ran (`studies.replan`) ends its item like any other: the study has
    the answer of the model that is installed now.
    """
    ended = (
        select(ReanalysisItem.id, Job.state, Job.reason)
        .join(Job, Job.id == ReanalysisItem.job_id)
        .where(ReanalysisItem.state == "queued", Job.state.in_(("done", "failed")))
        .order_by(ReanalysisItem.id)
        .limit(limit)
    )
    with database.write() as session:
        rows = session.execute(ended).all()
        for state in ("done", "failed"):
            keys = [key for key, ended_as, _ in rows if ended_as == state]
            values = {"state": state, "finished_at": now, "reason": GIVEN_UP if state == "failed" else None}
            if keys:
                changed_rows(
                    session,
                    update(ReanalysisItem)
                    .where(ReanalysisItem.id.in_(keys), ReanalysisItem.state == "queued")
                    .values(**values)
                    .execution_options(synchronize_session=False),
                )
        return len(rows)


def finish_runs(database: Database, *, now: datetime) -> int:
    """End the runs whose plan is at its end and whose studies all have an end; return how many."""
    unfinished = exists().where(ReanalysisItem.run_id == ReanalysisRun.id, ReanalysisItem.state == "queued")
    over = and_(ReanalysisRun.state.in_(ACTIVE), ReanalysisRun.planned_at.is_not(None), ~unfinished)
    with database.write() as session:
        keys = session.scalars(select(ReanalysisRun.id).where(over)).all()
        for run_id in keys:
            values = {"state": "finished", "finished_at": now, "reason": None, "lease_token": None, "lease_until": None}
            changed_rows(session, update(ReanalysisRun).where(ReanalysisRun.id == run_id, over).values(**values))
            record(session, "reanalysis_finished", now, run_id=run_id)
        return len(keys)
