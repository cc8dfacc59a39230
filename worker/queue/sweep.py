"""What is done every few seconds so that nothing is ever stuck.

Each step reads a bounded page and changes rows in short transactions, on conditions that only one of two sweeps can
meet; two sweeps at once therefore do each thing once, and a message sent twice finds nothing to claim. A step that
fails is logged and does not keep the others from running: the next sweep tries again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from models.types import ModelError
from worker.db.database import Database, changed_rows
from worker.db.tables import Job
from worker.delivery import states as delivery_states
from worker.queue.chunk_rule import CHUNK_STUDIES
from worker.study import jobs, studies
from worker.study.job_conditions import is_due
from worker.study.queues import ARCHIVE, CONTROL, LIVE, Queue

MOST_CHUNKS = 64
"""Messages that wait in the archive queue at the most."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SweepRule:
    """How patient a sweep is (seconds), and how much it takes on at once."""

    quiet_seconds: float = 30.0
    requeue_seconds: float = 10.0
    maximum_attempts: int = jobs.MAXIMUM_ATTEMPTS
    page: int = 200
    chunk: int = CHUNK_STUDIES


@dataclass(frozen=True, slots=True)
class SweepCollaborators:
    """What a sweep works with.

    `model_version` reads the version of the bundle that is installed now, `shadow_version` of the one in shadow, None
    where there is none; `recover_files` takes in received files that have no row.
    """

    database: Database
    queue: Queue
    model_version: Callable[[], str]
    rule: SweepRule
    clock: Callable[[], datetime]
    shadow_version: Callable[[], str | None] = lambda: None
    recover_files: Callable[[], int] = lambda: 0


def sweep(parts: SweepCollaborators) -> dict[str, int]:
    """Do every step once; return how many rows or messages each was about, -1 for a step that failed.

    1. Give back the jobs and deliveries whose worker was lost.
    2. Close quiet studies and make their jobs.
    3. Give jobs that wait for a model no longer installed to the one that is; give up those of a model no longer in
       shadow.
    4. Send the messages of jobs that have none in the queue.
    5. Send the messages of deliveries that are due.
    6. Register received files that have no row.
    """
    steps: dict[str, Callable[[SweepCollaborators], int]] = {
        "jobs_released": _release_jobs,
        "deliveries_released": _release_deliveries,
        "studies_closed": _close_studies,
        "jobs_replanned": _replan,
        "shadows_ended": _end_shadows,
        "jobs_sent": _send_jobs,
        "deliveries_sent": _send_deliveries,
        "files_recovered": _recover_files,
    }
    counts = {name: _guarded(name, step, parts) for name, step in steps.items()}
    if any(counts.values()):
        log.info("sweep", **{name: count for name, count in counts.items() if count})
    return counts


def _guarded(name: str, step: Callable[[SweepCollaborators], int], parts: SweepCollaborators) -> int:
    try:
        return step(parts)
    except Exception as error:  # noqa: BLE001 - a process edge: one step that cannot run must not stop the others
        # No trace: the database's messages carry the parameters of the statement.
        log.error("sweep_step_failed", step=name, error=type(error).__name__, reason=_words(error))  # noqa: TRY400
        return -1


def _words(error: Exception) -> str | None:
    # Only errors of our own trees have words that are known to hold no patient data.
    return str(error) if hasattr(error, "code") or type(error).__module__.startswith("models.") else None


def _recover_files(parts: SweepCollaborators) -> int:
    return parts.recover_files()


def _release_jobs(parts: SweepCollaborators) -> int:
    rule = parts.rule
    taken = jobs.release_expired(
        parts.database, maximum_attempts=rule.maximum_attempts, now=parts.clock(), limit=rule.page
    )
    return len(taken)


def _release_deliveries(parts: SweepCollaborators) -> int:
    return delivery_states.release_expired(parts.database, now=parts.clock(), limit=parts.rule.page)


def _close_studies(parts: SweepCollaborators) -> int:
    made = studies.close_quiet_studies(
        parts.database,
        studies.Models(parts.model_version(), _readable_shadow(parts)),
        quiet_seconds=parts.rule.quiet_seconds,
        now=parts.clock(),
        limit=parts.rule.page,
    )
    return len(made)


