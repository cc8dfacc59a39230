"""Doing again what failed: a person asks for it, and a new row says so."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select
from sqlalchemy.orm import Session

from worker.db.database import Database
from worker.db.events import record
from worker.db.tables import ANSWER, Delivery, Job, Report, Study, utc_now
from worker.delivery.claim import report_id
from worker.delivery.states import REPORT_UNUSABLE
from worker.errors import FilesDeleted, StudyHeld, UnknownStudy
from worker.storage.file_removal import lacks_files
from worker.study.job_conditions import latest_answer
from worker.study.patients import WHAT_TO_DO
from worker.study.studies import add_job, current_digest


def retry_study(
    database: Database, study_instance_uid: str, *, model_version: str, now: datetime | None = None
) -> int | None:
    """Plan a new analysis of a study with the images it has now and the model given.

    Returns
    -------
    int or None
        The new job; None where one of this study still waits or runs, or none was ever made (it still receives).

    Raises
    ------
    worker.errors.UnknownStudy
        When nobody has sent such a study.
    worker.errors.FilesDeleted
        When its images were deleted here.
    worker.errors.StudyHeld
        When its images name different patients.
    """
    with database.write() as session:
        study_id = session.scalar(select(Study.id).where(Study.study_instance_uid == study_instance_uid))
        if study_id is None:
            raise UnknownStudy(f"no study {study_instance_uid} has been received")
        session.execute(select(Study.id).where(Study.id == study_id).with_for_update())
        if session.scalar(select(Study.id).where(Study.id == study_id, lacks_files())) is not None:
            raise FilesDeleted("the images of this study were deleted here: let the PACS send them again, then retry")
        held = session.scalar(select(Study.held_reason).where(Study.id == study_id))
        if held is not None:
            raise StudyHeld(f"this study waits for a decision: {held}; {WHAT_TO_DO}")
        return _retry(session, study_id, model_version, now or utc_now())


def retry_failed(
    database: Database,
    *,
    model_version: str,
    limit: int | None = None,
    because: ColumnElement[bool] | None = None,
    now: datetime | None = None,
) -> tuple[int, ...]:
    """Plan a new analysis of every study whose latest job failed, or has no report that could be sent.

    Those whose images were deleted here, or that wait for a decision, are left alone. `because` is one more condition
    on that job.

    Returns
    -------
    tuple of int
        The new jobs, oldest failure first.
    """
    conditions = [_unsound(), ~lacks_files(), Study.held_reason.is_(None)]
    if because is not None:
        conditions.append(because)
    with database.read() as session:
        failed = session.scalars(
            select(Job.study_id).join(Job.study).where(*conditions).order_by(Job.finished_at).limit(limit)
        ).all()
    made = []
    for study_id in failed:
        with database.write() as session:
            made.append(_retry(session, study_id, model_version, now or utc_now()))
    return tuple(job_id for job_id in made if job_id is not None)


def needs_analysis(database: Database, study_instance_uid: str) -> bool:
    """Say whether a study's latest job failed, or has no report that could be sent."""
    of_study = Job.study.has(Study.study_instance_uid == study_instance_uid)
    with database.read() as session:
        return bool(session.scalar(select(exists().where(_unsound(), of_study))))


def can_send_again(database: Database, study_instance_uid: str) -> bool:
    """Say whether `revive_deliveries` would find anything of a study."""
    with database.read() as session:
        return session.execute(_sendable(study_instance_uid).limit(1)).first() is not None


def _unsound() -> ColumnElement[bool]:
    lost = Report.deliveries.any(and_(Delivery.state == "failed", _is_unusable()))
    return and_(
        Job.id.in_(select(func.max(Job.id)).where(Job.purpose == ANSWER).group_by(Job.study_id)),
        or_(Job.state == "failed", Job.outcome == "failed", Job.report.has(or_(Report.state == "failed", lost))),
    )


def _is_unusable() -> ColumnElement[bool]:
    return func.coalesce(Delivery.reason, "").startswith(REPORT_UNUSABLE)


def _sendable(study_instance_uid: str | None) -> Select[Delivery, Job]:
    wanted = (
        select(Delivery, Job)
        .select_from(Delivery)
        .join(Report, Report.id == report_id())
        .join(Report.job)
        .where(latest_answer(), Delivery.state == "failed", ~_is_unusable())
    )
    if study_instance_uid is None:
        return wanted
    return wanted.join(Job.study).where(Study.study_instance_uid == study_instance_uid)


def revive_deliveries(
    database: Database,
    *,
    study_instance_uid: str | None = None,
    because: ColumnElement[bool] | None = None,
    now: datetime | None = None,
) -> int:
    """Make deliveries of latest answers that failed for good pending again, of one study or of all; return how many.

    `because` is one more condition on the delivery. A report that a newer answer has replaced stays unsent.

    Those whose report's file is lost would only fail again: their study needs a new analysis.
    """
    wanted = _sendable(study_instance_uid).order_by(Delivery.id)
    if because is not None:
        wanted = wanted.where(because)
    at = now or utc_now()
    with database.write() as session:
        rows = session.execute(wanted.with_for_update(of=Delivery)).all()
        for delivery, job in rows:
            delivery.state = "pending"
            delivery.attempts = 0
            delivery.next_attempt_at = delivery.lease_token = delivery.lease_until = None
            delivery.transaction_uid = None
            record(
                session, "delivery_retry", at, study_id=job.study_id, job_id=job.id, destination=delivery.destination
            )
        return len(rows)


def _retry(session: Session, study_id: int, model_version: str, now: datetime) -> int | None:
    # The study's row is locked so that two people's retries make one job, on PostgreSQL too.
    session.execute(select(Study.id).where(Study.id == study_id).with_for_update())
    jobs = session.scalars(select(Job).where(Job.study_id == study_id, Job.purpose == ANSWER).order_by(Job.id)).all()
    if not jobs or any(job.state in ("queued", "running") for job in jobs):
        return None
    return add_job(
        session,
        study_id,
        digest=current_digest(session, study_id),
        model_version=model_version,
        lane="live",
        now=now,
        kind="retry",
    )
