"""What a claimed job is about: read from SQL in one go, so that no transaction is open while an image is analysed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from dicom_io.types import Outcome, ReportReference
from worker.db.database import Database
from worker.db.tables import ANSWER, Delivery, Instance, Job, Report, Study
from worker.study.completion import REPLACED
from worker.study.jobs import Claim
from worker.study.patients import MIXED_PATIENTS, Named, are_different, tells_patient
from worker.study.queues import LIVE
from worker.study.studies import CAME_BACK, images_of_digest


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """One instance in scope; `path` is relative to the root of the store. `deleted` where its file is gone.

    `received_at` is when its present file came.
    """

    instance_id: int
    path: str
    number_of_frames: int
    received_at: datetime
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One instance that is not analysed, and why, in words."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The job's identity and its images. `obstacle` says why nothing of this study may be analysed, if so.

    `predecessor` is the study's latest report that a PACS may hold, `reported` the outcome that it tells of these very
    images; None where there is none, it is of other images, or a destination refused it.
    """

    study_instance_uid: str
    digest: str
    revision: int
    model_version: str
    content_datetime: datetime
    images: tuple[PlannedImage, ...]
    left_out: tuple[LeftOut, ...]
    predecessor: ReportReference | None
    lane: str = LIVE
    purpose: str = ANSWER
    reported: Outcome | None = None
    obstacle: str | None = None


def load_plan(database: Database, held: Claim) -> Plan:
    """Read what a claimed job is about."""
    with database.read() as session:
        job = session.get_one(Job, held.job_id)
        study = session.get_one(Study, held.study_id)
        instances = session.scalars(
            select(Instance).where(Instance.study_id == held.study_id).order_by(Instance.id)
        ).all()
        in_scope = [each for each in instances if each.out_of_scope_reason is None]
        images = images_of_digest(in_scope, job.digest)
        earlier = _latest_report(session, held)
        return Plan(
            study_instance_uid=study.study_instance_uid,
            digest=job.digest,
            revision=job.revision,
            model_version=job.model_version,
            content_datetime=held.started_at,
            images=tuple(
                PlannedImage(
                    each.id,
                    each.path,
                    each.number_of_frames,
                    each.received_at,
                    deleted=each.file_deleted_reason is not None,
                )
                for each in images or ()
            ),
            left_out=tuple(
                LeftOut(each.path, each.out_of_scope_reason)
                for each in instances
                if each.out_of_scope_reason and each.out_of_scope_reason != CAME_BACK
            ),
            predecessor=None if earlier is None else _reference(earlier, study),
            lane=job.lane,
            purpose=job.purpose,
            reported=_reported(earlier, job),
            obstacle=_obstacle(instances, images),
        )


def _obstacle(instances: Sequence[Instance], images: tuple[Instance, ...] | None) -> str | None:
    if images is None:
        return REPLACED
    # A study with nothing in scope gets no report.
    named = (
        Named(each.patient_id, each.issuer_of_patient_id)
        for each in instances
        if tells_patient(each.out_of_scope_reason, each.sop_class_uid)
    )
    return MIXED_PATIENTS if images and are_different(named) else None


def _latest_report(session: Session, held: Claim) -> Report | None:
    """Return the study's latest report before this job's, passing over those that every destination refused."""
    refused = exists().where(Delivery.report_id == Report.id, Delivery.state == "failed")
    on_its_way = exists().where(Delivery.report_id == Report.id, Delivery.state != "failed")
    return session.scalars(
        select(Report)
        .join(Report.job)
        .where(Job.study_id == held.study_id, Job.id != held.job_id, Report.state == "built", ~refused | on_its_way)
        .order_by(Report.id.desc())
        .limit(1)
    ).first()


def _reference(report: Report, study: Study) -> ReportReference | None:
    """Return what the next report names as the one before it (PS3.3 C.17.2, Predecessor Documents)."""
    if not (report.sop_class_uid and report.sop_instance_uid and report.series_instance_uid):
        return None
    return ReportReference(
        report.sop_class_uid, report.sop_instance_uid, report.series_instance_uid, study.study_instance_uid
    )


def _reported(report: Report | None, job: Job) -> Outcome | None:
    if report is None or report.job.digest != job.digest or report.job.outcome is None:
        return None
    if any(delivery.state == "failed" for delivery in report.deliveries):
        return None
    return Outcome(report.job.outcome)