def _replan(parts: SweepCollaborators) -> int:
    return studies.replan(parts.database, model_version=parts.model_version(), now=parts.clock(), limit=parts.rule.page)


def _end_shadows(parts: SweepCollaborators) -> int:
    shadow = parts.shadow_version()
    return studies.end_shadows(parts.database, shadow=shadow, now=parts.clock(), limit=parts.rule.page)


def _readable_shadow(parts: SweepCollaborators) -> str | None:
    """Return the model in shadow; one that cannot be read must not keep today's studies open."""
    try:
        return parts.shadow_version()
    except ModelError as error:
        log.warning("shadow_bundle_unusable", reason=str(error))
        return None


def _send_jobs(parts: SweepCollaborators) -> int:
    return _send_live(parts) + _send_chunks(parts)


def _send_chunks(parts: SweepCollaborators) -> int:
    """Send as many messages to the archive queue as it lacks for the archive jobs that wait.

    Such a message names no job: whoever hears it claims a chunk of what is due. A backlog of a million jobs needs no
    more of them than the workers can take until the next sweep.
    """
    most = MOST_CHUNKS * parts.rule.chunk
    now, shadow = parts.clock(), _readable_shadow(parts)
    due = len(jobs.due_jobs(parts.database, ARCHIVE, now=now, limit=most))
    if shadow is not None:
        due += len(jobs.due_jobs(parts.database, ARCHIVE, now=now, limit=most - due, shadow=shadow))
    if not due:
        return 0
    missing = max(math.ceil(due / parts.rule.chunk) - parts.queue.waiting(ARCHIVE), 0)
    for _ in range(missing):
        parts.queue.send_chunk()
    return missing


def _send_live(parts: SweepCollaborators) -> int:
    """Send the messages that the live lane lacks.

    A job that was never sent is sent. Of those sent a while ago and still waiting, as many are sent again as there
    are more of them than messages in the queue, oldest first: a wiped broker is filled again, and a long queue is
    not flooded with doubles.
    """
    now = parts.clock()
    with parts.database.read() as session:
        due = select(Job.id).where(Job.state == "queued", Job.lane == LIVE, is_due(now))
        unsent = session.scalars(due.where(Job.enqueued_at.is_(None)).order_by(Job.id).limit(parts.rule.page)).all()
        stale = due.where(Job.enqueued_at <= now - timedelta(seconds=parts.rule.requeue_seconds))
        waiting = session.scalar(select(func.count()).select_from(stale.subquery())) or 0
    sent = _send_and_note(parts, unsent, now)
    missing = waiting - parts.queue.waiting(LIVE) if waiting else 0
    if missing <= 0:
        return sent
    with parts.database.read() as session:
        oldest = session.scalars(stale.order_by(Job.enqueued_at, Job.id).limit(min(missing, parts.rule.page))).all()
    return sent + _send_and_note(parts, oldest, now)


def _send_and_note(parts: SweepCollaborators, job_ids: Sequence[int], now: datetime) -> int:
    # Sent first, noted afterwards: a broker that is down leaves the job unsent, and a crash in between only doubles
    # a message. A worker may have claimed the job already; the note is then only a time.
    sent = []
    try:
        for job_id in job_ids:
            parts.queue.send_job(job_id, LIVE)
            sent.append(job_id)
    finally:
        if sent:
            with parts.database.write() as session:
                _note_sent(session, sent, now)
    return len(sent)


def _note_sent(session: Session, job_ids: list[int], now: datetime) -> None:
    changed_rows(
        session,
        update(Job)
        .where(Job.id.in_(job_ids), Job.state == "queued", or_(Job.enqueued_at.is_(None), Job.enqueued_at < now))
        .values(enqueued_at=now)
        .execution_options(synchronize_session=False),
    )


def _send_deliveries(parts: SweepCollaborators) -> int:
    """Send a message for deliveries that are due, unless the control queue holds as many messages already."""
    due = delivery_states.due(parts.database, now=parts.clock(), limit=parts.rule.page)
    if not due:
        return 0
    room = max(parts.rule.page - parts.queue.waiting(CONTROL), 0)
    for delivery_id in due[:room]:
        parts.queue.send_delivery(delivery_id)
    return len(due[:room])
