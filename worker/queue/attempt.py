"""One attempt at a claimed job: analyse it under a heartbeat, and put into SQL what went wrong, if something did."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path

import structlog

from dicom_io.errors import StoreError
from models.types import ModelError
from worker.db.leases import Heartbeat
from worker.db.tables import utc_now
from worker.errors import DatabaseError, EnvironmentUnfit, LeaseLost, QueueUnavailable
from worker.queue.bootstrap import Runtime
from worker.study import jobs
from worker.study.jobs import Claim
from worker.study.pipeline import Collaborators, analyse_study

log = structlog.get_logger(__name__)

UNFIT_WAIT_SECONDS = 10.0
"""How long a job waits that came to a worker which cannot analyse anything: others may, and this one may be mended."""


def worker_name() -> str:
    """Return what `jobs.claimed_by` says: the machine and the process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def attempt(
    held: Claim, parts: Collaborators, runtime: Runtime, between_images: Callable[[], None] | None = None
) -> None:
    """Do a claimed job; nothing escapes but what ends the process.

    1. Analyse under a heartbeat.
    2. Put into SQL what went wrong: the environment's fault gives the job back as it was, any other fault counts as an
       attempt.
    3. Say that deliveries are due; if the broker does not hear it, the sweep says it again.

    Parameters
    ----------
    between_images : callable, optional
        Called after every image.
    """
    with structlog.contextvars.bound_contextvars(job_id=held.job_id):
        _announce(_guarded(held, parts, runtime, between_images), runtime)


def _guarded(
    held: Claim, parts: Collaborators, runtime: Runtime, between_images: Callable[[], None] | None
) -> tuple[int, ...]:
    heartbeat = Heartbeat(parts.database, held.lease, utc_now)

    def check() -> None:
        if between_images is not None:
            between_images()
        heartbeat.check()

    try:
        with heartbeat:
            return analyse_study(held, parts, check)
    except LeaseLost as error:
        log.warning("lease_lost", reason=str(error))
    except (EnvironmentUnfit, ModelError, StoreError, DatabaseError) as error:
        log.warning("job_returned", reason=str(error))
        _put_back(held, parts, str(error))
    except Exception as error:  # noqa: BLE001 - the process edge: one study must not end the worker
        log.error("attempt_failed", error=type(error).__name__, where=_where(error))  # noqa: TRY400
        # The name alone: messages and traces of foreign errors may quote a header.
        _fail_attempt(held, parts, f"unexpected error ({type(error).__name__})")
    return ()


def _put_back(held: Claim, parts: Collaborators, reason: str) -> None:
    try:
        jobs.put_back(parts.database, held, reason=reason, now=parts.clock(), wait_seconds=UNFIT_WAIT_SECONDS)
    except DatabaseError as error:
        _log_unrecorded_failure(error)


def _fail_attempt(held: Claim, parts: Collaborators, reason: str) -> None:
    try:
        most = jobs.MAXIMUM_ATTEMPTS
        jobs.fail_attempt(parts.database, held, reason=reason, now=parts.clock(), maximum_attempts=most)
    except DatabaseError as error:
        _log_unrecorded_failure(error)


def _log_unrecorded_failure(error: DatabaseError) -> None:
    # The lease runs out, and the sweep finds the job.
    log.warning("failure_not_recorded", reason=str(error))


def _announce(deliveries: tuple[int, ...], runtime: Runtime) -> None:
    try:
        for delivery_id in deliveries:
            runtime.queue.send_delivery(delivery_id)
    except QueueUnavailable as error:
        log.info("delivery_messages_left_to_sweep", reason=str(error))


def _where(error: BaseException) -> str:
    """Return file and line of where an error was raised, which is all of a trace that cannot quote data."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
