"""When a study is complete, and the job that this makes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update
from sqlalchemy.orm import Session

from worker.db.database import Database, changed_rows
from worker.db.events import record
from worker.db.tables import (
    ANSWER,
    IDENTITY,
    LIVE_SOURCES,
    SHADOW,
    Delivery,
    Instance,
    Job,
    ReanalysisItem,
    Study,
    UtcDateTime,
)
from worker.study.patients import Standing, hold_or_release

SHADOW_REVISION = 0
"""Of every job in shadow, of which there is one for each contents and model; answers count from 1."""


def study_digest(images: Iterable[tuple[str, str]]) -> str:
    """Return the identity of a study's image contents.

    Parameters
    ----------
    images : iterable of (str, str)
        SOP Instance UID and identity (`Instance.identity`) of every image in scope, in any order.

    Returns
    -------
    str
        SHA-256, hexadecimal.
    """
    # A UID holds digits and dots, a digest hexadecimal digits: the separators cannot occur in either.
    text = "\n".join(sorted(f"{uid} {digest}" for uid, digest in images))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


CAME_BACK = "bonewatch made it; it came back from the PACS"
"""Why a report or a picture of ours, sent to us with its study, is not analysed: whatever the site's rule says."""

NO_IMAGES = study_digest(())
"""The digest of a study without one image in scope."""


def is_ours(session: Session, sop_instance_uid: str) -> bool:
    """Say whether we sent this object, in the form it was sent: a report, its fallback class, a picture beside it."""
    return bool(session.scalar(select(exists().where(Delivery.sop_instance_uid == sop_instance_uid))))


def images_of_digest(images: Sequence[Instance], digest: str) -> tuple[Instance, ...] | None:
    """Return those instances in scope that a job was planned for, or None where they are no longer what they were.

    Instances are added, and replaced by corrected ones, which have another identity. The ones a job means are therefore
    the first n in order of arrival, for the n that gives its digest: an image that came after the job was made belongs
    to the next job.
    """
    ordered = sorted(images, key=lambda instance: instance.id)
    for count in range(len(ordered), -1, -1):
        chosen = ordered[:count]
        if study_digest((each.sop_instance_uid, each.identity) for each in chosen) == digest:
            return tuple(chosen)
    return None


@dataclass(frozen=True, slots=True)
class Models:
    """The model that answers, and the one that runs in shadow, if any."""

    current: str
    shadow: str | None = None


def close_quiet_studies(
    database: Database, models: Models, *, quiet_seconds: float, now: datetime, limit: int
) -> tuple[int, ...]:
    """Close the studies that have been quiet for long enough, and make a job of each whose contents are new.

    Every study is closed in a transaction of its own, on condition that it is still quiet in it: an image that
    arrives meanwhile keeps its study open. One whose images name different patients waits for a decision instead
    (`worker.study.patients`). Where a model runs in shadow, a study that was pushed gets a job of it too.

    Returns
    -------
    tuple of int
        The new jobs that will answer.
    """
    cutoff = now - timedelta(seconds=quiet_seconds)
    with database.read() as session:
        quiet = session.scalars(
            select(Study.id).where(_is_quiet(cutoff)).order_by(Study.last_instance_at).limit(limit)
        ).all()
    made = (_close(database, study_id, models, cutoff, now) for study_id in quiet)
    return tuple(job_id for job_id in made if job_id is not None)


def _is_quiet(cutoff: datetime) -> ColumnElement[bool]:
    """Return the condition on a study that it can be closed; one that is just being retrieved is not whole yet."""
    retrieved_now = exists().where(
        ReanalysisItem.study_instance_uid == Study.study_instance_uid, ReanalysisItem.state == "retrieving"
    )
    return and_(
        Study.state == "receiving",
        Study.last_instance_at <= cutoff,
        or_(Study.source.in_(LIVE_SOURCES), ~retrieved_now),
    )


def _close(database: Database, study_id: int, models: Models, cutoff: datetime, now: datetime) -> int | None:
    with database.write() as session:
        closed = changed_rows(
            session,
            update(Study)
            .where(Study.id == study_id, _is_quiet(cutoff))
            .values(state="complete", completed_at=now, revision=Study.revision + 1),
        )
        if closed == 0:
            return None
        record(session, "completed", now, study_id=study_id)
        study = session.get_one(Study, study_id)
        standing = hold_or_release(session, study, now)
        if standing is Standing.HELD:
            return None
        digest = current_digest(session, study_id)
        if _is_answered(session, study_id, digest, models.current, released=standing is Standing.RELEASED):
            return None
        lane = "live" if study.source in LIVE_SOURCES else "archive"
        job_id = add_job(session, study_id, digest=digest, model_version=models.current, lane=lane, now=now)
        if lane == "live" and digest != NO_IMAGES:
            _add_shadow(session, study_id, digest, models, now)
        return job_id


