"""How things stand: for `bonewatch status`, whether or not the broker answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import ColumnElement, and_, exists, func, select, text
from sqlalchemy.orm import InstrumentedAttribute, Session

from worker.db.database import Database
from worker.db.tables import (
    ANSWER,
    OBJECT_NAMES,
    SHADOW,
    UNBUILT,
    Companion,
    Delivery,
    Job,
    Rejection,
    Report,
    Study,
    UtcDateTime,
    utc_now,
)
from worker.delivery.claim import report_id
from worker.errors import QueueUnavailable
from worker.queue.presence import SchedulerSeen, present
from worker.reanalysis.estimate import RunProgress, progress
from worker.study.job_conditions import latest_answer

FAILURES_SHOWN = 20
HELD_SHOWN = 20
UNFINISHED = ("queued", "running")
UNCOMMITTED = ("pending", "sending", "sent", "failed")


class QueueLengths(Protocol):
    """Something that knows how many messages wait (`worker.study.queues.CeleryQueue`)."""

    def lengths(self) -> Mapping[str, int]:
        """Return how many messages wait in each queue; raises QueueUnavailable."""


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that a worker holds now."""

    job_id: int
    study_instance_uid: str
    claimed_by: str | None
    attempts: int
    started_at: datetime | None
    lease_until: datetime | None


@dataclass(frozen=True, slots=True)
class RecentWorker:
    """A worker that finished something in the last hour."""

    name: str
    finished: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that failed for good: `kind` is analysis, report or delivery."""

    study_instance_uid: str
    kind: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class HeldStudy:
    """A study that waits for a decision: since when, why, and whether a PACS may hold an earlier report of it."""

    study_instance_uid: str
    accession_number: str | None
    reason: str
    since: datetime | None
    reported: bool


@dataclass(frozen=True, slots=True)
class Status:
    """A picture of one moment. `queues` is None where the broker does not answer; `broker_error` then says why.

    `jobs` and `deliveries` count what is unfinished, failed deliveries among it, and what was finished in the last 24
    hours; `outcomes` the studies answered in them. Counting all answers would read years of them. `jobs` are those that
    answer, `shadows` those of a model in shadow.
    """

    queues: Mapping[str, int] | None
    broker_error: str | None
    receiving: int
    jobs: Mapping[str, int]
    shadows: Mapping[str, int]
    outcomes: Mapping[str, int]
    deliveries: Mapping[str, int]
    running: tuple[RunningJob, ...]
    waiting_with_reason: tuple[tuple[str, int], ...]
    deliveries_waiting_with_reason: tuple[tuple[str, int], ...]
    failures: tuple[Failure, ...]
    rejections_24h: int
    oldest_queued_at: datetime | None
    reanalysis: tuple[RunProgress, ...] = ()
    schedulers: tuple[SchedulerSeen, ...] = ()
    held: int = 0
    held_studies: tuple[HeldStudy, ...] = ()


def snapshot(database: Database, queue: QueueLengths, now: datetime | None = None) -> Status:
    """Return how things stand. Outcomes and failures are those of each study's latest job."""
    at = now or utc_now()
    queues: Mapping[str, int] | None = None
    broker_error: str | None = None
    try:
        queues = queue.lengths()
    except QueueUnavailable as error:
        broker_error = str(error)
    reanalysis = tuple(run for run in progress(database) if run.finished_at is None)
    schedulers = present(database)
    with database.read() as session:
        latest = latest_answer()
        waiting = and_(Job.state == "queued", Job.purpose == ANSWER)
        day = at - timedelta(days=1)
        return Status(
            queues=queues,
            broker_error=broker_error,
            receiving=_count(session, Study.id, Study.state == "receiving"),
            jobs=_jobs(session, ANSWER, day),
            shadows=_jobs(session, SHADOW, day),
            outcomes=_by(session, Job.outcome, latest, Job.outcome.is_not(None), Job.finished_at >= day),
            deliveries=_by(session, Delivery.state, Delivery.state.in_(UNCOMMITTED))
            | _by(session, Delivery.state, Delivery.committed_at >= day),
            running=_running(session),
            waiting_with_reason=_reasons(session, Job.reason, Job.state == "queued"),
            deliveries_waiting_with_reason=_reasons(session, Delivery.reason, Delivery.state.in_(("pending", "sent"))),
            failures=_failures(session, latest),
            rejections_24h=_count(session, Rejection.id, Rejection.at >= day),
            oldest_queued_at=session.scalar(select(func.min(Job.created_at)).where(waiting)),
            reanalysis=reanalysis,
            schedulers=schedulers,
            held=_count(session, Study.id, Study.held_reason.is_not(None)),
            held_studies=_held(session),
        )


