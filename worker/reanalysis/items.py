"""What becomes of the studies that a run took up: their jobs end, and then their runs."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import and_, exists, func, select, update
from sqlalchemy.orm import Session

from worker.db.database import Database, changed_rows
from worker.db.events import record
from worker.db.leases import FREE
from worker.db.open_items import UNDER_WAY
from worker.db.reanalysis_tables import WITHOUT_JOB
from worker.db.tables import ANSWER, Job, ReanalysisItem, ReanalysisRun, Study
from worker.reanalysis.runs import ACTIVE
from worker.storage.file_removal import lacks_files
from worker.study.queues import ARCHIVE
from worker.study.studies import add_job, current_digest

NOTHING_KEPT = "the archive handed it over, but nothing of it could be kept; the table rejections says why"
IMAGE_GONE = "an image that was here before did not come again: the archive has it no longer"


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
    row.state = "analysis"


def studies_in(database: Database, run_id: int, states: tuple[str, ...], most: int) -> int:
    """Return how many studies of a run are in these states, counted no further than `most`."""
    some = select(ReanalysisItem.id).where(ReanalysisItem.run_id == run_id, ReanalysisItem.state.in_(states))
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(some.limit(most).subquery())) or 0


def finish_runs(database: Database, *, now: datetime) -> int:
    """End the runs whose plan is at its end and whose studies all have an end; return how many."""
    item = ReanalysisItem
    without_job = exists().where(item.run_id == ReanalysisRun.id, item.state.in_(WITHOUT_JOB))
    # From the few jobs that are not done to their run, and not through all studies of the run: `+ 0` says so to SQLite.
    with_job = exists().where(Job.state.in_(UNDER_WAY), item.job_id == Job.id, item.run_id + 0 == ReanalysisRun.id)
    planned = and_(ReanalysisRun.state.in_(ACTIVE), ReanalysisRun.planned_at.is_not(None))
    over = and_(planned, ~without_job, ~with_job)
    with database.write() as session:
        values = {"state": "finished", "finished_at": now, "reason": None, **FREE}
        ended = 0
        for run_id in session.scalars(select(ReanalysisRun.id).where(over).order_by(ReanalysisRun.id)).all():
            # Only one of two that found it changes the row, and has its end to record.
            if changed_rows(session, update(ReanalysisRun).where(ReanalysisRun.id == run_id, over).values(**values)):
                record(session, "reanalysis_finished", now, run_id=run_id)
                ended += 1
        return ended
