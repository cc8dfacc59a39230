"""The life of a job: queued -> running -> done or failed, each step one conditional UPDATE whose row count decides.

    queued   waits for a worker; `next_attempt_at` may hold it back, `reason` then says why
    running  belongs to the holder of `lease_token` until `lease_until`
    done     has an outcome and its results; never changed again
    failed   given up, with the reason; never changed again (a retry is a new row)

The queue's messages only say where to look. Lost, doubled or late ones do no harm, because none of them owns a job:
the claim does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, func, literal, select, update
from sqlalchemy.orm import Session

from dicom_io.types import Outcome
from worker.db.database import Database, changed_rows
from worker.db.events import record
from worker.db.leases import FREE, Lease
from worker.db.tables import Job, Study
from worker.errors import LeaseLost
from worker.study.backoff import delay_seconds
from worker.study.job_conditions import is_due, waits_for_another, waits_in
from worker.study.outcomes import shortened

CRASHED = "the worker was lost while it analysed this study (killed, out of memory, or restarted)"
MAXIMUM_ATTEMPTS = 3
"""A job whose worker died so often, or that met an unexpected error so often, is failed."""
CLAIM_TRIES = 5
"""How often a claim looks again where another transaction was faster; the next chunk looks anyway."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that is ours for as long as its lease is.

    `started_at` is when the job was first claimed; it stays when a crash makes somebody start over, so that the
    report built then is the same to the byte.
    """

    job_id: int
    study_id: int
    lease: Lease
    attempts: int
    started_at: datetime


def claim(database: Database, job_id: int, *, worker: str, lease_seconds: float, now: datetime) -> Claim | None:
    """Take a job, if it is still to be had.

    It is not while another job of the same study runs, or while an older one of the same lane waits: reports of one
    study follow each other in order, and each names the one before it.

    Returns
    -------
    Claim or None
        None where somebody else was first, the job is finished, held back, or unknown.
    """
    with database.write() as session:
        # On PostgreSQL two claims for one study must wait for each other here; SQLite has one writer anyway.
        of_job = select(Job.study_id).where(Job.id == job_id).scalar_subquery()
        session.execute(select(Study.id).where(Study.id == of_job).with_for_update())
        return _claim(session, job_id, worker, lease_seconds, now)


def claim_next(
    database: Database, lane: str, *, worker: str, lease_seconds: float, now: datetime, shadow: str | None = None
) -> Claim | None:
    """Take the oldest answer of a lane that is to be had, on the terms of `claim`.

    With `shadow`, a model version, take the oldest of its jobs in shadow instead, of studies that have their answer.

    On PostgreSQL a job whose study somebody else has locked is passed over, so that workers do not queue up for it.

    Returns
    -------
    Claim or None
        None where nothing of the lane is to be had now.
    """
    with database.write() as session:
        for _ in range(CLAIM_TRIES):
            # The study before the job, as everywhere: the other way round two transactions would wait for each other.
            job_id = session.scalar(
                select(Job.id)
                .join(Study, Study.id == Job.study_id)
                .where(waits_in(lane, shadow), is_due(now), ~waits_for_another())
                .order_by(Job.id)
                .limit(1)
                .with_for_update(of=Study, skip_locked=True)
            )
            if job_id is None:
                return None
            held = _claim(session, job_id, worker, lease_seconds, now)
            if held is not None:
                return held
    return None


def due_jobs(database: Database, lane: str, *, now: datetime, limit: int, shadow: str | None = None) -> tuple[int, ...]:
    """Return the oldest answers of a lane that nothing holds back, so many at most; or jobs of a model in `shadow`."""
    with database.read() as session:
        due = select(Job.id).where(waits_in(lane, shadow), is_due(now))
        return tuple(session.scalars(due.order_by(Job.id).limit(limit)))


def _claim(session: Session, job_id: int, worker: str, lease_seconds: float, now: datetime) -> Claim | None:
    lease = _lease(job_id, lease_seconds)
    changed = changed_rows(
        session,
        update(Job)
        .where(Job.id == job_id, Job.state == "queued", is_due(now), ~waits_for_another())
        .values(
            state="running",
            claimed_by=worker[:128],
            attempts=Job.attempts + 1,
            started_at=_first_start(now),
            next_attempt_at=None,
            **lease.taken(now),
        ),
    )
    if changed == 0:
        return None
    job = session.get_one(Job, job_id, populate_existing=True)
    record(session, "claimed", now, study_id=job.study_id, job_id=job_id, worker=worker, attempt=job.attempts)
    if job.started_at is None:
        raise LeaseLost("a claimed job has no start")
    return Claim(job_id, job.study_id, lease, job.attempts, job.started_at)


def _lease(job_id: int, seconds: float, **token: str) -> Lease:
    return Lease(Job, job_id, f"job {job_id}", seconds, **token)


def put_back(database: Database, held: Claim, *, reason: str, now: datetime, wait_seconds: float) -> bool:
    """Give a job back although nothing is wrong with its study: the attempt is not counted, the start forgotten.

    Returns
    -------
    bool
        False where the job was no longer ours.
    """
    with database.write() as session:
        changed = changed_rows(
            session,
            update(Job)
            .where(holds(held))
            .values(
                _waiting(now, wait_seconds)
                | {"attempts": Job.attempts - 1, "started_at": None, "reason": shortened(reason)}
            ),
        )
        if changed:
            _record(session, "put_back", held, now, reason)
        return changed == 1


def postpone(database: Database, job_id: int, *, reason: str, now: datetime, wait_seconds: float) -> bool:
    """Hold a job back that nobody has claimed, because this worker cannot analyse anything."""
    with database.write() as session:
        return (
            changed_rows(
                session,
                update(Job)
                .where(Job.id == job_id, Job.state == "queued")
                .values(_waiting(now, wait_seconds) | {"reason": shortened(reason)}),
            )
            == 1
        )


def fail_attempt(
    database: Database, held: Claim, *, reason: str, now: datetime, maximum_attempts: int, final: bool = False
) -> bool:
    """Count an attempt that went wrong: try again after a pause, or give the job up.

    Parameters
    ----------
    reason : str
        In words, free of patient data.
    final : bool
        Whether trying again cannot help.

    Returns
    -------
    bool
        False where the job was no longer ours.
    """
    with database.write() as session:
        if final or held.attempts >= maximum_attempts:
            return _give_up(session, holds(held), held, reason, now)
        changed = changed_rows(
            session,
            update(Job)
            .where(holds(held))
            .values(_waiting(now, delay_seconds(held.attempts)) | {"reason": shortened(reason)}),
        )
        if changed:
            _record(session, "requeued", held, now, reason)
        return changed == 1


def release_expired(database: Database, *, maximum_attempts: int, now: datetime, limit: int) -> tuple[int, ...]:
    """Take back the jobs whose workers have not renewed their lease: into the queue, or given up after too many.

    Returns
    -------
    tuple of int
        The jobs that were taken back.
    """
    expired = and_(Job.state == "running", Job.lease_until < now)
    with database.write() as session:
        rows = session.scalars(select(Job).where(expired).order_by(Job.lease_until).limit(limit)).all()
        held = [_claim_of(job, now) for job in rows]
        return tuple(each.job_id for each in held if _release(session, each, expired, maximum_attempts, now))


def _claim_of(job: Job, now: datetime) -> Claim:
    lease = _lease(job.id, 0.0, token=job.lease_token or "")
    return Claim(job.id, job.study_id, lease, job.attempts, job.started_at or now)


def _release(session: Session, held: Claim, expired: ColumnElement[bool], maximum_attempts: int, now: datetime) -> bool:
    # The token is compared again: on PostgreSQL the worker may have renewed or finished since the row was read.
    condition = and_(expired, holds(held))
    if held.attempts >= maximum_attempts:
        return _give_up(session, condition, held, f"given up after {held.attempts} attempts: {CRASHED}", now)
    changed = changed_rows(session, update(Job).where(condition).values(_waiting(now, 0.0) | {"reason": CRASHED}))
    if changed:
        _record(session, "requeued", held, now, CRASHED)
    return changed == 1


def holds(held: Claim) -> ColumnElement[bool]:
    """Return the condition that the job still belongs to this claim."""
    return and_(Job.state == "running", held.lease.is_ours)


def _first_start(now: datetime) -> ColumnElement[datetime]:
    return func.coalesce(Job.started_at, literal(now, Job.started_at.type))


def _waiting(now: datetime, wait_seconds: float) -> dict[str, object]:
    due = now + timedelta(seconds=wait_seconds) if wait_seconds > 0 else None
    return {
        "state": "queued",
        "claimed_by": None,
        "enqueued_at": None,
        "next_attempt_at": due,
        **FREE,
    }


def _give_up(session: Session, condition: ColumnElement[bool], held: Claim, reason: str, now: datetime) -> bool:
    changed = changed_rows(
        session,
        update(Job)
        .where(condition)
        .values(
            state="failed",
            outcome=Outcome.FAILED,
            reason=shortened(reason),
            finished_at=now,
            **FREE,
        ),
    )
    if changed:
        _record(session, "failed", held, now, reason)
    return changed == 1


def _record(session: Session, kind: str, held: Claim, now: datetime, reason: str) -> None:
    record(session, kind, now, study_id=held.study_id, job_id=held.job_id, attempt=held.attempts, reason=reason)
