"""`forget`: a study whose data must go. Its files and all its rows are removed; one event says that it was done.

Marked first, as for a purge (`worker.storage.file_removal`): a process that is killed in between leaves marks and no
row that promises a file that is gone, and the same command again goes on from there. What the PACS holds is not
touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, delete, func, or_, select, update
from sqlalchemy.orm import Session

from dicom_io.types import StoredFile
from worker.db.database import Database, changed_rows
from worker.db.events import record
from worker.db.open_items import item_is_open
from worker.db.tables import (
    Companion,
    Delivery,
    Event,
    Finding,
    ImageResult,
    Instance,
    Job,
    Move,
    ReanalysisItem,
    Rejection,
    ReplacedInstance,
    Report,
    Study,
)
from worker.errors import StudyBusy, UnknownStudy
from worker.storage.file_removal import UNDERWAY, FileStore

FORGOTTEN = "forgotten"
RECEIVING = "its images still arrive"
JOBS = "an analysis of it waits or runs"
DELIVERIES = "a report of it, or a picture that goes with one, is on its way to a PACS"
ITEMS = "a re-analysis has taken it up"
ARRIVED = "an image of it has just arrived"


@dataclass(frozen=True, slots=True)
class StudyData:
    """What is here of a study; `obstacle` says why it cannot be forgotten now, None where it can."""

    study_instance_uid: str
    instances: int
    size_bytes: int
    answers: int
    reports: int
    quarantined: int
    obstacle: str | None


def data_of(database: Database, study_instance_uid: str) -> StudyData:
    """Say what `forget` would remove now.

    Raises
    ------
    worker.errors.UnknownStudy
        When nobody has sent such a study.
    """
    with database.read() as session:
        return _data_of(session, _study(session, study_instance_uid))


def forget(database: Database, store: FileStore, study_instance_uid: str, *, by: str, now: datetime) -> StudyData:
    """Remove the files and the rows of a study for good; return what that was.

    1. Mark its files, unless work on it runs or waits: nobody plans work on it from then on.
    2. Remove the files: of instances, reports and pictures, and what of it was put aside in quarantine.
    3. Remove the rows in the same transaction, and record who asked for it and how much it was.

    Raises
    ------
    worker.errors.UnknownStudy
        When nobody has sent such a study.
    worker.errors.StudyBusy
        When work on it runs or waits, or an image of it arrives meanwhile; nothing was removed.
    dicom_io.errors.StoreError
        When a file cannot be removed; the marks stay, and the next call tries again.
    """
    with database.write() as session:
        study = _study(session, study_instance_uid)
        _require_idle(session, study)
        unmarked = update(Instance).where(Instance.study_id == study.id, Instance.file_deleted_reason.is_(None))
        changed_rows(session, unmarked.values(file_deleted_reason=FORGOTTEN))
    with database.write() as session:
        study = _study(session, study_instance_uid)
        _require_idle(session, study)
        kept = select(func.count()).where(Instance.study_id == study.id, Instance.file_deleted_reason.is_(None))
        if session.scalar(kept):
            raise StudyBusy(f"the study cannot be forgotten now: {ARRIVED}")
        removed = _data_of(session, study)
        for stored in _files(session, study):
            store.discard(stored)
        events = _remove_rows(session, study)
        record(
            session, "study_forgotten", now, by=by, study_instance_uid=study_instance_uid, instances=removed.instances,
            size_bytes=removed.size_bytes, answers=removed.answers, reports=removed.reports,
            quarantined=removed.quarantined, events=events,
        )  # fmt: skip
        return removed


def _study(session: Session, study_instance_uid: str) -> Study:
    wanted = select(Study).where(Study.study_instance_uid == study_instance_uid).with_for_update()
    study = session.scalars(wanted).one_or_none()
    if study is None:
        raise UnknownStudy(f"no study {study_instance_uid} has been received")
    return study


def _require_idle(session: Session, study: Study) -> None:
    obstacle = _obstacle(session, study)
    if obstacle is not None:
        raise StudyBusy(f"the study cannot be forgotten now: {obstacle}")


def _obstacle(session: Session, study: Study) -> str | None:
    if study.state == "receiving":
        return RECEIVING
    open_jobs = select(Job.id).where(Job.study_id == study.id, Job.state.in_(("queued", "running")))
    reports = _reports(study)
    pictures = select(Companion.id).where(Companion.report_id.in_(reports))
    of_study = or_(Delivery.report_id.in_(reports), Delivery.companion_id.in_(pictures))
    under_way = select(Delivery.id).where(of_study, Delivery.state.in_(UNDERWAY))
    items = select(ReanalysisItem.id).where(
        ReanalysisItem.study_instance_uid == study.study_instance_uid, item_is_open()
    )
    for found, reason in ((open_jobs, JOBS), (under_way, DELIVERIES), (items, ITEMS)):
        if session.scalar(found.limit(1)) is not None:
            return reason
    return None


def _data_of(session: Session, study: Study) -> StudyData:
    here = (Instance.study_id == study.id, Instance.file_deleted_at.is_(None))
    size = func.coalesce(func.sum(Instance.size_bytes), 0)
    return StudyData(
        study_instance_uid=study.study_instance_uid,
        instances=session.scalar(select(func.count()).where(Instance.study_id == study.id)) or 0,
        size_bytes=int(session.scalar(select(size).where(*here)) or 0),
        answers=session.scalar(select(func.count()).where(Job.study_id == study.id)) or 0,
        reports=session.scalar(select(func.count()).where(Report.id.in_(_reports(study)))) or 0,
        quarantined=len(_quarantined(session, study)),
        obstacle=_obstacle(session, study),
    )


def _files(session: Session, study: Study) -> Iterator[StoredFile]:
    """Yield what lies in the store of a study; a file need not exist any more."""
    for instance in session.scalars(select(Instance).where(Instance.study_id == study.id)):
        yield StoredFile(instance.path, instance.digest, instance.size_bytes)
    reports = session.scalars(select(Report).where(Report.id.in_(_reports(study)))).all()
    for report in reports:
        for path in (report.path, *(companion.path for companion in report.companions)):
            if path is not None:
                yield StoredFile(path, "", 0)
        for delivery in report.deliveries:
            # The form for a PACS that takes no Comprehensive 3D SR has a UID and a file of its own.
            if report.path is not None and report.sop_instance_uid and delivery.sop_instance_uid:
                yield StoredFile(report.path.replace(report.sop_instance_uid, delivery.sop_instance_uid), "", 0)
    for path in _quarantined(session, study):
        yield StoredFile(path, "", 0)


def _quarantined(session: Session, study: Study) -> Sequence[str]:
    """Return what was put aside of objects that have the UIDs of the study's instances."""
    uids = select(Instance.sop_instance_uid).where(Instance.study_id == study.id)
    found = select(Rejection.quarantine_path).where(
        Rejection.sop_instance_uid.in_(uids), Rejection.quarantine_path.is_not(None)
    )
    return [path for path in session.scalars(found.distinct()) if path is not None]