def _is_answered(session: Session, study_id: int, digest: str, model_version: str, *, released: bool) -> bool:
    """Say whether a study needs no job: its latest one is of these contents, and this model has one of them.

    Contents may be as they once were, where an image that came later is not analysed any more. A job that failed while
    the study waited for a decision, perhaps for that reason, is no answer once it is released.
    """
    latest = select(Job).where(Job.study_id == study_id, Job.purpose == ANSWER).order_by(Job.id.desc()).limit(1)
    job = session.scalars(latest).one_or_none()
    if job is None or job.digest != digest or (released and job.outcome == "failed"):
        return False
    return bool(session.scalar(select(_is_known(study_id, digest, model_version, ANSWER))))


def _is_known(study_id: int, digest: str, model_version: str, purpose: str) -> ColumnElement[bool]:
    same = (Job.study_id == study_id, Job.digest == digest, Job.model_version == model_version)
    return exists().where(*same, Job.purpose == purpose)


def _add_shadow(session: Session, study_id: int, digest: str, models: Models, now: datetime) -> None:
    version = models.shadow
    if version is None or session.scalar(select(_is_known(study_id, digest, version, SHADOW))):
        return
    job = Job(
        study_id=study_id,
        digest=digest,
        model_version=version,
        lane="archive",
        purpose=SHADOW,
        revision=SHADOW_REVISION,
        created_at=now,
    )
    session.add(job)
    session.flush()
    record(session, "shadow", now, study_id=study_id, job_id=job.id)


def current_digest(session: Session, study_id: int) -> str:
    """Return the digest of all images in scope that the study has now."""
    rows = session.execute(
        select(Instance.sop_instance_uid, IDENTITY).where(
            Instance.study_id == study_id, Instance.out_of_scope_reason.is_(None)
        )
    )
    return study_digest((uid, digest) for uid, digest in rows)


def add_job(
    session: Session, study_id: int, *, digest: str, model_version: str, lane: str, now: datetime, kind: str = "queued"
) -> int:
    """Add a queued job with the next revision of its identity, and the event that says so; return its key."""
    in_scope = (Instance.study_id == study_id, Instance.out_of_scope_reason.is_(None))
    job = Job(
        study_id=study_id,
        digest=digest,
        model_version=model_version,
        lane=lane,
        last_image_at=session.scalar(select(func.max(Instance.received_at, type_=UtcDateTime())).where(*in_scope)),
        revision=_last_revision(session, study_id, digest, model_version) + 1,
        created_at=now,
    )
    session.add(job)
    session.flush()
    record(session, kind, now, study_id=study_id, job_id=job.id, lane=lane, revision=job.revision)
    return job.id


def replan(database: Database, *, model_version: str, now: datetime, limit: int) -> int:
    """Give the jobs that wait for a model that is no longer installed to the one that is; return how many.

    Such a job has no result yet, so nothing of record changes. One that another worker, still with the old model,
    claims meanwhile is left alone.
    """
    waiting = and_(Job.state == "queued", Job.purpose == ANSWER, Job.model_version != model_version)
    with database.read() as session:
        found = session.execute(select(Job.id, Job.study_id).where(waiting).order_by(Job.id).limit(limit)).all()
    made = 0
    for job_id, study_id in found:
        with database.write() as session:
            # The study before the job, as in a claim: the other way round the two would wait for each other.
            session.execute(select(Study.id).where(Study.id == study_id).with_for_update())
            job = session.scalars(select(Job).where(Job.id == job_id, waiting).with_for_update()).one_or_none()
            if job is not None:
                _replan(session, job, model_version, now)
                made += 1
    return made


def _replan(session: Session, job: Job, model_version: str, now: datetime) -> None:
    before, revision = job.model_version, _last_revision(session, job.study_id, job.digest, model_version) + 1
    job.model_version, job.revision, job.next_attempt_at = model_version, revision, None
    record(session, "replanned", now, study_id=job.study_id, job_id=job.id, before=before, after=model_version)


def end_shadows(database: Database, *, shadow: str | None, now: datetime, limit: int) -> int:
    """Give up the jobs that wait for a model that runs in shadow no longer; return how many."""
    waiting = and_(Job.state == "queued", Job.purpose == SHADOW, Job.model_version != (shadow or ""))
    with database.read() as session:
        found = session.execute(
            select(Job.id, Job.study_id, Job.model_version).where(waiting).order_by(Job.id).limit(limit)
        ).all()
    ended = 0
    for job_id, study_id, version in found:
        reason = f"model {version} runs in shadow no longer"
        values = {"state": "failed", "outcome": "failed", "reason": reason, "finished_at": now}
        with database.write() as session:
            if changed_rows(session, update(Job).where(Job.id == job_id, waiting).values(values)):
                record(session, "failed", now, study_id=study_id, job_id=job_id, attempt=0, reason=reason)
                ended += 1
    return ended


def _last_revision(session: Session, study_id: int, digest: str, model_version: str) -> int:
    same = select(func.max(Job.revision)).where(
        Job.study_id == study_id, Job.digest == digest, Job.model_version == model_version
    )
    return session.scalar(same) or 0