def recent_workers(database: Database, now: datetime | None = None) -> tuple[RecentWorker, ...]:
    """Return who finished a job in the last hour, by name."""
    since = (now or utc_now()) - timedelta(hours=1)
    last = func.max(Job.finished_at, type_=UtcDateTime())
    recent = select(Job.claimed_by, func.count(), last).where(Job.finished_at >= since, Job.claimed_by.is_not(None))
    with database.read() as session:
        rows = session.execute(recent.group_by(Job.claimed_by).order_by(Job.claimed_by).limit(100))
        return tuple(RecentWorker(str(name), count, at) for name, count, at in rows if at is not None)


def _jobs(session: Session, purpose: str, day: datetime) -> dict[str, int]:
    is_meant = Job.purpose == purpose
    unfinished = _by(session, Job.state, is_meant, Job.state.in_(UNFINISHED))
    return unfinished | _by(session, Job.state, is_meant, Job.finished_at >= day)


def _count(session: Session, key: InstrumentedAttribute[int], condition: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count(key)).where(condition)) or 0


def _by(
    session: Session,
    column: InstrumentedAttribute[str] | InstrumentedAttribute[str | None],
    *where: ColumnElement[bool],
) -> dict[str, int]:
    rows = session.execute(select(column, func.count()).where(*where).group_by(column).order_by(column))
    return {str(word): count for word, count in rows}


def _reasons(
    session: Session, column: InstrumentedAttribute[str | None], condition: ColumnElement[bool]
) -> tuple[tuple[str, int], ...]:
    count = func.count()
    rows = session.execute(
        select(column, count).where(condition, column.is_not(None)).group_by(column).order_by(count.desc()).limit(10)
    )
    return tuple((str(reason), number) for reason, number in rows)


def _held(session: Session) -> tuple[HeldStudy, ...]:
    reported = exists().where(Job.study_id == Study.id, Report.job_id == Job.id, Report.state == "built")
    rows = session.execute(
        select(Study, reported).where(Study.held_reason.is_not(None)).order_by(Study.id.desc()).limit(HELD_SHOWN)
    )
    return tuple(
        HeldStudy(study.study_instance_uid, study.accession_number, study.held_reason or "", study.completed_at, told)
        for study, told in rows
    )


def _running(session: Session) -> tuple[RunningJob, ...]:
    rows = session.execute(
        select(Job, Study.study_instance_uid).join(Job.study).where(Job.state == "running").order_by(Job.started_at)
    )
    return tuple(
        RunningJob(job.id, uid, job.claimed_by, job.attempts, job.started_at, job.lease_until) for job, uid in rows
    )


def _failures(session: Session, latest: ColumnElement[bool]) -> tuple[Failure, ...]:
    of_job = select(Job, Study.study_instance_uid).join(Job.study)
    analyses = session.execute(
        of_job.where(latest, Job.outcome == "failed").order_by(Job.finished_at.desc()).limit(FAILURES_SHOWN)
    )
    found = [
        Failure(uid, "analysis", job.reason or "", job.finished_at)
        for job, uid in analyses
        if job.finished_at is not None
    ]
    of_report = select(Report, Study.study_instance_uid).join(Report.job).join(Job.study)
    reports = session.execute(
        of_report.where(latest, text(f"reports.{UNBUILT}")).order_by(Report.id.desc()).limit(FAILURES_SHOWN)
    )
    found += [Failure(uid, "report", report.reason or "", report.built_at) for report, uid in reports]
    of_companion = (
        select(Companion, Report.built_at, Study.study_instance_uid)
        .select_from(Companion)
        .join(Companion.report)
        .join(Report.job)
    )
    pictures = session.execute(
        of_companion.join(Job.study)
        .where(latest, Companion.state == "failed")
        .order_by(Companion.id.desc())
        .limit(FAILURES_SHOWN)
    )
    found += [Failure(uid, OBJECT_NAMES[each.kind], each.reason or "", built_at) for each, built_at, uid in pictures]
    return _newest([*found, *_failed_deliveries(session, latest)])


def _failed_deliveries(session: Session, latest: ColumnElement[bool]) -> list[Failure]:
    deliveries = session.execute(
        select(Delivery, Report.built_at, Study.study_instance_uid)
        .select_from(Delivery)
        .join(Report, Report.id == report_id())
        .join(Report.job)
        .join(Job.study)
        .where(latest, Delivery.state == "failed")
        .order_by(Delivery.id.desc())
        .limit(FAILURES_SHOWN)
    )
    return [
        Failure(
            uid,
            "delivery" if delivery.companion is None else f"delivery of {OBJECT_NAMES[delivery.companion.kind]}",
            f"{delivery.destination}: {delivery.reason or ''}",
            delivery.sent_at or built_at,
        )
        for delivery, built_at, uid in deliveries
    ]


def _newest(found: list[Failure]) -> tuple[Failure, ...]:
    return tuple(sorted(found, key=lambda failure: failure.at, reverse=True)[:FAILURES_SHOWN])