def _reports(study: Study) -> Select[int]:
    return select(Report.id).join(Report.job).where(Job.study_id == study.id)


def _remove_rows(session: Session, study: Study) -> int:
    """Remove every row of a study, those first that refer to others; return how many events."""
    session.flush()
    jobs, reports = select(Job.id).where(Job.study_id == study.id), _reports(study)
    instances = select(Instance.id).where(Instance.study_id == study.id)
    uids = select(Instance.sop_instance_uid).where(Instance.study_id == study.id)
    # An instance may have come from another study, whose answers name it.
    of_images = or_(ImageResult.job_id.in_(jobs), ImageResult.instance_id.in_(instances))
    images = select(ImageResult.id).where(of_images)
    pictures = select(Companion.id).where(Companion.report_id.in_(reports))
    of_study = or_(Delivery.report_id.in_(reports), Delivery.companion_id.in_(pictures))
    uid, key = study.study_instance_uid, study.id
    before = [
        delete(Finding).where(Finding.image_result_id.in_(images)),
        delete(ImageResult).where(of_images),
        delete(Delivery).where(of_study),
        delete(Companion).where(Companion.report_id.in_(reports)),
        delete(Report).where(Report.job_id.in_(jobs)),
        delete(ReanalysisItem).where(or_(ReanalysisItem.study_instance_uid == uid, ReanalysisItem.job_id.in_(jobs))),
        delete(Rejection).where(Rejection.sop_instance_uid.in_(uids)),
        delete(ReplacedInstance).where(ReplacedInstance.instance_id.in_(instances)),
    ]
    events = delete(Event).where(or_(Event.study_id == key, Event.job_id.in_(jobs)))
    after = [
        delete(Job).where(Job.study_id == key),
        delete(Instance).where(Instance.study_id == key),
        delete(Move).where(Move.study_instance_uid == uid),
        delete(Study).where(Study.id == key),
    ]
    session.expunge_all()
    unsynchronised = {"synchronize_session": False}
    for statement in before:
        session.execute(statement, execution_options=unsynchronised)
    removed = changed_rows(session, events.execution_options(**unsynchronised))
    for statement in after:
        session.execute(statement, execution_options=unsynchronised)
    return removed
