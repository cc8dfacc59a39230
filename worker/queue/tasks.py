"""What a message starts. Each function here is a process edge: nothing escapes it, SQL says what happened."""

from __future__ import annotations

import structlog
from celery import Celery

from models.types import ModelError
from worker.db.tables import utc_now
from worker.delivery import delivery
from worker.errors import DatabaseError, EnvironmentUnfit
from worker.queue.attempt import UNFIT_WAIT_SECONDS, attempt, worker_name
from worker.queue.bootstrap import Runtime
from worker.queue.chunk import run_chunk
from worker.queue.sweep import sweep
from worker.reanalysis.reanalysis import step
from worker.study import jobs
from worker.study.jobs import Claim
from worker.study.pipeline import Collaborators
from worker.study.queues import ANALYZE, CHUNK, DELIVER, REANALYZE, SWEEP

log = structlog.get_logger(__name__)


def register(app: Celery, runtime: Runtime) -> None:
    """Give this application its tasks; shared ones would act on this runtime in every other application too."""

    @app.task(name=ANALYZE, shared=False)  # type: ignore[untyped-decorator]
    def analyze(job_id: int) -> None:
        run_analysis(job_id, runtime)

    @app.task(name=CHUNK, shared=False)  # type: ignore[untyped-decorator]
    def chunk() -> None:
        run_archive_chunk(runtime)

    @app.task(name=DELIVER, shared=False)  # type: ignore[untyped-decorator]
    def deliver(delivery_id: int) -> None:
        run_delivery(delivery_id, runtime)

    @app.task(name=SWEEP, shared=False)  # type: ignore[untyped-decorator]
    def sweep_all() -> None:
        run_sweep(runtime)

    @app.task(name=REANALYZE, shared=False)  # type: ignore[untyped-decorator]
    def reanalyze() -> None:
        run_reanalysis(runtime)


def run_analysis(job_id: int, runtime: Runtime) -> None:
    """Do one job, if it is still to be had.

    1. Load the model, before the claim: a worker without one takes no job.
    2. Claim the job; somebody else's, or one that is done, ends here.
    3. Attempt it (`worker.queue.attempt`).
    """
    with structlog.contextvars.bound_contextvars(job_id=job_id):
        try:
            found = _claim(job_id, runtime)
        except DatabaseError as error:
            log.warning("job_waits_for_database", reason=str(error))
            return
    if found is not None:
        attempt(*found, runtime)


def run_archive_chunk(runtime: Runtime) -> None:
    """Analyse a chunk of the archive jobs that wait."""
    try:
        run_chunk(runtime)
    except DatabaseError as error:
        log.warning("archive_jobs_wait_for_database", reason=str(error))


def run_delivery(delivery_id: int, runtime: Runtime) -> None:
    """Advance one delivery, and what else is due at its destination."""
    try:
        delivery.deliver(delivery_id, runtime.deliverer())
    except DatabaseError as error:
        log.warning("delivery_waits_for_database", reason=str(error))


def run_sweep(runtime: Runtime) -> None:
    """Do all that keeps work from being stuck."""
    try:
        parts = runtime.sweeper()
    except DatabaseError as error:
        log.warning("sweep_waits_for_database", reason=str(error))
        return
    sweep(parts)


def run_reanalysis(runtime: Runtime) -> None:
    """Do a step of re-analysis."""
    try:
        step(runtime.reanalyzer())
    except DatabaseError as error:
        log.warning("reanalysis_waits_for_database", reason=str(error))
    except ModelError as error:
        log.warning("reanalysis_waits_for_bundle", reason=str(error))


def _claim(job_id: int, runtime: Runtime) -> tuple[Claim, Collaborators] | None:
    lease_seconds = runtime.settings.lease_seconds
    try:
        parts = runtime.pipeline()
    except EnvironmentUnfit as error:
        log.error("worker_cannot_analyse", reason=str(error))  # noqa: TRY400 - the words say it all
        jobs.postpone(runtime.database, job_id, reason=str(error), now=utc_now(), wait_seconds=UNFIT_WAIT_SECONDS)
        return None
    held = jobs.claim(parts.database, job_id, worker=worker_name(), lease_seconds=lease_seconds, now=utc_now())
    if held is None:
        log.debug("nothing_to_claim")
        return None
    return held, parts
