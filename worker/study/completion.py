"""The one transaction that makes an analysis true: results, findings, outcome, report and deliveries together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dicom_io.pixels.identity import image_digest
from dicom_io.types import Box, ReportReference
from worker.db.database import Database, changed_rows
from worker.db.events import record
from worker.db.leases import FREE
from worker.db.tables import OBJECT_NAMES, Companion, Delivery, Finding, ImageResult, Instance, Job, Report, Study
from worker.errors import LeaseLost
from worker.study.jobs import Claim, holds
from worker.study.outcomes import ImageOutcome, StudyOutcome, failed, joined
from worker.study.studies import images_of_digest

REPLACED = "an image was replaced by a corrected one meanwhile; the study is analysed again with what it has now"


@dataclass(frozen=True, slots=True)
class CompanionOutcome:
    """A companion that lies in the store (`reference` and `path`), or the reason why it could not be built."""

    kind: str
    number: int
    reference: ReportReference | None = None
    path: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ReportOutcome:
    """A report that lies in the store (`reference` and `path`), or the reason why it could not be built."""

    reference: ReportReference | None = None
    path: str | None = None
    predecessor_sop_instance_uid: str | None = None
    reason: str | None = None
    companions: tuple[CompanionOutcome, ...] = ()


@dataclass(frozen=True, slots=True)
class JobResult:
    """Everything that an analysis found out.

    `report` is None where none is wanted; `withheld` says why, where this outcome would get one.
    """

    study: StudyOutcome
    images: tuple[ImageOutcome, ...] = ()
    report: ReportOutcome | None = None
    analysis_seconds: float | None = None
    withheld: str | None = None


def finish(
    database: Database, held: Claim, result: JobResult, *, destinations: Sequence[str], now: datetime
) -> tuple[int, ...]:
    """Write the result of a job, all of it or nothing.

    1. Lock the study. Where one of its images was replaced meanwhile, what was found out is about another one, whose
       patient may be another: the job ends failed and without a report. The study is open again and gets another job.
    2. End the job, on condition that it is still ours.
    3. Write one row an image (a frame) and one a finding, and remember what its pixels were.
    4. Write the report and its companions, and one delivery each a destination.

    Returns
    -------
    tuple of int
        The deliveries to be made.

    Raises
    ------
    worker.errors.LeaseLost
        When the job belongs to somebody else by now; nothing was written.
    """
    with database.write() as session:
        images = _images(session, held)
        if images is None:
            result = JobResult(failed(REPLACED), analysis_seconds=result.analysis_seconds)
        _end_job(session, held, result, now)
        _remember_pixels(images or (), result.images)
        for image in result.images:
            _add_image(session, held.job_id, image)
        record(
            session,
            "analysed",
            now,
            study_id=held.study_id,
            job_id=held.job_id,
            outcome=result.study.outcome.value,
            images=len(result.images),
        )
        if result.withheld is not None:
            ids = {"study_id": held.study_id, "job_id": held.job_id}
            record(session, "report_withheld", now, **ids, reason=result.withheld)
        if result.report is None:
            return ()
        return _add_report(session, held, result.report, destinations, now)


def _images(session: Session, held: Claim) -> tuple[Instance, ...] | None:
    """Return the images that the job is about, or None where one of them is no longer what it was."""
    # The study before the job, as everybody who locks both.
    session.execute(select(Study.id).where(Study.id == held.study_id).with_for_update())
    in_scope = select(Instance).where(Instance.study_id == held.study_id, Instance.out_of_scope_reason.is_(None))
    digest = session.scalars(select(Job.digest).where(Job.id == held.job_id)).one()
    return images_of_digest(session.scalars(in_scope).all(), digest)


def _remember_pixels(images: Iterable[Instance], outcomes: Iterable[ImageOutcome]) -> None:
    """Keep the identity of each image of which every frame was decoded: it tells what it was when its file is gone."""
    frames: dict[int | None, list[str | None]] = {}
    for outcome in sorted(outcomes, key=lambda each: each.frame_number):
        frames.setdefault(outcome.instance_id, []).append(outcome.values_digest)
    for image in images:
        digests = frames.get(image.id, [None])
        if None not in digests:
            image.pixel_digest = image_digest(each for each in digests if each is not None)


def _end_job(session: Session, held: Claim, result: JobResult, now: datetime) -> None:
    changed = changed_rows(
        session,
        update(Job)
        .where(holds(held))
        .values(
            state="done",
            outcome=result.study.outcome.value,
            probability=result.study.probability,
            reason=result.study.reason,
            analysis_seconds=result.analysis_seconds,
            finished_at=now,
            **FREE,
        ),
    )
    if changed == 0:
        raise LeaseLost(f"job {held.job_id} was given to somebody else; this result is dropped")


def _add_image(session: Session, job_id: int, image: ImageOutcome) -> None:
    session.add(
        ImageResult(
            job_id=job_id,
            instance_id=image.instance_id,
            frame_number=image.frame_number,
            outcome=image.outcome.value,
            probability=image.probability,
            reason_code=image.reason_code,
            reason=image.reason,
            analysis_seconds=image.seconds,
            classifier_probability=image.classifier_probability,
            detector_score=image.detector_score,
            unlikeness=image.unlikeness,
            warning=joined(image.warnings) or None,
            findings=[_finding(number, box) for number, box in enumerate(image.boxes, start=1)],
        )
    )


def _finding(number: int, box: Box) -> Finding:
    return Finding(number=number, x1=box.x1, y1=box.y1, x2=box.x2, y2=box.y2, score=box.score)


def _add_report(
    session: Session, held: Claim, outcome: ReportOutcome, destinations: Sequence[str], now: datetime
) -> tuple[int, ...]:
    reference = outcome.reference
    report = Report(
        job_id=held.job_id,
        state="failed" if reference is None else "built",
        reason=outcome.reason,
        path=outcome.path,
        predecessor_sop_instance_uid=outcome.predecessor_sop_instance_uid,
        built_at=now,
    )
    session.add(report)
    if reference is None:
        record(session, "report_failed", now, study_id=held.study_id, job_id=held.job_id, reason=outcome.reason or "")
        return ()
    report.sop_instance_uid = reference.sop_instance_uid
    report.sop_class_uid = reference.sop_class_uid
    report.series_instance_uid = reference.series_instance_uid
    uid = reference.sop_instance_uid
    record(session, "report_built", now, study_id=held.study_id, job_id=held.job_id, sop_instance_uid=uid)
    deliveries = [
        Delivery(report=report, destination=name, sop_instance_uid=uid, sop_class_uid=reference.sop_class_uid)
        for name in destinations
    ]
    for companion in outcome.companions:
        deliveries += _add_companion(session, report, companion, destinations)
        if companion.reason is not None:
            ids = {"study_id": held.study_id, "job_id": held.job_id}
            record(
                session, "companion_failed", now, **ids, object=OBJECT_NAMES[companion.kind], reason=companion.reason
            )
    session.add_all(deliveries)
    session.flush()
    return tuple(delivery.id for delivery in deliveries)


def _add_companion(
    session: Session, report: Report, outcome: CompanionOutcome, destinations: Sequence[str]
) -> list[Delivery]:
    reference = outcome.reference
    companion = Companion(
        report=report,
        kind=outcome.kind,
        number=outcome.number,
        state="failed" if reference is None else "built",
        reason=outcome.reason,
        path=outcome.path,
    )
    session.add(companion)
    if reference is None:
        return []
    companion.sop_instance_uid = reference.sop_instance_uid
    companion.sop_class_uid = reference.sop_class_uid
    companion.series_instance_uid = reference.series_instance_uid
    uids = {"sop_instance_uid": reference.sop_instance_uid, "sop_class_uid": reference.sop_class_uid}
    return [Delivery(companion=companion, destination=name, **uids) for name in destinations]
