"""Archive work in chunks: so many studies, for so long, several at once.

    study threads   claim a job, read, decode, ask the model, build the report, commit; then the next
    the task's own  answers them (`worker.shared_analyzer`): one study is decoded while the model looks at another

Every study stays what it is alone: its own claim, lease and transaction. One that fails, or whose lease is lost, does
not touch the others, and a worker that is killed leaves so many leases to run out.

Today's work comes first: a chunk ends soon, and until it does every thread asks SQL for live jobs before it claims an
archive one, and now and then between the images of a long study.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from worker import jobs
from worker.attempt import UNFIT_WAIT_SECONDS, attempt, worker_name
from worker.bootstrap import Runtime
from worker.chunk_rule import ChunkRule
from worker.errors import DatabaseError, EnvironmentUnfit
from worker.jobs import Claim
from worker.pipeline import Collaborators
from worker.queues import ARCHIVE, LIVE
from worker.shared_analyzer import SharedAnalyzer
from worker.tables import utc_now

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
"""How often a long study asks whether a live job waits."""
GIVE_WAY_SECONDS = 600.0
"""How long a long study gives way to live jobs, of the time that a task may take (`worker.app.TIME_LIMIT_SECONDS`)."""


def run_chunk(runtime: Runtime, elapsed: Callable[[], float] = time.monotonic) -> int:
    """Analyse a chunk of the archive jobs that wait; return how many jobs were claimed.

    1. Load the model, before the first claim; a worker without one puts off as many jobs and says why.
    2. Start the study threads.
    3. Answer them until all of them are done.
    """
    try:
        parts = runtime.pipeline()
        rule = runtime.chunk_rule(parts.analyzer)
    except EnvironmentUnfit as error:
        log.error("this worker cannot analyse", reason=str(error))  # noqa: TRY400 - the words say it all
        _put_off(runtime, str(error))
        return 0
    shared = SharedAnalyzer(parts.analyzer, rule.at_once)
    chunk = _Chunk(replace(parts, analyzer=shared), runtime, rule, elapsed)
    threads = [
        threading.Thread(target=chunk.work, args=(shared.leave,), name=f"study-{number}", daemon=True)
        for number in range(rule.at_once)
    ]
    for thread in threads:
        thread.start()
    shared.serve()
    for thread in threads:
        thread.join()
    return chunk.claimed


class _Chunk:
    """What the study threads share."""

    def __init__(self, parts: Collaborators, runtime: Runtime, rule: ChunkRule, elapsed: Callable[[], float]) -> None:
        self.claimed = 0
        self._parts = parts
        self._runtime = runtime
        self._rule = rule
        self._elapsed = elapsed
        self._started = self._looked = elapsed()
        self._lock = threading.Lock()

    def work(self, leave: Callable[[], None]) -> None:
        """Do one job after the other; a study thread's whole life."""
        try:
            while (held := self._next()) is not None:
                attempt(held, self._parts, self._runtime, self._give_way)
        except DatabaseError as error:
            log.warning("archive jobs wait for the database", reason=str(error))
        except Exception as error:  # noqa: BLE001 - a thread's edge: the others go on
            # The name alone: messages of foreign errors may quote a header.
            log.error("a study thread ended", error=type(error).__name__)  # noqa: TRY400
        finally:
            leave()

    def _next(self) -> Claim | None:
        with self._lock:
            if self.claimed >= self._rule.studies or self._elapsed() - self._started >= self._rule.seconds:
                return None
            # Claims of one process follow each other; so do the writers of an SQLite file.
            held = self._claim_live() or self._claim(ARCHIVE)
            self.claimed += held is not None
            return held

    def _give_way(self) -> None:
        """Do the live jobs that wait, between two images of a study."""
        try:
            while (held := self._overtaking()) is not None:
                attempt(held, self._parts, self._runtime)
        except DatabaseError as error:
            log.warning("live jobs wait for the database", reason=str(error))

    def _overtaking(self) -> Claim | None:
        with self._lock:
            now = self._elapsed()
            if now - self._looked < LOOK_SECONDS or now - self._started > GIVE_WAY_SECONDS:
                return None
            held = self._claim_live()
            if held is None:
                self._looked = now
            return held

    def _claim_live(self) -> Claim | None:
        # Asked as a reader first: most of the time there is none, and a claim would wait for its turn to write.
        if not jobs.due_jobs(self._parts.database, LIVE, now=utc_now(), limit=1):
            return None
        return self._claim(LIVE)

    def _claim(self, lane: str) -> Claim | None:
        return jobs.claim_next(
            self._parts.database,
            lane,
            worker=worker_name(),
            lease_seconds=self._runtime.settings.lease_seconds,
            now=utc_now(),
        )


def _put_off(runtime: Runtime, reason: str) -> None:
    limit = runtime.settings.archive_chunk
    for job_id in jobs.due_jobs(runtime.database, ARCHIVE, now=utc_now(), limit=limit):
        jobs.postpone(runtime.database, job_id, reason=reason, now=utc_now(), wait_seconds=UNFIT_WAIT_SECONDS)
