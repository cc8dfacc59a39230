"""Deleting the files of studies whose answers every PACS has committed; the rows stay and say so.

In two steps, so that no row ever promises a file that is gone. First the study's instances are marked: from then on
nobody plans work on their files. Then the files go, under the study's lock, and the moment is recorded. A process that
is killed in between leaves marks, and the next one goes on from them. An instance that arrives again is on record again
(`restore`): its file is kept from then on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import ColumnElement, and_, exists, func, select, update
from sqlalchemy.orm import Session, aliased

from dicom_io.types import StoredFile
from worker.db.database import Database
from worker.db.events import record
from worker.db.tables import ANSWER, Companion, Delivery, Instance, Job, Report, Study

PURGED = "purged"
RETRIEVED_COPY = "retrieved_copy"
UNDERWAY = ("pending", "sending", "sent")
"""States of a delivery that is neither committed nor given up."""


class FileStore(Protocol):
    """Where the files are (`dicom_io.store.folder.InstanceStore`)."""

    def discard(self, stored: StoredFile) -> None:
        """Remove a file, which need not exist any more."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What was deleted of a study: files of instances and of reports, and the bytes of the instances."""

    instances: int
    reports: int
    size_bytes: int


def settled() -> ColumnElement[bool]:
    """Return the condition on a study that it is answered, and that every report of it is committed everywhere.

    A study that waits for a decision, whose latest job failed, whose report could not be built or has nowhere to go, or
    of which anything waits or runs, is not settled. A companion that a PACS refused for good keeps no study here.
    """
    latest, job, report = aliased(Job), aliased(Job), aliased(Report)
    newest = (
        select(func.max(latest.id))
        .where(latest.study_id == Study.id, latest.purpose == ANSWER)
        .correlate(Study)
        .scalar_subquery()
    )
    answered = exists().where(Job.id == newest, Job.state == "done")
    waiting = exists().where(job.study_id == Study.id, job.state.in_(("queued", "running")))
    of_study = and_(Job.study_id == Study.id, Report.job_id == Job.id)
    to_nobody = ~exists().where(Delivery.report_id == report.id)
    unbuilt = exists().where(job.study_id == Study.id, report.job_id == job.id, (report.state != "built") | to_nobody)
    uncommitted = exists().where(of_study, Delivery.report_id == Report.id, Delivery.state != "committed")
    return and_(
        Study.state == "complete",
        Study.held_reason.is_(None),
        answered,
        ~waiting,
        ~unbuilt,
        ~uncommitted,
        ~_pictures_under_way(),
    )


def _pictures_under_way() -> ColumnElement[bool]:
    """Return the condition on a study that a companion of one of its reports is still to be sent or confirmed."""
    return exists().where(
        Job.study_id == Study.id,
        Report.job_id == Job.id,
        Companion.report_id == Report.id,
        Delivery.companion_id == Companion.id,
        Delivery.state.in_(UNDERWAY),
    )


def has_files() -> ColumnElement[bool]:
    """Return the condition on a study that the file of one of its instances is neither deleted nor to be deleted."""
    return exists().where(Instance.study_id == Study.id, Instance.file_deleted_reason.is_(None))


def lacks_files() -> ColumnElement[bool]:
    """Return the condition on a study that the file of one of its images in scope is deleted, or to be deleted."""
    in_scope = Instance.out_of_scope_reason.is_(None)
    return exists().where(Instance.study_id == Study.id, in_scope, Instance.file_deleted_reason.is_not(None))


def ended() -> ColumnElement[bool]:
    """Return the condition on a study that nothing waits or runs for it and every PACS has answered, well or not."""
    waiting = exists().where(Job.study_id == Study.id, Job.state.in_(("queued", "running")))
    under_way = exists().where(
        Job.study_id == Study.id,
        Report.job_id == Job.id,
        Delivery.report_id == Report.id,
        Delivery.state.in_(UNDERWAY),
    )
    return and_(Study.state == "complete", ~waiting, ~under_way, ~_pictures_under_way())


def mark(database: Database, study_id: int, condition: ColumnElement[bool], reason: str) -> bool:
    """Mark all files of a study to be deleted, if the condition holds; say whether that is so."""
    with database.write() as session:
        # Whoever plans work on a study holds this lock too: after it, either the work or the mark is there.
        session.execute(select(Study.id).where(Study.id == study_id).with_for_update())
        if session.scalar(select(Study.id).where(Study.id == study_id, condition)) is None:
            return False
        unmarked = Instance.file_deleted_reason.is_(None)
        session.execute(
            update(Instance).where(Instance.study_id == study_id, unmarked).values(file_deleted_reason=reason)
        )
        return True


def marked(database: Database, limit: int) -> tuple[int, ...]:
    """Return studies with marks whose files were not deleted yet."""
    with database.read() as session:
        return tuple(session.scalars(select(Instance.study_id).where(_going()).distinct().limit(limit)))


def remove_marked(database: Database, store: FileStore, study_id: int, *, by: str, now: datetime) -> Removed:
    """Delete the marked files of a study and record it; an event says how many, why, and who asked.

    A purge takes the files of its reports too; those of a retrieved study stay.

    Raises
    ------
    dicom_io.errors.StoreError
        When a file cannot be deleted; the marks stay, and the next call tries again.
    """
    with database.write() as session:
        session.execute(select(Study.id).where(Study.id == study_id).with_for_update())
        going = session.scalars(select(Instance).where(Instance.study_id == study_id, _going())).all()
        if not going:
            return Removed(0, 0, 0)
        for instance in going:
            store.discard(StoredFile(instance.path, instance.digest, instance.size_bytes))
            instance.file_deleted_at = now
        reason = going[0].file_deleted_reason
        reports = _remove_reports(session, store, study_id, now) if reason == PURGED else 0
        removed = Removed(len(going), reports, sum(instance.size_bytes for instance in going))
        record(
            session, "files_deleted", now, study_id=study_id, reason=reason, by=by,
            instances=removed.instances, reports=removed.reports, size_bytes=removed.size_bytes,
        )  # fmt: skip
        return removed


def restore(session: Session, instance: Instance) -> bool:
    """Take an instance's mark back, for its file has come again; say whether it had one."""
    session.execute(select(Study.id).where(Study.id == instance.study_id).with_for_update())
    session.refresh(instance, ["file_deleted_reason"])
    if instance.file_deleted_reason is None:
        return False
    instance.file_deleted_reason = instance.file_deleted_at = None
    return True


def _remove_reports(session: Session, store: FileStore, study_id: int, now: datetime) -> int:
    """Delete the files of a study's reports; a PACS holds every one of them."""
    kept = (Job.study_id == study_id, Report.path.is_not(None), Report.file_deleted_at.is_(None))
    uncommitted = exists().where(Delivery.report_id == Report.id, Delivery.state != "committed")
    reports = session.scalars(select(Report).join(Report.job).where(*kept, ~uncommitted)).all()
    for report in reports:
        store.discard(StoredFile(str(report.path), "", 0))
        report.file_deleted_at = now
        for companion in report.companions:
            underway = any(delivery.state in UNDERWAY for delivery in companion.deliveries)
            if companion.path is not None and companion.file_deleted_at is None and not underway:
                store.discard(StoredFile(companion.path, "", 0))
                companion.file_deleted_at = now
    return len(reports)


def _going() -> ColumnElement[bool]:
    return and_(Instance.file_deleted_reason.is_not(None), Instance.file_deleted_at.is_(None))
