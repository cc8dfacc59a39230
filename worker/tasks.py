"""What a message starts. Each function here is a process edge: nothing escapes it, SQL says what happened."""

from __future__ import annotations

import os
import socket
import traceback
from pathlib import Path

import structlog
from celery import Celery

from dicom_io.errors import StoreError
from models.types import ModelError
from worker import delivery, jobs
from worker.bootstrap import Runtime
from worker.errors import DatabaseError, EnvironmentUnfit, LeaseLost, QueueUnavailable
from worker.jobs import Claim
from worker.lease import Heartbeat
from worker.pipeline import Collaborators, analyse_study
from worker.queues import ANALYZE, DELIVER, SWEEP
from worker.sweep import sweep
from worker.tables import utc_now

log = structlog.get_logger(__name__)

UNFIT_WAIT_SECONDS = 10.0
"""How long a job waits that came to a worker which cannot analyse anything: others may, and this one may be mended."""


def register(app: Celery, runtime: Runtime) -> None:
    """Give this application its three tasks; shared ones would act on this runtime in every other application too."""

    @app.task(name=ANALYZE, shared=False)  # type: ignore[untyped-decorator]
    def analyze(job_id: int) -> None:
        run_analysis(job_id, runtime)

    @app.task(name=DELIVER, shared=False)  # type: ignore[untyped-decorator]
    def deliver(delivery_id: int) -> None:
        run_delivery(delivery_id, runtime)

    @app.task(name=SWEEP, shared=False)  # type: ignore[untyped-decorator]
    def sweep_all() -> None:
        run_sweep(runtime)


def run_analysis(job_id: int, runtime: Runtime) -> None:
    """Do one job, if it is still to be had.

    1. Load the model, before the claim: a worker without one takes no job.
    2. Claim the job; somebody else's, or one that is done, ends here.
    3. Analyse under a heartbeat.
    4. Put into SQL what went wrong, if something did: the environment's fault gives the job back as it was, any other
       fault counts as an attempt.
    5. Say that deliveries are due; if the broker does not hear it, the sweep says it again.
    """
    with structlog.contextvars.bound_contextvars(job_id=job_id):
        try:
            found = _claim(job_id, runtime)
        except DatabaseError as error:
            log.warning("a job waits for the database", reason=str(error))
            return
        if found is not None:
            held, parts = found
            _announce(_guarded(held, parts, runtime), runtime)


def run_delivery(delivery_id: int, runtime: Runtime) -> None:
    """Advance one delivery, and what else is due at its destination."""
    try:
        delivery.deliver(delivery_id, runtime.deliverer())
    except DatabaseError as error:
        log.warning("a delivery waits for the database", reason=str(error))


def run_sweep(runtime: Runtime) -> None:
    """Do all that keeps work from being stuck."""
    try:
        parts = runtime.sweeper()
    except DatabaseError as error:
        log.warning("the sweep waits for the database", reason=str(error))
        return
    sweep(parts)


def worker_name() -> str:
    """Return what `jobs.claimed_by` says: the machine and the process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _claim(job_id: int, runtime: Runtime) -> tuple[Claim, Collaborators] | None:
    lease_seconds = runtime.settings.lease_seconds
    try:
        parts = runtime.pipeline()
    except EnvironmentUnfit as error:
        log.error("this worker cannot analyse", reason=str(error))  # noqa: TRY400 - the words say it all
        jobs.postpone(runtime.database, job_id, reason=str(error), now=utc_now(), wait_seconds=UNFIT_WAIT_SECONDS)
        return None
    held = jobs.claim(parts.database, job_id, worker=worker_name(), lease_seconds=lease_seconds, now=utc_now())
    if held is None:
        log.debug("nothing to claim")
        return None
    return held, parts


def _guarded(held: Claim, parts: Collaborators, runtime: Runtime) -> tuple[int, ...]:
    settings = runtime.settings
    heartbeat = Heartbeat(parts.database, held, lease_seconds=settings.lease_seconds, clock=utc_now)
    try:
        with heartbeat:
            return analyse_study(held, parts, heartbeat.check)
    except LeaseLost as error:
        log.warning("lease lost", reason=str(error))
    except (EnvironmentUnfit, ModelError, StoreError, DatabaseError) as error:
        log.warning("job put back", reason=str(error))
        _put_back(held, parts, str(error))
    except Exception as error:  # noqa: BLE001 - the process edge: one study must not end the worker
        log.error("attempt failed", error=type(error).__name__, where=_where(error))  # noqa: TRY400
        # The name alone: messages and traces of foreign errors may quote a header.
        _fail_attempt(held, parts, f"unexpected error ({type(error).__name__})", settings.maximum_attempts)
    return ()


def _put_back(held: Claim, parts: Collaborators, reason: str) -> None:
    try:
        jobs.put_back(parts.database, held, reason=reason, now=parts.clock(), wait_seconds=UNFIT_WAIT_SECONDS)
    except DatabaseError as error:
        _told_nobody(error)


def _fail_attempt(held: Claim, parts: Collaborators, reason: str, maximum_attempts: int) -> None:
    try:
        jobs.fail_attempt(parts.database, held, reason=reason, now=parts.clock(), maximum_attempts=maximum_attempts)
    except DatabaseError as error:
        _told_nobody(error)


def _told_nobody(error: DatabaseError) -> None:
    # The lease runs out, and the sweep finds the job.
    log.warning("the database could not be told", reason=str(error))


def _announce(deliveries: tuple[int, ...], runtime: Runtime) -> None:
    try:
        for delivery_id in deliveries:
            runtime.queue.send_delivery(delivery_id)
    except QueueUnavailable as error:
        log.info("the sweep will send the deliveries' messages", reason=str(error))


def _where(error: BaseException) -> str:
    """Return file and line of where an error was raised, which is all of a trace that cannot quote data."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
