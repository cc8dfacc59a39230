"""What becomes of the studies that a run took up: their jobs end, and then their runs."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import and_, exists, func, select, update
from sqlalchemy.orm import Session

from worker.db.database import Database
from worker.db.events import record
from worker.db.reanalysis_tables import OPEN_ITEMS
from worker.db.tables import ANSWER, Job, ReanalysisItem, ReanalysisRun, Study
from worker.reanalysis.runs import ACTIVE
from worker.storage.file_removal import lacks_files
from worker.study.jobs import changed_rows
from worker.study.queues import ARCHIVE
from worker.study.studies import add_job, current_digest

NOTHING_KEPT = "the archive handed it over, but nothing of it could be kept; the table rejections says why"
IMAGE_GONE = "an image that was here before did not come again: the archive has it no longer"
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
            given_up = {"reason_code": "analysis", "reason": GIVEN_UP}
            reason = given_up if state == "failed" else {"reason_code": None, "reason": None}
            values = {"state": state, "finished_at": now, **reason}
            if keys:
                changed_rows(
                    session,
                    update(ReanalysisItem)
                    .where(ReanalysisItem.id.in_(keys), ReanalysisItem.state == "queued")
                    .values(**values)
                    .execution_options(synchronize_session=False),
                )
        return len(rows)


def take_up_retrieved(database: Database, *, model_version: str, now: datetime, limit: int) -> int:
    """Let the studies that were retrieved follow their jobs; return how many did.

    A study that came for the first time was given its job when it became complete. One whose images were here before,
    and came back, is complete already and gets its job here.
    """
    ready = (
        select(ReanalysisItem.id, Study.id)
        .join(Study, Study.study_instance_uid == ReanalysisItem.study_instance_uid, isouter=True)
        .where(ReanalysisItem.state == "retrieved", (Study.state == "complete") | Study.id.is_(None))
        .order_by(ReanalysisItem.id)
        .limit(limit)
    )
    with database.read() as session:
        found = session.execute(ready).all()
    for item_id, study_id in found:
        with database.write() as session:
            _take_up(session, item_id, study_id, model_version, now)
    return len(found)


def _take_up(session: Session, item_id: int, study_id: int | None, model_version: str, now: datetime) -> None:
    study = session.scalars(select(Study).where(Study.id == study_id).with_for_update()).one_or_none()
    item = session.scalars(select(ReanalysisItem).filter_by(id=item_id, state="retrieved").with_for_update())
    row = item.one_or_none()
    if row is None or (study is not None and study.state != "complete"):
        return
    if study is None:
        row.state, row.reason_code, row.reason, row.finished_at = "failed", "nothing_kept", NOTHING_KEPT, now
        return
    if session.scalar(select(Study.id).where(Study.id == study.id, lacks_files())) is not None:
        row.state, row.reason_code, row.reason, row.finished_at = "failed", "incomplete", IMAGE_GONE, now
        return
    if study.held_reason is not None:
        row.state, row.reason_code, row.reason, row.finished_at = "failed", "held", study.held_reason, now
        return
    digest = current_digest(session, study.id)
    of_study = {"study_id": study.id, "purpose": ANSWER}
    same = select(func.max(Job.id)).filter_by(**of_study, digest=digest, model_version=model_version)
    row.job_id = session.scalar(same) or add_job(
        session, study.id, digest=digest, model_version=model_version, lane=ARCHIVE, now=now
    )
    row.state = "queued"


def studies_in(database: Database, run_id: int, states: tuple[str, ...], most: int) -> int:
    """Return how many studies of a run are in these states, counted no further than `most`."""
    some = select(ReanalysisItem.id).where(ReanalysisItem.run_id == run_id, ReanalysisItem.state.in_(states))
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(some.limit(most).subquery())) or 0


def finish_runs(database: Database, *, now: datetime) -> int:
    """End the runs whose plan is at its end and whose studies all have an end; return how many."""
    unfinished = exists().where(ReanalysisItem.run_id == ReanalysisRun.id, ReanalysisItem.state.in_(OPEN_ITEMS))
    over = and_(ReanalysisRun.state.in_(ACTIVE), ReanalysisRun.planned_at.is_not(None), ~unfinished)
    with database.write() as session:
        values = {"state": "finished", "finished_at": now, "reason": None, "lease_token": None, "lease_until": None}
        ended = 0
        for run_id in session.scalars(select(ReanalysisRun.id).where(over).order_by(ReanalysisRun.id)).all():
            # Only one of two that found it changes the row, and has its end to record.
            if changed_rows(session, update(ReanalysisRun).where(ReanalysisRun.id == run_id, over).values(**values)):
                record(session, "reanalysis_finished", now, run_id=run_id)
                ended += 1
        return ended
